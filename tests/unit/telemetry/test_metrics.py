"""Metrics: Prometheus reads what was counted, and a peer cannot add labels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from connector.accounting.manager import AccountManager
from connector.ledger.embedded import MemoryLedger
from connector.ledger.model import IdGenerator
from connector.peering.model import Asset, Peer, PeerRegistry, PeerTerms
from connector.telemetry import bounds
from connector.telemetry.histogram import LATENCY_BUCKETS_S, Latency
from connector.telemetry.metrics import (
    LedgerRequests,
    MetricsText,
    MoneyCollector,
    NodeCollector,
    render,
)
from tests.support.accounts import MemoryOutbox
from tests.support.ledgers import ManualClock

USD = Asset("USD", 9)


class Metrics:
    """A collector over two peers, and what it says now."""

    def __init__(self, accounts: AccountManager, peers: list[Peer]) -> None:
        self.peers = {peer.peer_id: peer for peer in peers}
        self.latency = Latency()
        self.requests = LedgerRequests()
        self.live = {"alice"}
        self.in_flight = 0
        self.counters: dict[str, int] = {"btp_messages_ignored": 0}
        registry = PeerRegistry(peers)
        self._money = MoneyCollector(peers=registry, accounts=accounts)
        self._collector = NodeCollector(
            peers=registry,
            accounts=accounts,
            latency=self.latency,
            requests=self.requests,
            in_flight=lambda: self.in_flight,
            connected=lambda peer_id: peer_id in self.live,
            counters=lambda: self.counters,
        )

    def families(self, *, money: bool = True) -> dict[str, Metric]:
        text = render(self._collector).decode()
        if money:
            text += render(self._money).decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, sample: str, **labels: str) -> float:
        (found,) = [
            one.value
            for family in self.families().values()
            for one in family.samples
            if one.name == sample and one.labels == labels
        ]
        return found


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    clock = ManualClock()
    accounts = AccountManager(
        node_id="node",
        ledger=MemoryLedger(clock=clock),
        clock=clock,
        ids=IdGenerator(random_bits=lambda bits: bits),
        outbox=MemoryOutbox(),
    )
    peers = [
        Peer(PeerTerms(peer_id=name, asset=USD, credit_limit=1000)) for name in ("alice", "bob")
    ]
    await accounts.open((peer.terms for peer in peers), [USD])
    yield Metrics(accounts, peers)
    await accounts.close()


async def test_packets_are_counted_by_peer_direction_result_and_code(metrics: Metrics) -> None:
    counters = metrics.peers["alice"].counters
    counters.fulfilled_in, counters.fulfilled_out, counters.rejected_out = 3, 5, 2
    counters.rejected_in_by_code.update({"F02": 7, "T04": 1})

    def packets(**labels: str) -> float:
        return metrics.value("ilp_packets_total", peer="alice", **labels)

    assert packets(direction="in", result="fulfilled", code="") == 3
    assert packets(direction="out", result="fulfilled", code="") == 5
    assert packets(direction="out", result="rejected", code="") == 2
    assert packets(direction="in", result="rejected", code="F02") == 7
    assert packets(direction="in", result="rejected", code="T04") == 1


async def test_amounts_are_in_the_peers_asset(metrics: Metrics) -> None:
    counters = metrics.peers["bob"].counters
    counters.amount_in, counters.amount_out = 11, 13
    for direction, amount in (("in", 11), ("out", 13)):
        labels = {"peer": "bob", "direction": direction, "asset": "USD/9"}
        assert metrics.value("ilp_amount_total", **labels) == amount


async def test_what_anyone_may_read_has_neither_balances_nor_amounts(metrics: Metrics) -> None:
    everything, open_ones = metrics.families(), metrics.families(money=False)
    assert everything.keys() - open_ones.keys() == {"ilp_account_balance", "ilp_amount"}
    samples = [sample for family in open_ones.values() for sample in family.samples]
    assert not [sample for sample in samples if {"asset", "kind"} & sample.labels.keys()]


async def test_links_and_packets_in_flight_are_current_values(metrics: Metrics) -> None:
    metrics.in_flight = 4
    assert metrics.value("ilp_packets_in_flight") == 4
    assert metrics.value("ilp_peer_connected", peer="alice") == 1
    assert metrics.value("ilp_peer_connected", peer="bob") == 0
    metrics.live = {"bob"}
    assert metrics.value("ilp_peer_connected", peer="bob") == 1


async def test_balances_have_a_sample_per_kind(metrics: Metrics) -> None:
    kinds = {
        sample.labels["kind"]: sample.value
        for sample in metrics.families()["ilp_account_balance"].samples
        if sample.labels["peer"] == "alice"
    }
    assert kinds == {
        "net": 0, "debit": 0, "credit": 0, "pending_debit": 0, "pending_credit": 0,
        "available": 1000,
    }  # fmt: skip


async def test_ledger_metrics_are_exported(metrics: Metrics) -> None:
    assert metrics.value("ledger_available") == 1
    assert metrics.value("ledger_queue_depth") == 0
    assert metrics.value("ledger_requests_total") >= 0
    for name in ("ledger_events", "ledger_corrections", "ledger_released", "ledger_relayed"):
        assert metrics.families()[name].type == "counter"
    (file,) = metrics.families()["ledger_commits_waited_for"].samples
    assert (file.labels, file.value) == ({"file": "outbox"}, 0)


async def test_counters_of_the_node_are_passed_on(metrics: Metrics) -> None:
    metrics.counters["btp_messages_ignored"] = 9
    assert metrics.value("btp_messages_ignored_total") == 9


async def test_latency_buckets_add_up_to_the_count(metrics: Metrics) -> None:
    seconds = [0.0, LATENCY_BUCKETS_S[0], LATENCY_BUCKETS_S[0] * 1.01, 0.3, 1000.0]
    for one in seconds:
        metrics.latency.observe(one)
    samples = metrics.families()["ilp_packet_latency_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert buckets["0.0005"] == 2, "a bucket holds its upper bound"
    assert buckets["0.001"] == 3
    assert buckets["0.25"] == 3
    assert buckets["0.5"] == 4
    assert buckets["30.0"] == 4
    assert buckets["+Inf"] == 5
    assert metrics.value("ilp_packet_latency_seconds_count") == 5
    assert metrics.value("ilp_packet_latency_seconds_sum") == pytest.approx(sum(seconds))


async def test_no_label_is_chosen_by_a_peer(metrics: Metrics) -> None:
    """Label values are configured ids, fixed words, and codes, which the driver bounds."""
    for peer in metrics.peers.values():
        peer.counters.rejected_in_by_code["F02"] = 1
    labels: dict[str, set[Any]] = {}
    for family in metrics.families().values():
        for sample in family.samples:
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    assert set(labels) == {"peer", "direction", "result", "code", "asset", "kind", "le", "file"}
    assert labels["peer"] == {"alice", "bob"}
    assert labels["direction"] == {"in", "out"}
    assert labels["result"] == {"fulfilled", "rejected"}
    assert labels["code"] == {"", "F02"}
    assert labels["asset"] == {"USD/9"}


async def test_requests_to_the_ledger_by_duration_and_size(metrics: Metrics) -> None:
    metrics.requests.observe(0.0004, 64)
    metrics.requests.observe(3.0, 1)
    assert metrics.value("ledger_request_seconds_count") == 2
    assert metrics.value("ledger_request_seconds_sum") == pytest.approx(3.0004)
    assert metrics.value("ledger_request_seconds_bucket", le="0.0005") == 1
    assert metrics.value("ledger_request_seconds_bucket", le="2.5") == 1
    assert metrics.value("ledger_request_seconds_bucket", le="+Inf") == 2
    assert metrics.value("ledger_batch_events_bucket", le="1.0") == 1
    assert metrics.value("ledger_batch_events_bucket", le="32.0") == 1
    assert metrics.value("ledger_batch_events_bucket", le="64.0") == 2
    assert metrics.value("ledger_batch_events_sum") == 65


# --- kept texts


class Counted(Collector):
    """Says how often it was rendered, and takes its time."""

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        self.renderings = 0
        self._clock = clock
        self._seconds = seconds

    def collect(self) -> Iterator[Metric]:
        self.renderings += 1
        self._clock.advance(self._seconds)
        yield GaugeMetricFamily("renderings", "How many.", value=self.renderings)


@pytest.mark.parametrize(
    ("rendering_s", "kept_s"),
    [
        (0.0, 1.0), (0.01, 1.0), (0.05, 1.0), (0.1, 2.0), (0.25, 5.0), (0.5, 10.0), (3.0, 10.0),
    ],
)  # fmt: skip
def test_however_many_ask_a_text_is_rendered_once_a_period(
    rendering_s: float, kept_s: float
) -> None:
    clock = ManualClock()
    collector = Counted(clock, rendering_s)
    text = MetricsText(collector, clock.monotonic_s)
    for period in range(1, 4):
        for _ in range(100):
            assert f"renderings {period}.0" in text.current().decode()
        clock.advance(kept_s - 0.001)
        assert f"renderings {period}.0" in text.current().decode()
        clock.advance(0.002)
    assert collector.renderings == 3


def test_no_text_is_kept_longer_than_prometheus_usually_waits() -> None:
    assert bounds.METRICS_TEXT_SECONDS_MIN == 1.0
    assert bounds.METRICS_TEXT_SECONDS_MAX <= 10.0
