"""Requests between neighbours about addresses and routes, which are no packets: ILDCP and CCP.

They travel as Prepares for nothing over the links of peers. Those of this node wait for their answers like packets, but
are neither accounted, counted nor shown, and there is at most one of each kind for each peer. ILDCP of children is
answered by the switch.

Requests of peers about routes come by `switch.driver.Driver.attach_control`. One can take as long as a hundred
packets, and one read of a socket can hold many. So they are answered at once only while there is time for
them: the node rests from them for `CONTROL_REST_TIMES` as long as one took. Meanwhile they wait, a few of each peer, and peers
take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from connector.base import limits
from connector.base.clock import Clock
from connector.base.log import Log, Sampler
from connector.base.randomness import Randomness
from connector.btp.links import Links
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, decode, encode, reject
from connector.node import bounds
from connector.node.addressing import Addressing
from connector.node.apply import SettingsApplier
from connector.peering.model import LOCAL, Peer, PeerRegistry, PeerTerms
from connector.peering.routing import Route, RoutingTable
from connector.routing import bounds as routing_bounds
from connector.routing import codec
from connector.routing.router import Request, Router
from connector.settings.terms import routing_terms_of
from connector.switch.driver import Driver
from connector.switch.flight import ReplyTo
from connector.switch.rules import Node
from connector.telemetry.events import Event, RouteAdded, RouteRemoved


class ControlPlane:
    """See the module. One per node."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        randomness: Randomness,
        emit: Callable[[Event], None],
        local: Peer,
        node: Node,
        peers: PeerRegistry,
        links: Links,
        driver: Driver,
        applier: SettingsApplier,
        routes: RoutingTable,
    ) -> None:
        """Nothing is asked before `tick` is called."""
        settings = applier.settings
        self._clock = clock
        self._log = log
        self._emit = emit
        # Apart from packets of this node, which are counted.
        self._source = Peer(PeerTerms(peer_id=LOCAL, asset=local.terms.asset))
        self._node = node
        self._peers = peers
        self._links = links
        self._driver = driver
        self._applier = applier
        self._routes = routes
        self._told_before: set[str] = set()
        """Peers of which it was said that a route of theirs goes before one of the settings."""
        self._lines = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._events = float(bounds.ROUTE_EVENTS_BURST)
        self._events_at_s = 0.0
        self._pending: list[tuple[str, bool, bool]] = []
        """Peers that have come (True) or gone, and whether they are expected back."""
        self._asked: dict[str, deque[tuple[Peer, Prepare, ReplyTo, int]]] = {}
        """Requests of peers that wait, by peer id; the peer whose turn it is comes first."""
        self._asked_count = 0
        self._rests_until_s = 0.0
        self.router: Final = Router(
            routes,
            secret=settings.routing_key or randomness.octets(32),
            interval_ms=settings.route_broadcast_interval_ms,
            hold_down_ms=settings.route_hold_down_ms,
            random_octets=randomness.octets,
            changed=self._route_changed,
            refused=self._refused,
        )
        self.addressing: Final = Addressing(
            clock=clock,
            log=log,
            random=randomness.random,
            node=node,
            peers=peers,
            links=links,
            applier=applier,
            ask=self._ask,
            renamed=self._set_address,
        )
        self.use_settings()
        self._set_address(node.address)
        driver.attach_control(self.answer)
        applier.on_change = self.use_settings

    def use_settings(self) -> None:
        """Take the terms of routing from the settings in effect; peers that are being removed have none."""
        now_ms = self._steady_ms()
        peers = [one for one in self._applier.settings.peers if not self._peers[one.id].draining]
        known = self.router.neighbours.keys()
        new = [peer.id for peer in peers if peer.id not in known and self._links.reaches(peer.id)]
        self.router.set_neighbours(map(routing_terms_of, peers), now_ms)
        for peer_id in new:
            self.router.connected(peer_id, now_ms)  # it is not removed after all

    def _set_address(self, own_address: str) -> None:
        self.router.set_address(own_address, self._steady_ms())

    def _steady_ms(self) -> int:
        """The time of routes: if the wall clock jumps, none lives longer, and none goes early."""
        return int(self._clock.monotonic_s() * 1000)

    # --- links

    def connected(self, peer_id: str) -> None:
        """A peer has logged in. What follows is done with the next tick: the log-in is being handled."""
        self._pending.append((peer_id, True, False))

    def disconnected(self, peer_id: str, *, comes_back: bool) -> None:
        """The last link of a peer is closed; `comes_back`: its process is being replaced."""
        self._pending.append((peer_id, False, comes_back))

    # --- requests of peers

    def answer(self, source: Peer, prepare: Prepare, reply_to: ReplyTo, request_id: int) -> None:
        """Answer a request about routes, or keep it until there is time for it."""
        if not self._asked and self._clock.monotonic_s() >= self._rests_until_s:
            self._answer(source, prepare, reply_to, request_id)
            return
        queue = self._asked.get(source.peer_id, deque())
        if (
            len(queue) >= bounds.CONTROL_WAITING_PER_PEER_MAX
            or self._asked_count >= bounds.CONTROL_WAITING_MAX
        ):
            refusal = self.router.refuse(source.peer_id, prepare, self._steady_ms())
            reply_to.reply(request_id, encode(refusal))
            return
        queue.append((source, prepare, reply_to, request_id))
        self._asked[source.peer_id] = queue
        self._asked_count += 1

    def _answer(self, source: Peer, prepare: Prepare, reply_to: ReplyTo, request_id: int) -> None:
        answer: Fulfill | Reject
        began_s = self._clock.monotonic_s()
        if self._node.stopping:
            answer = reject(Code.T03_CONNECTOR_BUSY, self._node.address, "shutting down")
        else:
            answer = self.router.request(
                source.peer_id, prepare, self._steady_ms(), self._clock.now_ms()
            )
        reply_to.reply(request_id, encode(answer))
        now_s = self._clock.monotonic_s()
        self._rests_until_s = now_s + bounds.CONTROL_REST_TIMES * (now_s - began_s)

    def _answer_waiting(self) -> None:
        """Answer what waits, as far as there is time."""
        while self._asked and self._clock.monotonic_s() >= self._rests_until_s:
            peer_id, queue = next(iter(self._asked.items()))
            del self._asked[peer_id]
            one = queue.popleft()
            self._asked_count -= 1
            if queue:
                self._asked[peer_id] = queue  # after the others
            self._answer(*one)
        assert self._asked_count >= len(self._asked), (self._asked_count, len(self._asked))

    # --- requests to peers

    async def tick(self) -> None:
        """Send what is due; called a few times a second."""
        if self._links.standstill.is_held:
            return
        now_ms = self._steady_ms()
        pending, self._pending = self._pending, []
        for peer_id, has_come, comes_back in pending:
            if has_come:
                self.addressing.connected(peer_id)
                self.router.connected(peer_id, now_ms)
            else:
                self.router.disconnected(peer_id, now_ms, comes_back=comes_back)
        waited = self._asked_count
        self._answer_waiting()
        await self.addressing.tick()
        requests = self.router.tick(now_ms) if not self._node.stopping else []
        for request in requests:
            self._send(request)
        if requests or waited:
            self._links.flush()

    def _send(self, request: Request) -> None:
        now_ms = self._clock.now_ms()

        def answered(answer: Fulfill | Reject) -> None:
            self.router.answered(request, answer, self._steady_ms())

        peer = self._peers.get(request.peer_id)
        if peer is None or peer.draining or not self._links.reaches(request.peer_id):
            answered(reject(Code.T01_PEER_UNREACHABLE, self._node.address, "not connected"))
            return
        prepare = codec.request(
            request.destination, request.data, now_ms + routing_bounds.REQUEST_EXPIRY_MS
        )
        self._ask(peer, prepare, now_ms + routing_bounds.ANSWER_MS_MAX, answered)

    def _ask(
        self,
        peer: Peer,
        prepare: Prepare,
        until_ms: int,
        answered: Callable[[Fulfill | Reject], None],
    ) -> None:
        self._driver.ask_quietly(self._source, peer, prepare, _Answered(answered), until_ms)
        self._links.flush()

    # --- what is told of routes

    def _route_changed(self, route: Route, is_new: bool) -> None:
        if is_new and route.next_hop not in self._told_before:
            self._tell_before(route)
        if not self._may_tell():
            return
        kind = RouteAdded if is_new else RouteRemoved
        self._emit(kind(prefix=route.prefix, next_hop=route.next_hop, source=route.origin))

    def _tell_before(self, route: Route) -> None:
        """Say once for each peer that what it announces takes packets of a route of the settings."""
        before = self._routes.goes_before(route)
        if before is not None:
            self._told_before.add(route.next_hop)
            self._log.warning(
                "learned_route_goes_before",
                peer_id=route.next_hop,
                prefix=route.prefix[: bounds.ROUTE_SHOWN_CHARACTERS_MAX],
                route=f"{before.prefix}={before.next_hop}",
                detail="a longer prefix goes first: RECEIVE_PREFIXES of the peer bounds what it may announce",
            )

    def _may_tell(self) -> bool:
        """Whether there is an event for one more route: more would displace all other events."""
        now_s = self._clock.monotonic_s()
        gained = (now_s - self._events_at_s) * bounds.ROUTE_EVENTS_PER_SECOND
        self._events = min(float(bounds.ROUTE_EVENTS_BURST), self._events + gained)
        self._events_at_s = now_s
        if self._events < 1:
            return False
        self._events -= 1
        return True

    def _refused(self, peer_id: str, why: str) -> None:
        suppressed = self._lines.allow(self._clock.monotonic_s())
        if suppressed is not None:
            self._log.info("routes_refused", peer_id=peer_id, reason=why, suppressed=suppressed)


class _Answered:
    """Takes the answer to a request; a `ReplyTo`."""

    def __init__(self, answered: Callable[[Fulfill | Reject], None]) -> None:
        self._answered = answered

    def reply(self, _request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        answer = decode(octets)
        assert isinstance(answer, Fulfill | Reject), answer
        self._answered(answer)
        return True
