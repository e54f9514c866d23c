"""Prometheus metrics, read from plain integers when they are asked for.

Nothing is incremented through a metrics library on the packet path. No label carries a value that
a peer chooses, beyond its configured id; reject codes are counted from a bounded set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from connector.ledger.account_manager import AccountManager, State
from connector.peers import Peer, PeerRegistry

LATENCY_BUCKETS_S: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip


class Latency:
    """Time from taking a Prepare up to answering it, in fixed buckets."""

    __slots__ = ("buckets", "count", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.count = 0
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one answer."""
        self.buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self.count += 1
        self.sum_s += seconds


class NodeCollector(Collector):
    """Everything that one node can tell."""

    def __init__(
        self,
        *,
        peers: PeerRegistry,
        accounts: AccountManager,
        latency: Latency,
        in_flight: Callable[[], int],
        connected: Callable[[str], bool],
        counters: Callable[[], dict[str, int]],
    ) -> None:
        self._peers = peers
        self._accounts = accounts
        self._latency = latency
        self._in_flight = in_flight
        self._connected = connected
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        yield from self._packets(list(self._peers))
        yield from self._money()
        yield from self._ledger()
        for name, value in self._counters().items():
            yield _counter(name, "Counted by the node.", value)

    def _packets(self, peers: Iterable[Peer]) -> Iterator[Metric]:
        packets = CounterMetricFamily(
            "ilp_packets",
            "Prepares by how they ended; `in` from the peer, `out` to it.",
            labels=("peer", "direction", "result", "code"),
        )
        amounts = CounterMetricFamily(
            "ilp_amount",
            "Value fulfilled, in the smallest unit of the asset.",
            labels=("peer", "direction", "asset"),
        )
        up = GaugeMetricFamily(
            "ilp_peer_connected", "1 while a link to the peer is live.", labels=("peer",)
        )
        for peer in peers:
            name, counters = peer.peer_id, peer.counters
            packets.add_metric((name, "in", "fulfilled", ""), counters.fulfilled_in)
            for code, count in counters.rejected_in_by_code.items():
                packets.add_metric((name, "in", "rejected", code), count)
            packets.add_metric((name, "out", "fulfilled", ""), counters.fulfilled_out)
            packets.add_metric((name, "out", "rejected", ""), counters.rejected_out)
            asset = str(peer.terms.asset)
            amounts.add_metric((name, "in", asset), counters.amount_in)
            amounts.add_metric((name, "out", asset), counters.amount_out)
            up.add_metric((name,), int(self._connected(name)))
        yield packets
        yield amounts
        yield up
        yield GaugeMetricFamily(
            "ilp_packets_in_flight", "Prepares without an answer.", value=self._in_flight()
        )
        total = 0
        buckets: list[tuple[str, float]] = []
        bounds = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
        for bound, count in zip(bounds, self._latency.buckets, strict=True):
            total += count
            buckets.append((bound, total))
        yield HistogramMetricFamily(
            "ilp_packet_latency_seconds",
            "From taking a Prepare up to answering it.",
            buckets=buckets,
            sum_value=self._latency.sum_s,
        )

    def _money(self) -> Iterator[Metric]:
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

    def _ledger(self) -> Iterator[Metric]:
        counters = self._accounts.counters
        yield _counter("ledger_requests", "Requests acknowledged.", counters.requests)
        yield _counter("ledger_events", "Transfers in acknowledged requests.", counters.events)
        yield _counter("ledger_corrections", "Posts that came too late.", counters.corrections)
        yield _counter("ledger_released", "Fulfills let go before the post.", counters.released)
        yield GaugeMetricFamily(
            "ledger_queue_depth", "Packets that wait.", value=self._accounts.queue_depth()
        )
        yield GaugeMetricFamily(
            "ledger_available",
            "1 while new packets can be booked.",
            value=int(self._accounts.state is State.AVAILABLE),
        )


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def render(collector: NodeCollector) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
