"""Prometheus metrics, read from plain integers at each scrape.

What peers owe and have sent is in a collector of its own, since not every reader may see it. Texts are
kept for a moment (`MetricsText`): their cost grows with the peers, and anyone may ask.
Nothing is incremented through a metrics library on the packet path. No label carries a value that
a peer chooses, beyond its configured id; reject codes are counted from a bounded set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from math import inf
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from connector.accounting.manager import AccountManager, State
from connector.peering.model import Peer, PeerRegistry
from connector.telemetry import bounds
from connector.telemetry.histogram import Histogram, Latency

REQUEST_BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
BATCH_BUCKETS_EVENTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def family_of(histogram: Histogram, name: str, text: str) -> HistogramMetricFamily:
    """In Prometheus' form: buckets are cumulative."""
    counts = accumulate(histogram.buckets)
    names = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return HistogramMetricFamily(
        name, text, buckets=list(zip(names, counts, strict=True)), sum_value=histogram.sum
    )


class LedgerRequests:
    """Duration and size of requests to the ledger."""

    def __init__(self) -> None:
        self.seconds = Histogram(REQUEST_BUCKETS_S)
        self.events = Histogram(BATCH_BUCKETS_EVENTS)

    def observe(self, seconds: float, events: int) -> None:
        """Count one request that was acknowledged."""
        self.seconds.observe(seconds)
        self.events.observe(events)


class NodeCollector(Collector):
    """All metrics of a node but balances and amounts."""

    def __init__(
        self,
        *,
        peers: PeerRegistry,
        accounts: AccountManager,
        latency: Latency,
        requests: LedgerRequests,
        in_flight: Callable[[], int],
        connected: Callable[[str], bool],
        counters: Callable[[], dict[str, int]],
        settlements: Mapping[tuple[str, str], int] | None = None,
        settlements_waiting: Callable[[str], int] = lambda _peer_id: 0,
        others: Callable[[], Iterable[Metric]] = tuple,
    ) -> None:
        """Three arguments need words.

        settlements: how many, by peer and result.
        settlements_waiting: for an operator.
        others: metrics of parts that this package does not know.
        """
        self._others = others
        self._settlements_waiting = settlements_waiting
        self._settlements = {} if settlements is None else settlements
        self._peers = peers
        self._accounts = accounts
        self._latency = latency
        self._requests = requests
        self._in_flight = in_flight
        self._connected = connected
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """The current values of all metrics."""
        yield from self._packets(list(self._peers))
        yield self._settled()
        yield self._settlements_to_decide()
        yield from self._ledger()
        for name, value in self._counters().items():
            yield _counter(name, "Counted by the node.", value)
        yield from self._others()

    def _packets(self, peers: Iterable[Peer]) -> Iterator[Metric]:
        packets = CounterMetricFamily(
            "ilp_packets",
            "Prepares by how they ended; `in` from the peer, `out` to it.",
            labels=("peer", "direction", "result", "code"),
        )
        up = GaugeMetricFamily(
            "ilp_peer_connected", "1 while a link to the peer is live.", labels=("peer",)
        )
        short = CounterMetricFamily(
            "ilp_next_hop_short", "Prepares to the peer that it refused with T04.", labels=("peer",)
        )
        metered = CounterMetricFamily(
            "ilp_throughput_refused",
            "Prepares refused by the limit of value per time, `in` from the peer, `out` to it.",
            labels=("peer", "direction"),
        )
        for peer in peers:
            name, counters = peer.peer_id, peer.counters
            packets.add_metric((name, "in", "fulfilled", ""), counters.fulfilled_in)
            for code, count in counters.rejected_in_by_code.items():
                packets.add_metric((name, "in", "rejected", code), count)
            packets.add_metric((name, "out", "fulfilled", ""), counters.fulfilled_out)
            packets.add_metric((name, "out", "rejected", ""), counters.rejected_out)
            up.add_metric((name,), int(self._connected(name)))
            short.add_metric((name,), counters.short_out)
            for direction, throughput in (("in", peer.throughput_in), ("out", peer.throughput_out)):
                if throughput.refused:
                    metered.add_metric((name, direction), throughput.refused)
        yield packets
        yield up
        yield short
        yield metered
        yield GaugeMetricFamily(
            "ilp_packets_in_flight", "Prepares without an answer.", value=self._in_flight()
        )
        yield family_of(
            self._latency, "ilp_packet_latency_seconds", "From taking a Prepare up to answering it."
        )

    def _settled(self) -> Metric:
        settlements = CounterMetricFamily(
            "settlements",
            "Settlements by how they ended; `failed`: attempts that are made again.",
            labels=("peer", "result"),
        )
        for labels, count in list(self._settlements.items()):
            settlements.add_metric(labels, count)
        return settlements

    def _settlements_to_decide(self) -> Metric:
        waiting = GaugeMetricFamily(
            "settlements_waiting",
            "Payments reported by the peer's engine that an operator has to accept or decline.",
            labels=("peer",),
        )
        for peer_id in self._accounts.peers:
            count = self._settlements_waiting(peer_id)
            if count:
                waiting.add_metric((peer_id,), count)
        return waiting

    def _ledger(self) -> Iterator[Metric]:
        counters = self._accounts.counters
        requests = self._requests
        yield family_of(
            requests.seconds, "ledger_request_seconds", "From a request to its acknowledgement."
        )
        yield family_of(requests.events, "ledger_batch_events", "Transfers in a request.")
        yield _counter("ledger_requests", "Requests acknowledged.", counters.requests)
        yield _counter("ledger_events", "Transfers in acknowledged requests.", counters.events)
        yield _counter("ledger_corrections", "Posts that came too late.", counters.corrections)
        yield _counter("ledger_released", "Fulfills let go before the post.", counters.released)
        yield _counter(
            "ledger_relayed",
            "Fulfills kept on disk, and relayed before the post.",
            counters.relayed,
        )
        yield GaugeMetricFamily(
            "ledger_queue_depth", "Packets that wait.", value=self._accounts.queue_depth()
        )
        yield GaugeMetricFamily(
            "ledger_spooled",
            "Transfers in the outbox, not acknowledged by the ledger.",
            value=self._accounts.spooled,
        )
        waits = GaugeMetricFamily(
            "ledger_commits_waited_for",
            "1 while the event loop waits for short commits to this file: its disk is quick.",
            labels=("file",),
        )
        for file, does_wait in self._accounts.waits_for_commits.items():
            waits.add_metric((file,), int(does_wait))
        yield waits
        yield GaugeMetricFamily(
            "ledger_available",
            "1 while the ledger takes packets itself.",
            value=int(self._accounts.state is State.AVAILABLE),
        )


class MoneyCollector(Collector):
    """Balances and amounts of peers."""

    def __init__(self, *, peers: PeerRegistry, accounts: AccountManager) -> None:
        self._peers = peers
        self._accounts = accounts

    def collect(self) -> Iterator[Metric]:
        """The current values."""
        amounts = CounterMetricFamily(
            "ilp_amount",
            "Value fulfilled, in the smallest unit of the asset.",
            labels=("peer", "direction", "asset"),
        )
        for peer in self._peers:
            asset, counters = str(peer.terms.asset), peer.counters
            amounts.add_metric((peer.peer_id, "in", asset), counters.amount_in)
            amounts.add_metric((peer.peer_id, "out", asset), counters.amount_out)
        yield amounts
        balances = GaugeMetricFamily(
            "ilp_account_balance",
            "net: positive, the peer owes us; available: what it may still send.",
            labels=("peer", "asset", "kind"),
        )
        for peer_id, books in self._accounts.peers.items():
            asset = str(books.terms.asset)
            for kind, value in (
                ("net", books.net_balance),
                ("debit", books.debit_balance),
                ("credit", books.credit_balance),
                ("pending_debit", books.peer.debits_pending),
                ("pending_credit", books.peer.credits_pending),
                ("available", books.available_credit),
            ):
                balances.add_metric((peer_id, asset, kind), value)
        yield balances


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


class MetricsText:
    """The text of a collector, rendered anew only when the last one is too old."""

    def __init__(self, collector: Collector, monotonic_s: Callable[[], float]) -> None:
        """`monotonic_s`: seconds since some point in the past; never goes back."""
        self._collector = collector
        self._monotonic_s = monotonic_s
        self._text = b""
        self._until_s = -inf

    def current(self) -> bytes:
        """The text, at most METRICS_TEXT_SECONDS_MAX old."""
        began_s = self._monotonic_s()
        if began_s >= self._until_s:
            self._text = render(self._collector)
            ended_s = self._monotonic_s()
            kept_s = max(
                bounds.METRICS_TEXT_SECONDS_MIN,
                bounds.METRICS_TEXT_RENDERINGS * (ended_s - began_s),
            )
            self._until_s = ended_s + min(kept_s, bounds.METRICS_TEXT_SECONDS_MAX)
        return self._text


def render(collector: Collector) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
