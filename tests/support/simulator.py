"""A network of connectors without sockets: switch, driver and account manager of each node are the
real ones; time, wires and ledgers are the simulator's.

    async def scenario() -> None:
        async with Network() as network:
            a, b = await network.chain("a", "b")
            answer = await a.send("g.b.x", 100)

    simulate(scenario())

A node can be killed in the middle of anything and started again on the same ledger, also while that
is away, if it is of the kind that may be. A wire can be slow, cut and joined again; what is on its
way over a wire that is cut is lost. Messages of one wire stay in order. What the real links promise
to the driver, a wire promises too (`btp.links`): receipts for what was read, once a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any, Self

from connector.accounting.manager import AccountManager
from connector.ilp.packet import Answer, Fulfill, Prepare, Reject, decode
from connector.ledger.model import IdGenerator
from connector.peering.model import LOCAL, Asset, Peer, PeerRegistry, PeerTerms, Unanswered
from connector.peering.routing import Route, RouteSource, RoutingTable
from connector.switch.driver import Driver
from connector.switch.flight import Flight, Trace
from connector.switch.receiver import PING_CONDITION
from connector.switch.rules import Node
from connector.switch.switch import Deliver, Result, Switch
from connector.switch.terms import Rates
from tests.support.accounts import MemoryOutbox, ScriptedLedger, books_at_rest, neighbours_differ
from tests.support.clocks import SimulatedClock

USD = Asset("USD", 9)
TICK_SECONDS = 0.02
RESTING_TICK_SECONDS = 0.2
"""Where nothing is left but to expire, ticks would be all that happens."""
WINDOW_MS = 1000
HOLD_MS_MAX = 30_000
Handler = Callable[[Prepare], Fulfill | Reject | None]
"""Answers a packet for a node; None: never answers."""


class End:
    """One end of a wire that is joined: what a `Link` is in the daemon."""

    def __init__(self, wire: Wire, here: SimulatedNode, there: SimulatedNode) -> None:
        self.wire = wire
        self.here = here
        self.there = there
        self.other: End
        self.open = True
        self.requests: dict[int, Flight] = {}
        self._last_id = 0
        self._on_the_way: deque[Callable[[], None]] = deque()

    def request(self, flight: Flight, *, again: bool) -> None:
        """Send the Prepare of `flight`, perhaps not for the first time, and wait for its answer."""
        self._last_id += 1
        request_id = self._last_id
        self.requests[request_id] = flight
        octets = flight.octets
        packet_id = flight.packet_id if self.wire.resumable else 0
        source = self.there.peers[self.here.node_id]
        self.carry(
            lambda: self.there.driver.arrived(
                source, octets, packet_id, self.other, request_id, again and packet_id != 0
            )
        )

    def reply(self, request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        if not self.open:
            return False
        self.carry(lambda: self.other.answered(request_id, octets))
        return True

    def answered(self, request_id: int, octets: bytes) -> None:
        flight = self.requests.pop(request_id, None)
        if flight is not None:
            self.here.driver.answered(flight, octets)

    def ping(self) -> None:
        """Ask for a receipt of all that was sent so far."""
        read = self.here.driver.receipt
        self.carry(lambda: self.other.carry(lambda: read(self.there.node_id)))

    def carry(self, message: Callable[[], None]) -> None:
        """Let `message` arrive at the other end after all that was sent before."""
        self._on_the_way.append(message)
        asyncio.get_running_loop().call_later(self.wire.latency_s, self._arrive)

    def _arrive(self) -> None:
        message = self._on_the_way.popleft()
        if self.open:
            message()


class Wire:
    """The way between two nodes."""

    def __init__(self, left: SimulatedNode, right: SimulatedNode) -> None:
        self.nodes = (left, right)
        self.latency_s = 0.005
        self.resumable = True
        """Whether both sides know packet ids."""
        self.ends: dict[str, End] = {}
        """By the node that they are at; empty while the wire is cut."""

    def join(self) -> None:
        """Connect, if both nodes are there, and send again what has no answer."""
        if self.ends or not all(node.alive for node in self.nodes):
            return
        left, right = self.nodes
        there, back = End(self, left, right), End(self, right, left)
        there.other, back.other = back, there
        self.ends = {left.node_id: there, right.node_id: back}
        for end in (there, back):
            driver = end.here.driver
            driver.reconnected(end.there.node_id)
            for flight in driver.waiting_for(end.here.peers[end.there.node_id]):
                if self.resumable:
                    end.request(flight, again=True)
                else:
                    driver.answered(flight, Unanswered.LINK_LOST)

    def cut(self) -> None:
        """Lose everything that is on its way."""
        ends, self.ends = self.ends, {}
        for end in ends.values():
            end.open = False
            if not self.resumable:
                for flight in end.requests.values():
                    end.here.driver.answered(flight, Unanswered.LINK_LOST)


class _Outlet:
    """A node's ways to next hops: what `Links` is in the daemon."""

    def __init__(
        self, wires: Callable[[str], Wire], ends: Callable[[], list[End]], node_id: str
    ) -> None:
        self._wires = wires
        self._ends = ends
        self._node_id = node_id

    def send(self, flight: Flight) -> Unanswered | None:
        assert flight.next_hop is not None
        wire = self._wires(flight.next_hop.peer_id)
        end = wire.ends.get(self._node_id)
        if end is None:
            return None if flight.again else Unanswered.NOT_SENT
        if flight.again and not wire.resumable:
            return Unanswered.LINK_LOST
        end.request(flight, again=flight.again)
        return None

    def can_ask_again(self, next_hop: Peer) -> bool:
        wire = self._wires(next_hop.peer_id)
        return wire.resumable or self._node_id not in wire.ends

    def forget(self, flights: Collection[Flight]) -> None:
        for end in self._ends():
            for request_id in [one for one, sent in end.requests.items() if sent in flights]:
                del end.requests[request_id]


class _Waiter:
    """Waits for the answer to a packet of a node itself."""

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(self, _request_id: int, octets: bytes) -> bool:
        if self.future.done():
            return False
        self.future.set_result(octets)
        return True


class SimulatedNode:
    """A connector. Its ledger and outbox last; everything else begins anew with `start`."""

    accounts: AccountManager
    driver: Driver
    node: Node
    peers: PeerRegistry
    local: Peer

    def __init__(
        self,
        network: Network,
        node_id: str,
        terms: Iterable[PeerTerms],
        routes: Mapping[str, str],
        rates: Mapping[tuple[str, str], Fraction],
    ) -> None:
        self.network = network
        self.node_id = node_id
        self.terms = list(terms)
        self.routes = dict(routes)
        self.rates = dict(rates)
        self.ledger = ScriptedLedger(clock=network.clock)
        self.ledger.may_be_away = network.spool_transfers_max is not None
        self.outbox = MemoryOutbox()
        self.handler: Handler = lambda _prepare: None
        self.alerts: list[tuple[str, dict[str, object]]] = []
        self.results: list[Result] = []
        """How packets ended here, in order."""
        self.alive = False
        self._tasks: list[asyncio.Task[None]] = []
        self._waiters: set[asyncio.Future[bytes]] = set()

    # --- life

    async def start(self) -> None:
        """Begin with what ledger and outbox remember, and join all wires."""
        assert not self.alive
        network, clock = self.network, self.network.clock
        self.peers = PeerRegistry(Peer(one) for one in self.terms)
        self.local = Peer(PeerTerms(peer_id=LOCAL, asset=self.terms[0].asset))
        self.node = Node(f"g.{self.node_id}")
        self.accounts = AccountManager(
            node_id=self.node_id,
            ledger=self.ledger,
            clock=clock,
            ids=IdGenerator(random_bits=network.random.getrandbits),
            outbox=self.outbox,
            on_alert=lambda event, fields: self.alerts.append((event, fields)),
            spool_transfers_max=network.spool_transfers_max or 0,
        )
        routes = [Route(RouteSource.LOCAL, LOCAL, self.node.address)]
        routes += [Route(RouteSource.CONFIG, to, prefix) for prefix, to in self.routes.items()]
        self.driver = Driver(
            switch=Switch(
                node=self.node,
                peers=self.peers,
                routes=RoutingTable(routes),
                rates=Rates(self.rates),
                now_ms=clock.now_ms,
                window_ms=WINDOW_MS,
                hold_ms_max=HOLD_MS_MAX,
                delivers=lambda: True,
            ),
            accounts=self.accounts,
            outlet=_Outlet(
                lambda peer_id: network.wire(self.node_id, peer_id),
                lambda: network.ends_at(self.node_id),
                self.node_id,
            ),
            deliver=self._deliver,
            observer=self,
            now_ms=clock.now_ms,
            monotonic_s=clock.monotonic_s,
        )
        self.accounts.attach(self.driver.booked, lambda: None)
        await self.accounts.open(self.terms, [])
        self.alive = True
        run = network.group.create_task
        self._tasks = [
            run(self.accounts.run()),
            run(self.accounts.reconnect()),
            run(self._every(lambda: network.tick_s, self._tick)),
            run(self._every(lambda: network.tick_s, self._look_up)),
            run(self._every(lambda: 1.0, self.accounts.expire)),
            run(self._every(lambda: 1.0, self.accounts.maintain_outbox)),
            run(self._every(lambda: 1.0, self._ask_for_receipts)),
        ]
        for wire in network.wires_of(self.node_id):
            wire.join()

    def kill(self) -> None:
        """End as `kill -9` does: nothing is said, nothing is finished."""
        assert self.alive
        for wire in self.network.wires_of(self.node_id):
            wire.cut()
        self.alive = False
        self.ledger.is_open = False
        for task in self._tasks:
            task.cancel()
        for future in list(self._waiters):
            future.cancel()

    async def restart(self) -> None:
        """Kill it and start it again at once."""
        self.kill()
        await asyncio.sleep(0)  # until its tasks have ended
        await self.start()

    async def _every(
        self, seconds: Callable[[], float], work: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            await asyncio.sleep(seconds())
            await work()

    async def _look_up(self) -> None:
        self.driver.give_up_asking()
        asked = self.driver.to_look_up()
        if asked:
            self.driver.looked_up(await self.accounts.find_former(asked))

    async def _ask_for_receipts(self) -> None:
        for wire in self.network.wires_of(self.node_id):
            end = wire.ends.get(self.node_id)
            if end is not None and self.driver.wants_receipt(end.there.node_id):
                end.ping()

    async def _tick(self) -> None:
        self.driver.tick()
        self.accounts.tick()

    # --- packets of its own

    def begin(
        self,
        destination: str,
        amount: int,
        *,
        fulfillment: bytes | None = None,
        data: bytes = b"",
        expiry_s: float = 10.0,
    ) -> asyncio.Future[bytes]:
        """Send a Prepare; the answer comes with the future, which a kill cancels.

        Without `fulfillment` it is a ping.
        """
        condition = PING_CONDITION
        if fulfillment is not None:
            condition = hashlib.sha256(fulfillment).digest()
        prepare = Prepare(
            amount=amount,
            expires_at_ms=self.network.clock.now_ms() + round(expiry_s * 1000),
            condition=condition,
            destination=destination,
            data=data,
        )
        waiter = _Waiter()
        self._waiters.add(waiter.future)
        waiter.future.add_done_callback(self._waiters.discard)
        self.driver.originate(self.local, prepare, waiter)
        return waiter.future

    async def send(self, destination: str, amount: int, **options: Any) -> Answer:
        """Send a Prepare and wait for its answer."""
        answer = decode(await self.begin(destination, amount, **options))
        assert isinstance(answer, Fulfill | Reject)
        return answer

    def _deliver(self, flight: Flight, step: Deliver) -> None:
        said = self.handler(step.prepare)
        if said is not None:
            asyncio.get_running_loop().call_soon(self.driver.delivered, flight, said)

    def began(self, _flight: Flight) -> None:
        """See `Observer`."""

    def forwarded(self, _flight: Flight, _trace: Trace) -> None:
        """See `Observer`."""

    def unreadable(self, _source: Peer, _packet_id: int, _message: str) -> None:
        """See `Observer`."""

    def ended(self, _flight: Flight, result: Result) -> None:
        """See `Observer`."""
        self.results.append(result)

    # --- at rest

    async def faults(self) -> list[str]:
        """What is not as it must be when nothing is in flight."""
        faults = await books_at_rest(self.accounts)
        if self.driver.in_flight or any(peer.in_flight for peer in (*self.peers, self.local)):
            faults.append(f"{self.driver.in_flight} packets are said to be in flight")
        if self.outbox.transfers:
            faults.append(f"{self.outbox.transfers} transfers are left in the outbox")
        return [f"{self.node_id}: {fault}" for fault in faults]


class Network:
    """Nodes, the wires between them, and the one source of chance."""

    def __init__(self, seed: int = 0, *, spool_transfers_max: int | None = None) -> None:
        """`spool_transfers_max`: room for new packets while ledgers are away; None: they never are."""
        self.spool_transfers_max = spool_transfers_max
        self.clock = SimulatedClock()
        self.random = random.Random(seed)
        self.nodes: dict[str, SimulatedNode] = {}
        self.group = asyncio.TaskGroup()
        self.tick_s = TICK_SECONDS
        self._wires: dict[frozenset[str], Wire] = {}

    async def __aenter__(self) -> Self:
        await self.group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for node in self.nodes.values():
            if node.alive:
                node.kill()
        await self.group.__aexit__(*error)

    async def add(
        self,
        node_id: str,
        terms: Iterable[PeerTerms],
        *,
        routes: Mapping[str, str],
        rates: Mapping[tuple[str, str], Fraction] | None = None,
    ) -> SimulatedNode:
        """Start a node; it is joined to the peers that are there already."""
        node = SimulatedNode(self, node_id, terms, routes, rates or {})
        for peer in node.terms:
            if peer.peer_id in self.nodes:
                other = self.nodes[peer.peer_id]
                self._wires[frozenset((node_id, peer.peer_id))] = Wire(other, node)
        self.nodes[node_id] = node
        await node.start()
        return node

    async def chain(
        self,
        *node_ids: str,
        credit_limit: int = 1_000_000,
        fee_basis_points: int = 0,
        assets: Iterable[Asset] = (),
        rates: Mapping[tuple[str, str], Fraction] | None = None,
    ) -> list[SimulatedNode]:
        """Nodes in a row; `assets` are those of the wires, from the left."""
        on_wires = list(assets) or [USD] * (len(node_ids) - 1)
        for at, node_id in enumerate(node_ids):
            left, right = node_ids[:at], node_ids[at + 1 :]
            sides = [(left[-1], on_wires[at - 1])] if left else []
            sides += [(right[0], on_wires[at])] if right else []
            await self.add(
                node_id,
                [
                    PeerTerms(
                        peer_id=peer_id,
                        asset=asset,
                        credit_limit=credit_limit,
                        fee_basis_points=fee_basis_points,
                    )
                    for peer_id, asset in sides
                ],
                routes={f"g.{one}": left[-1] for one in left}
                | {f"g.{one}": right[0] for one in right},
                rates=rates,
            )
        return [self.nodes[node_id] for node_id in node_ids]

    def wire(self, a: str, b: str) -> Wire:
        """The wire between two nodes."""
        return self._wires[frozenset((a, b))]

    def wires_of(self, node_id: str) -> list[Wire]:
        """The wires that end at a node."""
        return [wire for pair, wire in self._wires.items() if node_id in pair]

    def ends_at(self, node_id: str) -> list[End]:
        """The ends at a node of those wires that are joined."""
        ends = (wire.ends.get(node_id) for wire in self.wires_of(node_id))
        return [end for end in ends if end is not None]

    async def faults(self) -> list[str]:
        """Every invariant of docs/accounting.md that is broken; to be asked at rest."""
        faults = [fault for node in self.nodes.values() for fault in await node.faults()]
        for a, b in map(sorted, self._wires):
            ours = self.nodes[a].accounts.peers[b]
            theirs = self.nodes[b].accounts.peers[a]
            faults += neighbours_differ(a, ours, b, theirs)
        return faults

    async def rest(self) -> None:
        """Wait until everything that can still happen has: holds of the longest kind expire."""
        self.tick_s = RESTING_TICK_SECONDS
        await asyncio.sleep(HOLD_MS_MAX / 1000 + 15)
        self.tick_s = TICK_SECONDS
