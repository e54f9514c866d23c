"""Takes and makes the requests of CCP, for all neighbours: routes learned, chosen and told. Pure.

    connected, disconnected, request, answered   what has happened
    tick                                         what to send now
    RoutingTable                                 the routes in use; only this module puts learned ones into it

Until the node has an address, nothing is asked or told. Requests of a neighbour cost it octets of a budget:
what it sends faster than that is refused with T05, and asked for again later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Final

from connector.base.errors import DecodeError
from connector.ilp.ildcp import PEER_CONDITION, PEER_FULFILLMENT
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, reject
from connector.peering.routing import Learned, Route, RoutingTable
from connector.routing import bounds, codec
from connector.routing.codec import Announcement, Mode
from connector.routing.journal import Journal
from connector.routing.link_state import LinkState
from connector.routing.model import NeighbourTerms, announcement, may_take, may_tell
from connector.routing.receiver import Receiver, Room
from connector.routing.sender import Sender

_NEVER_MS: Final = 1 << 62
_due_ms: Final = itemgetter(0)
_ACKNOWLEDGED: Final = Fulfill(fulfillment=PEER_FULFILLMENT)


@dataclass(slots=True, frozen=True, kw_only=True)
class Request:
    """What is to be sent to a neighbour."""

    peer_id: str
    destination: str
    data: bytes
    number: int
    """Of an update; zero: route control."""


class Neighbour:
    """A peer, as far as routes are concerned."""

    def __init__(
        self, terms: NeighbourTerms, room: Room, new_table_id: Callable[[], bytes]
    ) -> None:
        self.terms = terms
        self.receiver: Final = Receiver(room)
        self.sender: Final = Sender(new_table_id)
        self.connected = False
        self.link: Final = LinkState()
        self.refused: Final[dict[str, int]] = {}
        """What was not taken of it, by reason."""
        self._octets = float(bounds.PEER_BYTES_BURST)
        self._octets_at_ms = 0

    def may_work(self, octets: int, now_ms: int) -> bool:
        """Whether a request of this size is handled now."""
        gained = max(0, now_ms - self._octets_at_ms) * bounds.PEER_BYTES_PER_SECOND / 1000
        self._octets = min(float(bounds.PEER_BYTES_BURST), self._octets + gained)
        self._octets_at_ms = now_ms
        cost = max(octets, bounds.REQUEST_BYTES_MIN)
        if cost > self._octets:
            return False
        self._octets -= cost
        return True


class Router:
    """See the module. Times are milliseconds, by the clock that is handed in."""

    def __init__(
        self,
        table: RoutingTable,
        *,
        secret: bytes,
        interval_ms: int,
        hold_down_ms: int,
        random_octets: Callable[[int], bytes],
        changed: Callable[[Route, bool], None] = lambda _route, _is_new: None,
        refused: Callable[[str, str], None] = lambda _peer_id, _why: None,
    ) -> None:
        """No neighbours and no address yet.

        Args:
            table: the routes in use.
            secret: makes the auth of routes that begin here.
            interval_ms: how often neighbours are told at least.
            hold_down_ms: how long routes are kept without an update.
            random_octets: for table ids.
            changed: called with a route that was learned, or goes.
            refused: called with a peer and why something of it was not taken, the first time.
        """
        self.address = ""
        self.neighbours: Final[dict[str, Neighbour]] = {}
        self.changes = 0
        """How often learned routes have come or gone; whoever keeps them looks at it."""
        self.journal: Final = Journal(table)
        self.room: Final = Room()
        self._table = table
        self._secret = secret
        self._interval_ms = interval_ms
        self._hold_down_ms = hold_down_ms
        self._new_table_id = partial(random_octets, codec.TABLE_ID_BYTES)
        self._changed = changed
        self._refused = refused
        self._customers: frozenset[str] = frozenset()
        self._wake_ms = 0
        """Nothing is to be done before, unless routes change."""
        self._look_ms = 0

    # --- who there is

    def set_address(self, own_address: str, now_ms: int) -> None:
        """The node's address; with another one, all that was learned and told is void."""
        if own_address == self.address:
            return
        self.address = own_address
        for one in self.neighbours.values():
            self._begin_anew(one, now_ms)

    def set_neighbours(self, all_terms: Iterable[NeighbourTerms], now_ms: int) -> None:
        """The terms with all peers; those of others are forgotten."""
        wanted = {terms.peer_id: terms for terms in all_terms}
        for peer_id in self.neighbours.keys() - wanted.keys():
            former = self.neighbours.pop(peer_id)
            self._table.rank_last(peer_id, False, former.receiver.routes)
            self._remove_all(former.receiver.forget())
        customers = frozenset(one.peer_id for one in wanted.values() if one.is_customer)
        for peer_id, terms in wanted.items():
            one = self.neighbours.get(peer_id)
            if one is None:
                self.neighbours[peer_id] = Neighbour(terms, self.room, self._new_table_id)
            elif one.terms != terms:
                one.terms = terms
                self._begin_anew(one, now_ms)
            elif customers != self._customers:
                one.sender.renew(self.journal)
        self._customers = customers
        self._wake_ms = 0

    def _begin_anew(self, one: Neighbour, now_ms: int) -> None:
        self._remove_all(one.receiver.forget())
        one.sender.renew(self.journal)
        if one.connected and self.address:
            one.receiver.ask(now_ms)
        self._wake_ms = 0

    def connected(self, peer_id: str, now_ms: int) -> None:
        """A neighbour has a link."""
        one = self.neighbours.get(peer_id)
        if one is not None:
            one.connected = True
            one.link.connected(now_ms)
            one.receiver.ask(now_ms)
            self._wake_ms = 0

    def disconnected(self, peer_id: str, now_ms: int, *, comes_back: bool) -> None:
        """It has none any more; `comes_back`: its process is being replaced, and packets wait for it."""
        one = self.neighbours.get(peer_id)
        if one is not None:
            one.connected = False
            one.link.lost(now_ms, comes_back=comes_back)
            one.receiver.away(now_ms)
            self._wake_ms = 0

    # --- requests of neighbours

    def request(
        self, peer_id: str, prepare: Prepare, now_ms: int, wall_ms: int | None = None
    ) -> Fulfill | Reject:
        """Answer a Prepare to `peer.route.control` or `peer.route.update`.

        `wall_ms`: by the clock of expiries, in milliseconds since the epoch; None: `now_ms` is of that clock, too.
        """
        one = self.neighbours.get(peer_id)
        if wall_ms is None:
            wall_ms = now_ms
        if prepare.expires_at_ms <= wall_ms:
            return self._reject(Code.R00_TRANSFER_TIMED_OUT, "packet expired")
        if prepare.amount or prepare.condition != PEER_CONDITION:
            return self._reject(
                Code.F01_INVALID_PACKET, "not a peer protocol's amount or condition"
            )
        if prepare.destination not in (codec.CONTROL, codec.UPDATE):
            return self._reject(Code.F01_INVALID_PACKET, "unknown peer protocol")
        is_control = prepare.destination == codec.CONTROL
        if one is None or not (one.terms.sends if is_control else one.terms.receives):
            return self._reject(Code.F00_BAD_REQUEST, "no routes are exchanged with this peer")
        if not self.address and not is_control:
            return self._reject(Code.T03_CONNECTOR_BUSY, "no address yet")
        self._wake_ms = 0
        if not one.may_work(len(prepare.data), now_ms):
            return self.refuse(peer_id, prepare, now_ms)
        try:
            if is_control:
                control = codec.decode_control(prepare.data)
                one.sender.control(control, self.journal, now_ms)
            else:
                self._update(one, codec.decode_update(prepare.data), now_ms, wall_ms)
        except DecodeError as error:
            self._refuse(one, "unreadable")
            return self._reject(Code.F01_INVALID_PACKET, f"unreadable: {error.field}")
        return _ACKNOWLEDGED

    def refuse(self, peer_id: str, prepare: Prepare, now_ms: int) -> Reject:
        """Answer a request that there is no time for; what an update would have said is asked for later."""
        one = self.neighbours.get(peer_id)
        if one is not None:
            self._refuse(one, "too much")
            is_update = prepare.destination == codec.UPDATE
            if is_update and one.terms.receives and not one.receiver.asking:
                one.receiver.ask(now_ms + bounds.CONTROL_RETRY_MS_MIN)
                self._wake_ms = 0
        return self._reject(Code.T05_RATE_LIMITED, "too many route requests")

    def _update(self, one: Neighbour, update: codec.RouteUpdate, now_ms: int, wall_ms: int) -> None:
        source, peer_id = one.terms.source, one.terms.peer_id

        def make(prefix: str, learned: Learned) -> Route:
            return Route(source, peer_id, prefix, learned)

        def take(route: Announcement) -> str:
            return may_take(one.terms, self.address, route) or (
                "" if has_room else "too many routes"
            )

        # Together with those of the settings.
        has_room = self._table.has_room(len(update.new))
        changes = one.receiver.update(
            update,
            take=take,
            make=make,
            hold_down_ms_max=self._hold_down_ms,
            now_ms=now_ms,
            wall_ms=wall_ms,
        )
        self._remove_all(changes.dropped, now_ms)
        self._add_all(changes.put)
        for why, count in changes.refused.items():
            self._refuse(one, why, count)

    def restore(
        self, peer_id: str, routes: Iterable[Announcement], now_ms: int, wall_ms: int
    ) -> None:
        """What a neighbour had announced to an earlier process, which it can not have withdrawn from this one yet.

        They are last resorts: until it is connected and has told its table, or for the hold-down time.
        """
        one = self.neighbours.get(peer_id)
        if one is None or not one.terms.receives or not self.address:
            return
        source = one.terms.source
        changes = one.receiver.restore(
            routes,
            take=lambda route: may_take(one.terms, self.address, route),
            make=lambda prefix, learned: Route(source, peer_id, prefix, learned),
            hold_ms=self._hold_down_ms,
            now_ms=now_ms,
            wall_ms=wall_ms,
        )
        one.link.lost(now_ms, comes_back=False)
        self._add_all(changes.put)
        self._wake_ms = 0

    def _add_all(self, routes: dict[str, Route]) -> None:
        self.changes += bool(routes)
        for route in routes.values():
            self._table.add(route)
            self._changed(route, True)

    def _remove_all(self, routes: list[Route], now_ms: int | None = None) -> None:
        """`now_ms`: others may have another way, which is told soon. None: an operator has changed the terms."""
        self.changes += bool(routes)
        for route in routes:
            self._table.remove(route)
            self._changed(route, False)
            if now_ms is not None and self._table.best(route.prefix) is None:
                self._table.missed.add(route.prefix, route.next_hop, now_ms + bounds.MISSED_MS)

    def _rank(self, now_ms: int) -> int:
        """Rank routes by the state of the link to their next hop, and forget missed ones; gives when next."""
        wake_ms = self._table.missed.forget(now_ms) or _NEVER_MS
        for peer_id, one in self.neighbours.items():
            if one.link.tick(now_ms):
                self._table.rank_last(peer_id, one.link.ranks_last, one.receiver.routes)
            wake_ms = min(wake_ms, one.link.changes_ms)
        return wake_ms

    def _refuse(self, one: Neighbour, why: str, count: int = 1) -> None:
        if why not in one.refused:
            self._refused(one.terms.peer_id, why)
        one.refused[why] = one.refused.get(why, 0) + count

    def _reject(self, code: Code, message: str) -> Reject:
        return reject(code, self.address, message)

    # --- requests to neighbours

    def tick(self, now_ms: int) -> list[Request]:
        """What has to be sent now. Cheap where nothing is to be done."""
        if now_ms < self._wake_ms and not (self.journal.has_work and now_ms >= self._look_ms):
            return []
        wake_ms = self._rank(now_ms)
        self._look(now_ms)
        requests: list[Request] = []
        due: list[tuple[int, Neighbour]] = []
        known_to_all = self.journal.epoch
        for one in self.neighbours.values():
            receiver, sender = one.receiver, one.sender
            if receiver.is_silent(now_ms):
                self._remove_all(receiver.forget(), now_ms)
                self._refuse(one, "silent")
                if one.connected:
                    receiver.ask(now_ms)
            if receiver.expires_ms is not None:
                wake_ms = min(wake_ms, receiver.expires_ms)
            if not one.connected or not self.address:
                continue
            if one.terms.receives and not receiver.asking and receiver.ask_at_ms is not None:
                if receiver.ask_at_ms <= now_ms:
                    requests.append(self._control(one))
                else:
                    wake_ms = min(wake_ms, receiver.ask_at_ms)
            if not one.terms.sends:
                continue
            due_ms = sender.due_ms(self.journal, self._interval_ms)
            if due_ms <= now_ms:
                due.append((due_ms, one))
            else:
                wake_ms = min(wake_ms, due_ms)
            if sender.mode is Mode.SYNC:
                known_to_all = min(known_to_all, sender.epoch)
        if len(due) > bounds.UPDATES_PER_TICK_MAX:
            due.sort(key=_due_ms)
            wake_ms = now_ms
        for _, one in due[: bounds.UPDATES_PER_TICK_MAX]:
            requests.append(self._next_update(one, now_ms))
        self.journal.forget_withdrawn(known_to_all)
        self._wake_ms = wake_ms
        return requests

    def _look(self, now_ms: int) -> None:
        """Enter what has changed into the journal; rarely, if that is much work each time."""
        if now_ms < self._look_ms or not self.journal.has_work:
            return
        examined = self.journal.look()
        self._look_ms = now_ms + examined // bounds.ROUTES_EXAMINED_PER_MS
        if self.journal.epoch > bounds.EPOCH_MAX - bounds.EPOCHS_LEFT_MIN:
            self.journal.begin_anew()
            for one in self.neighbours.values():
                one.sender.renew(self.journal)

    def _control(self, one: Neighbour) -> Request:
        data = codec.encode_control(one.receiver.control())
        one.receiver.asked()
        return Request(peer_id=one.terms.peer_id, destination=codec.CONTROL, data=data, number=0)

    def _next_update(self, one: Neighbour, now_ms: int) -> Request:
        update, number = one.sender.update(
            self.journal,
            lambda prefix: self.told(one.terms, prefix),
            own_address=self.address,
            hold_down_ms=self._hold_down_ms,
            now_ms=now_ms,
        )
        data = codec.encode_update(update)
        return Request(
            peer_id=one.terms.peer_id, destination=codec.UPDATE, data=data, number=number
        )

    def told(self, terms: NeighbourTerms, prefix: str) -> Announcement | None:
        """What a neighbour is told of a prefix; None: nothing."""
        route = self._told_route(terms, prefix)
        if route is None:
            return None
        last = self.journal.is_last_resort(prefix)
        return announcement(route, self.address, self._secret, is_last_resort=last)

    def announced_to(self, route: Route) -> list[str]:
        """Ids of the neighbours that have taken our announcement of a route, of the first ANNOUNCED_TO_SHOWN_MAX."""
        best = self.journal.best(route.prefix)
        if best is None or best != route or not self.address:
            return []
        epoch = self.journal.epoch_of(route.prefix)
        return [
            one.terms.peer_id
            for one in islice(self.neighbours.values(), bounds.ANNOUNCED_TO_SHOWN_MAX)
            if one.connected
            and one.sender.mode is Mode.SYNC
            and one.sender.epoch >= epoch
            and self._told_route(one.terms, route.prefix) is not None
        ]

    def _told_route(self, terms: NeighbourTerms, prefix: str) -> Route | None:
        """The route of a prefix that a neighbour is told of.

        None where a shorter prefix that it is told leads to the same next hop (requirement 83).
        """
        route = self.journal.best(prefix)
        if route is None or not may_tell(terms, self.address, route, self._customers):
            return None
        for above in self.journal.covering(prefix):
            if may_tell(terms, self.address, above, self._customers):
                if above.next_hop == route.next_hop:
                    return None
                break
        return route

    def answered(self, request: Request, answer: Fulfill | Reject, now_ms: int) -> None:
        """The answer to a request of `tick`; each has one, if only a Reject by its deadline."""
        one = self.neighbours.get(request.peer_id)
        if one is None:
            return
        self._wake_ms = 0
        fulfilled = isinstance(answer, Fulfill)
        if request.number:
            one.sender.answered(
                request.number, fulfilled=fulfilled, now_ms=now_ms, interval_ms=self._interval_ms
            )
        elif one.receiver.asking:
            final = isinstance(answer, Reject) and answer.code.startswith("F")
            one.receiver.answered(fulfilled=fulfilled, final=final, now_ms=now_ms)
            if final and isinstance(answer, Reject):
                self._refuse(one, f"does not exchange routes: {answer.code}")
