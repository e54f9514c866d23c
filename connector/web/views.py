"""The views of the read API: current values of the parts of a node.

Read only. `NodeView` (web/app.py) defines the views; field names are those of the read API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

from prometheus_client.core import Metric

from connector.accounting.manager import AccountManager, State
from connector.base.clock import Clock
from connector.base.room import DiskRoom, Level
from connector.btp.links import Links
from connector.peering.model import LOCAL, Peer, PeerRegistry
from connector.peering.remembered import KnownPeers
from connector.peering.routing import Route, RouteSource, RoutingTable
from connector.peering.throughput import Shares, Throughput
from connector.settings.model import Settings
from connector.switch.loops import Loops
from connector.switch.observer import PacketObserver
from connector.switch.rules import Node
from connector.switch.ways import Ways
from connector.telemetry.bus import EventBus
from connector.telemetry.events import NodeStatus, body, cut, iso
from connector.telemetry.metrics import LedgerRequests, MetricsText, MoneyCollector, NodeCollector
from connector.telemetry.reporter import balance_of
from connector.telemetry.store import EventStore
from connector.version import __version__
from connector.web.keys import former_until, keys_of, rotations_of
from connector.web.rates import RatesView
from connector.web.sinks import SinksView, sink_metrics

_SINK_SHOWN: Final = (
    "sink", "state", "fault", "lagEvents", "lagSeconds", "missed", "deadLetters",
)  # fmt: skip


class Ports(NamedTuple):
    """The ports of the node; 0: not yet open."""

    btp: int
    http: int


class NodeViews:
    """The `NodeView` of a running node."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        known: Callable[[], KnownPeers],
        clock: Clock,
        node: Node,
        room: DiskRoom,
        local: Peer,
        peers: PeerRegistry,
        routes: RoutingTable,
        accounts: AccountManager,
        links: Links,
        packets: PacketObserver,
        requests: LedgerRequests,
        bus: EventBus,
        store: EventStore,
        ports: Callable[[], Ports],
        settlement_state: Callable[[str], str],
        settlements: Mapping[tuple[str, str], int],
        settlements_waiting: Callable[[str], int],
        settlements_waiting_amount: Callable[[str], int],
        loops: Loops,
        ways: Ways,
        announced_to: Callable[[Route], list[str]],
        asset_fault: Callable[[], str],
        http_counters: Callable[[], Mapping[str, int]],
        pay_url: Callable[[], str] = str,
        in_flight_out: Callable[[], Mapping[str, int]] = dict,
        rates: RatesView,
        is_configured: Callable[[Route], bool],
        incoming_metrics: Callable[[], Iterator[Metric]],
        sinks: SinksView,
    ) -> None:
        """`is_configured`: whether a static route is of the settings; else an operator has added it."""
        self._is_configured = is_configured
        self._sinks = sinks
        self._settings = settings
        self._known = known
        self._node_id = settings().node_id
        self._clock = clock
        self._node = node
        self._room = room
        self._local = local
        self._peers = peers
        self._routes = routes
        self._accounts = accounts
        self._links = links
        self._packets = packets
        self._bus = bus
        self._store = store
        self._ports = ports
        self._settlement_state = settlement_state
        self._settlements_waiting = settlements_waiting
        self._settlements_waiting_amount = settlements_waiting_amount
        self._loops = loops
        self._announced_to = announced_to
        self._asset_fault = asset_fault
        self._pay_url = pay_url
        self._rates = rates
        self._in_flight_out = in_flight_out
        self._began_s = clock.monotonic_s()
        self._money = MetricsText(MoneyCollector(peers=peers, accounts=accounts), clock.monotonic_s)
        collector = NodeCollector(
            peers=peers,
            accounts=accounts,
            latency=packets.latency,
            requests=requests,
            in_flight=lambda: node.in_flight,
            connected=links.reaches,
            settlements=settlements,
            settlements_waiting=settlements_waiting,
            counters=lambda: {
                "btp_authentication_failures": links.auth_failures,
                "btp_messages_ignored": links.ignored,
                **http_counters(),
                "ilp_answers_late": sum(p.counters.answers_late for p in peers),
                "ilp_answers_malformed": sum(p.counters.answers_malformed for p in peers),
                "ilp_answers_undelivered": sum(p.counters.answers_undelivered for p in peers),
                "ilp_packets_looped": loops.packets,
                "ilp_packets_second_way": ways.tried,
                "ilp_packets_second_way_fulfilled": ways.fulfilled,
                "ilp_resent_refused": sum(p.counters.resent_refused for p in peers),
                "telemetry_dropped": bus.dropped + bus.frames_dropped_total() + store.dropped,
                "telemetry_packets_counted": packets.counted,
                "telemetry_viewers_dropped": bus.viewers_dropped,
            },
            others=lambda: chain(rates.metrics(), incoming_metrics(), sink_metrics(sinks)),
        )
        self._metrics = MetricsText(collector, clock.monotonic_s)

    def health(self) -> dict[str, Any]:
        """See `NodeView`."""
        is_ready, reason = self.ready()
        return {
            "status": "unhealthy" if not is_ready else "degraded" if reason else "healthy",
            "reason": reason,
            "nodeId": self._node_id,
            "peersConnected": self._links.reached,
            "peersTotal": len(self._peers),
            "accounting": {
                "state": self._accounts.state.value,
                "backend": self._accounts.ledger.backend,
                "spooled": self._accounts.spooled,
                "generation": self._accounts.generation or None,
            },
            "version": __version__,
            "uptimeSeconds": int(self._clock.monotonic_s() - self._began_s),
        }

    def ready(self) -> tuple[bool, str]:
        """See `NodeView`."""
        if self._accounts.is_superseded:
            return False, "superseded: another process of this node has taken over"
        if self._node.stopping:
            return False, "shutting down"
        if not self._ports().btp:
            return False, "starting"
        if self._links.standstill.is_held:
            return (
                False,
                "the process stood still: its ledger has to say whether it is still active",
            )
        if self._room.level is Level.FULL:
            return False, self._room.reason
        state = self._accounts.state
        if state is State.AVAILABLE:
            return True, self._room.reason or self._asset_fault()
        return state is State.SPOOLING, f"accounting {state.value}: {self._accounts.state_reason}"

    def metrics(self, *, money: bool) -> bytes:
        """See `NodeView`."""
        text = self._metrics.current()
        return text + self._money.current() if money else text

    def status(self) -> dict[str, Any]:
        """See `NodeView`."""
        peers = list(self._peers)
        ports = self._ports()
        return {
            **self.health(),
            "ilpAddress": self._node.address,
            "assetCode": self._settings().asset_code,
            "assetScale": self._settings().asset_scale,
            "btpServerPort": ports.btp,
            "httpPort": ports.http,
            "routes": len(self._routes),
            "packetsInFlight": self._node.in_flight,
            "packetsFulfilled": sum(p.counters.fulfilled_in for p in peers)
            + self._local.counters.fulfilled_in,
            "packetsRejected": sum(p.counters.rejected_in for p in peers)
            + self._local.counters.rejected_in,
            "packetsCounted": self._packets.counted,
            "eventsDropped": self._bus.dropped + self._store.dropped,
            "settlementsWaiting": sum(map(self._settlements_waiting, self._accounts.peers)),
            "routingLoops": [
                {
                    "peerId": loop.source_id,
                    "nextHop": loop.next_hop_id,
                    "prefix": loop.prefix,
                    "destination": loop.destination,
                    "packets": loop.packets,
                    "lastAt": iso(loop.seen_ms),
                }
                for loop in self._loops.current(self._clock.now_ms())
            ],
            "secretRotations": rotations_of(self._settings(), self._links, self._clock.now_ms()),
            "nextHopsShort": [
                {
                    "peerId": one.peer_id,
                    "triggeredBy": one.triggered_by,
                    "message": cut(one.message),
                    "packets": one.packets,
                    "lastAt": iso(one.seen_ms),
                }
                for one in self._packets.shortages.current(self._clock.now_ms())
            ],
            "rates": self._rates.summary(),
            "sinks": [{name: one[name] for name in _SINK_SHOWN} for one in self._sinks.view()],
            "eventStore": {"events": self._store.stored, "fault": self._store.fault},
        }

    def peers_view(self) -> list[dict[str, Any]]:
        """See `NodeView`."""
        items = []
        in_flight_out = self._in_flight_out()
        settings = {one.id: one for one in self._settings().peers}
        for peer in self._peers:
            one = settings.get(peer.peer_id)
            link = self._links.live.get(peer.peer_id)
            dialling = self._links.dialler.states.get(peer.peer_id)
            counters = peer.counters
            items.append(
                {
                    "peerId": peer.peer_id,
                    "relation": peer.terms.relation.value,
                    "assetCode": peer.terms.asset.code,
                    "assetScale": peer.terms.asset.scale,
                    "connected": self._links.reaches(peer.peer_id),
                    "draining": peer.draining and not peer.disabled,
                    "enabled": not peer.disabled,
                    "offlineExpected": one is not None and one.offline_expected,
                    "dials": one is not None and one.url is not None,
                    "direction": self._links.direction(peer.peer_id),
                    "resumable": self._links.is_resumable(peer.peer_id),
                    "latencyMs": round(link.latency_s * 1000, 3)
                    if link is not None and link.latency_s is not None
                    else None,
                    "connects": self._links.connects.get(peer.peer_id, 0),
                    "lastError": dialling.last_error if dialling is not None else "",
                    "inFlight": peer.in_flight,
                    "inFlightOut": in_flight_out.get(peer.peer_id, 0),
                    "packetsIn": counters.prepares_in,
                    "packetsOut": counters.prepares_out,
                    "fulfilledIn": counters.fulfilled_in,
                    "fulfilledOut": counters.fulfilled_out,
                    "rejectedIn": counters.rejected_in,
                    "rejectedOut": counters.rejected_out,
                    "resentIn": counters.resent_in,
                    "resentOut": counters.resent_out,
                    "resentRefused": counters.resent_refused,
                    "shortOut": counters.short_out,
                    "secretFormerUntil": None
                    if one is None
                    else former_until(one, self._clock.now_ms()),
                    "usesSecretFormer": self._links.uses_former(peer.peer_id),
                    "throughputInLeft": self._left(
                        peer.throughput_in, peer.terms.throughput_in, peer
                    ),
                    "throughputOutLeft": self._left(
                        peer.throughput_out, peer.terms.throughput_out, peer
                    ),
                }
            )
        return items

    def _left(self, throughput: Throughput | Shares, limit: int | None, peer: Peer) -> str | None:
        if limit is None:
            return None
        window_ms = peer.terms.throughput_window_ms
        return str(throughput.left(limit, window_ms, self._clock.now_ms()))

    def routes_view(self, cursor: str, count: int) -> tuple[list[dict[str, Any]], str | None]:
        """See `NodeView`."""
        items: list[dict[str, Any]] = []
        for route in self._routes.after(cursor):
            if len(items) == count:
                return items, str(items[-1]["prefix"])
            items.append(self._route_in_use(route))
        return items, None

    def _route_in_use(self, route: Route) -> dict[str, Any]:
        learned = route.learned
        age_ms = None if learned is None else self._clock.now_ms() - learned.learned_ms
        before = self._routes.goes_before(route)
        return {
            **self._route(route),
            "ageSeconds": None if age_ms is None else max(0, age_ms) // 1000,
            "announcedTo": self._announced_to(route),
            "goesBefore": None if before is None else f"{before.prefix}={before.next_hop}",
        }

    def accounts_view(self) -> list[dict[str, Any]]:
        """See `NodeView`."""
        return [
            {
                **body(balance_of(books, self._settlement_state(peer_id))),
                "granted": str(books.granted),
                "maxPayable": None
                if books.terms.max_payable is None
                else str(books.terms.max_payable),
                "settlementsWaiting": self._settlements_waiting(peer_id),
                "settlementsWaitingAmount": str(self._settlements_waiting_amount(peer_id)),
                "removed": books.removed,
            }
            for peer_id, books in self._accounts.peers.items()
            if not (books.removed and books.is_even)
        ]

    def wallets_view(self) -> list[dict[str, Any]]:
        """See `NodeView`."""
        url = self._pay_url()
        return [
            {
                "wallet": name,
                "assetCode": book.asset.code,
                "assetScale": book.asset.scale,
                "received": str(book.credits_posted),
                "sent": str(book.debits_posted),
                "balance": str(book.credits_posted - book.debits_posted),
                "pending": str(book.credits_pending),
                "payUrl": f"{url}/pay/{name}" if url else None,
            }
            for name, book in self._accounts.wallets.items()
        ]

    def snapshot(self) -> dict[str, Any]:
        """The state for the first message to a viewer of the live feed."""
        return {
            "status": self.status(),
            "peers": self.peers_view(),
            "accounts": self.accounts_view(),
        }

    def node_status(self) -> NodeStatus:
        """The current `NODE_STATUS`."""
        packets = self._packets
        p50_ms, p99_ms = packets.take_latencies_ms()
        return NodeStatus(
            ilp_address=self._node.address,
            version=__version__,
            uptime_seconds=int(self._clock.monotonic_s() - self._began_s),
            peers_connected=self._links.reached,
            peers_total=len(self._peers),
            routes=len(self._routes),
            accounting=self._accounts.state.value,
            accounting_reason=""
            if self._accounts.state is State.AVAILABLE
            else self._accounts.state_reason,
            accounting_spooled=self._accounts.spooled,
            packets_in_flight=self._node.in_flight,
            packets_received=packets.received,
            packets_fulfilled=packets.fulfilled,
            packets_rejected=packets.rejected,
            packets_counted=packets.counted,
            events_dropped=self._bus.dropped + self._store.dropped,
            latency_p50_ms=p50_ms,
            latency_p99_ms=p99_ms,
            rates=self._rates.state,
        )

    def _route(self, route: Route) -> dict[str, Any]:
        source = route.origin
        if route.source is RouteSource.CONFIG and not self._is_configured(route):
            source = "admin"
        return {
            "prefix": route.prefix,
            "nextHop": route.next_hop,
            "source": source,
            "path": [] if route.learned is None else list(route.learned.path),
            "learnedMs": None if route.learned is None else route.learned.learned_ms,
        }

    def explain_view(self, destination: str) -> dict[str, Any]:
        """See `NodeView`."""
        found = self._routes.explain(destination)
        return {
            "destination": destination,
            "chosen": None if found.chosen is None else self._route(found.chosen),
            "shorter": [self._route(route) for route in found.shorter],
            "beaten": [self._route(route) for route in found.beaten],
            "local": found.chosen is not None and found.chosen.next_hop == LOCAL,
        }

    def keys_view(self) -> dict[str, Any]:
        """See `NodeView`."""
        return keys_of(
            self._settings(),
            self._known(),
            self._links,
            node_id=self._node_id,
            address=self._node.address,
            now_ms=self._clock.now_ms(),
        )
