"""What one neighbour has announced: its table as far as it is known, and for how long it is kept.

    route control  ->  we ask: from which epoch on
    route update   <-  new table id: begin anew    from > epoch: a gap, ask again    to < epoch: stale

Every update that fits, also an empty one, is a sign of life. Without one for the hold-down time all routes
go (requirement 79), and the neighbour is asked anew. When its link is lost that time begins once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from connector.ilp import address
from connector.peering.routing import Learned, Property, Route
from connector.routing import bounds
from connector.routing.codec import NO_TABLE, Announcement, Mode, RouteControl, RouteUpdate

_PARTIAL: Final = 0x20
_OPTIONAL: Final = 0x80


@dataclass(slots=True)
class Changes:
    """What an update means for the routing table: first what goes, then what comes.

    An update can name a prefix more than once; what it says last holds.
    """

    dropped: list[Route] = field(default_factory=list)
    put: dict[str, Route] = field(default_factory=dict)
    """By prefix."""
    refused: dict[str, int] = field(default_factory=dict)
    """Announcements that were not taken, by reason."""

    def refuse(self, why: str) -> None:
        """Count one."""
        self.refused[why] = self.refused.get(why, 0) + 1


class Room:
    """How many routes may be learned, and how many octets they may take, in all."""

    def __init__(self) -> None:
        self.routes = 0
        self.octets = 0

    def has(self, routes: int, octets: int) -> bool:
        """Whether there is so much left."""
        return (
            self.routes + routes <= bounds.ROUTES_MAX
            and self.octets + octets <= bounds.ROUTE_BYTES_TOTAL_MAX
        )


class Receiver:
    """The table of one neighbour. Times are milliseconds, by the clock that is handed in."""

    def __init__(self, room: Room) -> None:
        """`room`: shared by all neighbours."""
        self.table_id = NO_TABLE
        self.epoch = 0
        self.expires_ms: int | None = None
        """When the routes go; None: there has been no update."""
        self.ask_at_ms: int | None = None
        """When the neighbour is asked (route control); None: not at all."""
        self.asking = False
        """Whether it has been asked, and has not answered."""
        self.refusals = 0
        """How often in a row it did not do what it was asked."""
        self.speaker = ""
        self.routes: dict[str, Route] = {}
        """By prefix."""
        self._sizes: dict[str, int] = {}
        self._octets = 0
        self._room = room
        self._hold_ms = 0
        """For how long its routes are kept without an update, as it has said, within our bounds."""
        self._is_away = False
        """Whether its link was lost since its last update."""
        self._former: set[str] = set()
        """Prefixes of `routes` from before its link was lost, or from an earlier process of ours, that its present
        table has not named yet."""

    # --- asking

    def control(self) -> RouteControl:
        """What the neighbour is asked for."""
        return RouteControl(mode=Mode.SYNC, table_id=self.table_id, epoch=self.epoch)

    def ask(self, at_ms: int) -> None:
        """Ask it, at `at_ms` or when it was to be asked before."""
        self.ask_at_ms = at_ms if self.ask_at_ms is None else min(self.ask_at_ms, at_ms)

    def asked(self) -> None:
        """A request is on its way."""
        self.ask_at_ms, self.asking = None, True

    def answered(self, *, fulfilled: bool, final: bool, now_ms: int) -> None:
        """The answer to a request; `final`: it was refused, and not for a passing reason."""
        self.asking = False
        if fulfilled:
            self.refusals = 0
            # If it does not send anything all the same: once more.
            if self.expires_ms is None:
                self.ask(now_ms + bounds.CONTROL_RETRY_MS)
            return
        self.refusals += 1
        # Soon at first, also after a final refusal: a JS connector that has just started refuses so.
        most = bounds.CONTROL_RETRY_REFUSED_MS_MAX if final else bounds.CONTROL_RETRY_MS
        wait_ms = bounds.CONTROL_RETRY_MS_MIN << min(16, self.refusals - 1)
        self.ask(now_ms + min(most, wait_ms))

    # --- updates

    def update(
        self,
        update: RouteUpdate,
        *,
        take: Callable[[Announcement], str],
        make: Callable[[str, Learned], Route],
        hold_down_ms_max: int,
        now_ms: int,
        wall_ms: int,
    ) -> Changes:
        """Take an update.

        Args:
            update: as it came.
            take: says why an announcement is not taken; empty: it is.
            make: the route for a prefix.
            hold_down_ms_max: for how long routes are kept at most without another update.
            now_ms: when it came, by the clock that never jumps.
            wall_ms: the same in milliseconds since the epoch, for those who look.
        """
        changes = Changes()
        if update.table_id != self.table_id:
            if self._is_away and self._has_room_beside(update):
                # It has begun anew, too: what it had announced stays until its new table is known.
                self._former = set(self.routes)
                self.epoch = 0
            else:
                changes.dropped = self.forget()
            self.table_id = update.table_id
        if update.from_epoch > self.epoch:
            # Without what lies between, the update could not be understood (requirement 77).
            changes.refuse("gap")
            if not self.asking:
                self.ask(now_ms)
            return changes
        self.speaker = update.speaker if address.is_address(update.speaker) else ""
        hold_ms = max(update.hold_down_ms, bounds.HOLD_DOWN_MS_MIN) + bounds.HOLD_DOWN_SLACK_MS
        self._hold_ms = min(hold_ms, hold_down_ms_max)
        self._is_away = False
        self.expires_ms = now_ms + self._hold_ms
        if not self.asking:
            self.ask_at_ms = None
        if update.to_epoch < self.epoch:
            changes.refuse("stale")
            return changes
        self.epoch = update.to_epoch
        for prefix in update.withdrawn:
            self._drop(prefix, changes)
        for route in update.new:
            why = take(route)
            if why:
                changes.refuse(why)
                # What it announced before for this prefix it does not announce any more.
                self._drop(route.prefix, changes)
            else:
                self._put(route, make, changes, wall_ms)
        if self._former and update.to_epoch >= update.current_epoch:
            for prefix in list(self._former):
                self._drop(prefix, changes)
        return changes

    def _has_room_beside(self, update: RouteUpdate) -> bool:
        """Whether a new table surely has room while the former one is kept: both have no more than half of it."""
        return (
            len(self.routes) <= bounds.ROUTES_PER_PEER_MAX // 2
            and self._octets <= bounds.ROUTE_BYTES_PER_PEER_MAX // 2
            and update.current_epoch
            <= bounds.ROUTES_PER_PEER_MAX // 2 // bounds.PREFIXES_PER_EPOCH_MAX
            and self._room.has(len(self.routes), self._octets)
        )

    def restore(
        self,
        routes: Iterable[Announcement],
        *,
        take: Callable[[Announcement], str],
        make: Callable[[str, Learned], Route],
        hold_ms: int,
        now_ms: int,
        wall_ms: int,
    ) -> Changes:
        """Begin with what it had announced to an earlier process of ours, as if its link had just been lost."""
        assert not self.routes, "a process has just begun"
        changes = Changes()
        for route in routes:
            if not take(route):
                self._put(route, make, changes, wall_ms)
        self._hold_ms, self._is_away = hold_ms, True
        self.expires_ms = now_ms + hold_ms
        return changes

    def _put(
        self,
        route: Announcement,
        make: Callable[[str, Learned], Route],
        changes: Changes,
        wall_ms: int,
    ) -> None:
        prefix, size = route.prefix, route.size
        self._former.discard(prefix)
        former = self.routes.get(prefix)
        path = route.path or ((self.speaker,) if self.speaker else ())
        if not path:
            # A way of no hops would be shorter than any: it would win over what others announce.
            changes.refuse("no path")
            self._drop(prefix, changes)
            return
        learned = Learned(
            path=path,
            auth=route.auth,
            properties=tuple(map(_passed_on, route.properties)),
            learned_ms=wall_ms,
        )
        if former is not None and former.learned == learned:
            return
        before = self._sizes.get(prefix, 0)
        is_new = former is None
        room = self._room
        if (
            len(self.routes) + is_new > bounds.ROUTES_PER_PEER_MAX
            or self._octets + size - before > bounds.ROUTE_BYTES_PER_PEER_MAX
            or not room.has(int(is_new), size - before)
        ):
            changes.refuse("too many routes")
            self._drop(prefix, changes)
            return
        kept = make(prefix, learned)
        self.routes[prefix] = kept
        self._sizes[prefix] = size
        self._count(int(is_new), size - before)
        changes.put[prefix] = kept

    def _drop(self, prefix: str, changes: Changes) -> None:
        self._former.discard(prefix)
        route = self.routes.pop(prefix, None)
        if route is not None:
            changes.dropped.append(route)
            changes.put.pop(prefix, None)
            self._count(-1, -self._sizes.pop(prefix))

    def _count(self, routes: int, octets: int) -> None:
        self._octets += octets
        self._room.routes += routes
        self._room.octets += octets
        assert 0 <= self._octets <= self._room.octets, (self._octets, self._room.octets)
        assert len(self.routes) <= self._room.routes, (len(self.routes), self._room.routes)

    # --- the end of it

    def is_silent(self, now_ms: int) -> bool:
        """Whether its routes have to go."""
        return self.expires_ms is not None and now_ms >= self.expires_ms

    def away(self, now_ms: int) -> None:
        """Its link is lost: its routes are kept for the hold-down time from now on.

        Not longer if it is lost again before the neighbour has said anything.
        """
        self.asking = False
        self.ask_at_ms = None
        if self.expires_ms is not None and not self._is_away:
            self._is_away = True
            self.expires_ms = now_ms + self._hold_ms

    def forget(self) -> list[Route]:
        """Begin anew, as if it had said nothing; returns the routes that go."""
        gone = list(self.routes.values())
        self._count_all_out()
        self._former.clear()
        self.table_id, self.epoch = NO_TABLE, 0
        self.expires_ms = None
        return gone

    def _count_all_out(self) -> None:
        count, octets = len(self.routes), self._octets
        self.routes.clear()
        self._sizes.clear()
        self._count(-count, -octets)


def _passed_on(one: Property) -> Property:
    """A property as it is kept: one that we do not understand is marked as partial, as in BGP."""
    if not one.flags & _OPTIONAL or one.flags & _PARTIAL:
        return one
    return Property(flags=one.flags | _PARTIAL, id=one.id, value=one.value)
