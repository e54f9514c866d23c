"""The state of a packet's money, from hold to post or void. Pure.

A `Reservation` is the money of one packet; its `state` says what is owed and what the ledger has
acknowledged. Every legal move is a row of `TRANSITIONS`; an event in a state without a row for it
is our fault.

    ASKED    -HELD-> HELD           -REFUSED-> FREE       -GIVEN_BACK-> VOIDING
    HELD     -POST-> POSTING        -VOID-> VOIDING       -LAPSED-> FREE
    POSTING  -ACKNOWLEDGED-> BOOKED -OVERDUE-> OVERDUE    -SPOOLED-> RELEASED
    OVERDUE  -ACKNOWLEDGED-> BOOKED -SPOOLED | LAST_MOMENT-> RELEASED
    RELEASED -ACKNOWLEDGED | REPLAYED-> BOOKED

A post that the ledger refuses because its hold has expired becomes a correction, which books the
amount directly: REFUSED leads from POSTING, OVERDUE and RELEASED to CORRECTING,
CORRECTING_OVERDUE and CORRECTING_RELEASED, and ACKNOWLEDGED from each of these to CORRECTED.

From POST on the money is owed, whatever the ledger answers. The Fulfill is sent when the post is
durable, at ACKNOWLEDGED or SPOOLED, or else at LAST_MOMENT: later it would be of no use to the
sender, and holding it back would turn the risk of a loss into the loss. A Fulfill that is kept in the
outbox (`fulfilments`) is sent before POST: such a reservation has no waiter, and its kept Fulfill is
what makes it durable until ACKNOWLEDGED or SPOOLED.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import Any, Final

from connector.accounting.mirror import Book
from connector.ledger.model import PHASE_RESOLVE, Kept, Transfer, make_kept

Token = Any
"""Opaque caller handle, returned with the outcome."""


class Outcome(Enum):
    """The outcome of a reservation or a post."""

    HELD = auto()
    NO_CREDIT = auto()
    """The sender would owe us more than its limit."""
    NO_PAYABLE = auto()
    """We would owe the next hop more than we allow."""
    NO_ROOM = auto()
    """More would be held for packets of the sender, or to the next hop, than we allow."""
    BUSY = auto()
    """The queue is full."""
    UNAVAILABLE = auto()
    """The ledger does not answer."""
    POSTED = auto()
    RELEASED = auto()
    """Not acknowledged, and retried until it is: in the outbox, or the Fulfill is kept there."""


class Promise(IntEnum):
    """The state of a packet's money."""

    ASKED = 0
    """The hold is queued or in flight; nothing is owed."""
    HELD = 1
    """The hold is in the ledger or the outbox: the Prepare may be sent."""
    VOIDING = 2
    """A void is queued or written: the last state of a packet that was not fulfilled."""
    FREE = 3
    """Refused by the ledger, or expired unclaimed: nothing is held."""
    POSTING = 4
    """Fulfilled; the sender's Fulfill waits for the post, unless it was kept and relayed."""
    OVERDUE = 5
    """The budget is used up: the post has to go into the outbox, and a Fulfill that was not relayed waits
    for that."""
    RELEASED = 6
    """The Fulfill was sent; the ledger has not acknowledged the post."""
    BOOKED = 7
    CORRECTING = 8
    """The hold has expired: the sender's Fulfill waits for the correction."""
    CORRECTING_OVERDUE = 9
    CORRECTING_RELEASED = 10
    CORRECTED = 11


class PromiseEvent(IntEnum):
    """What can change the state."""

    HELD = 0
    """The ledger, or the outbox in its place, has the hold."""
    REFUSED = 1
    """The ledger refuses the hold; or the post, once that was requested."""
    GIVEN_BACK = 2
    """A hold without acknowledgement is refused; it may be in the ledger, so it is voided."""
    POST = 3
    VOID = 4
    LAPSED = 5
    """A hold of another process, or from before a restart, has expired or was voided there."""
    OVERDUE = 6
    """The budget of the post is used up."""
    LAST_MOMENT = 7
    """The sender's time is nearly up: the Fulfill is sent although the post is not durable."""
    SPOOLED = 8
    """The post, or its correction, is in the outbox."""
    ACKNOWLEDGED = 9
    """The ledger has the post, or its correction."""
    REPLAYED = 10
    """A replay has booked its rows from the outbox."""


_P, _E = Promise, PromiseEvent
TRANSITIONS: Final[Mapping[tuple[Promise, PromiseEvent], Promise]] = {
    (_P.ASKED, _E.HELD): _P.HELD,
    (_P.ASKED, _E.REFUSED): _P.FREE,
    (_P.ASKED, _E.GIVEN_BACK): _P.VOIDING,
    (_P.HELD, _E.POST): _P.POSTING,
    (_P.HELD, _E.VOID): _P.VOIDING,
    (_P.HELD, _E.LAPSED): _P.FREE,
    (_P.POSTING, _E.ACKNOWLEDGED): _P.BOOKED,
    (_P.POSTING, _E.OVERDUE): _P.OVERDUE,
    (_P.POSTING, _E.SPOOLED): _P.RELEASED,
    (_P.POSTING, _E.REFUSED): _P.CORRECTING,
    (_P.OVERDUE, _E.ACKNOWLEDGED): _P.BOOKED,
    (_P.OVERDUE, _E.SPOOLED): _P.RELEASED,
    (_P.OVERDUE, _E.LAST_MOMENT): _P.RELEASED,
    (_P.OVERDUE, _E.REFUSED): _P.CORRECTING_OVERDUE,
    (_P.RELEASED, _E.ACKNOWLEDGED): _P.BOOKED,
    (_P.RELEASED, _E.REPLAYED): _P.BOOKED,
    (_P.RELEASED, _E.SPOOLED): _P.RELEASED,
    (_P.RELEASED, _E.REFUSED): _P.CORRECTING_RELEASED,
    # Booked while it was being put into the outbox.
    (_P.BOOKED, _E.SPOOLED): _P.BOOKED,
    # Booked by a replay while its post was in flight.
    (_P.BOOKED, _E.ACKNOWLEDGED): _P.BOOKED,
    (_P.BOOKED, _E.REPLAYED): _P.BOOKED,
    (_P.CORRECTING, _E.ACKNOWLEDGED): _P.CORRECTED,
    (_P.CORRECTING, _E.OVERDUE): _P.CORRECTING_OVERDUE,
    (_P.CORRECTING, _E.SPOOLED): _P.CORRECTING_RELEASED,
    (_P.CORRECTING_OVERDUE, _E.ACKNOWLEDGED): _P.CORRECTED,
    (_P.CORRECTING_OVERDUE, _E.SPOOLED): _P.CORRECTING_RELEASED,
    (_P.CORRECTING_OVERDUE, _E.LAST_MOMENT): _P.CORRECTING_RELEASED,
    (_P.CORRECTING_RELEASED, _E.ACKNOWLEDGED): _P.CORRECTED,
    # A replay leaves the correction to the writer, which has it queued.
    (_P.CORRECTING_RELEASED, _E.REPLAYED): _P.CORRECTING_RELEASED,
    (_P.CORRECTING_RELEASED, _E.SPOOLED): _P.CORRECTING_RELEASED,
    (_P.CORRECTED, _E.SPOOLED): _P.CORRECTED,
    (_P.CORRECTED, _E.REPLAYED): _P.CORRECTED,
}

_ILLEGAL: Final = -1
_EVENTS: Final = len(PromiseEvent)
# The same table as a flat array for the packet path: three moves per packet.
_NEXT: Final[tuple[int, ...]] = tuple(
    int(TRANSITIONS.get((state, event), _ILLEGAL)) for state in Promise for event in PromiseEvent
)
_ASKED: Final = int(_P.ASKED)
_BOOKED: Final = int(_P.BOOKED)
_CORRECTING: Final = int(_P.CORRECTING)
_CORRECTED: Final = int(_P.CORRECTED)
_RELEASED: Final = int(_P.RELEASED)
_CORRECTING_RELEASED: Final = int(_P.CORRECTING_RELEASED)
_POST: Final = int(_E.POST)
_ACKNOWLEDGED: Final = int(_E.ACKNOWLEDGED)


class Reservation:
    """The money of one packet: its legs, their accounts, and the state of the promise."""

    __slots__ = (
        "books", "fulfill", "hold_spooled", "keep_until_ms", "latest_ms", "legs", "outbox_seq",
        "packet_id", "relay_by_ms", "state", "transfers", "waiter",
    )  # fmt: skip

    def __init__(
        self,
        packet_id: int,
        legs: list[Transfer],
        books: list[tuple[Book, Book]],
        state: int = _ASKED,
    ) -> None:
        self.packet_id = packet_id
        self.legs = legs
        self.books = books
        self.state = state
        """A `Promise`, as an integer; changed along `TRANSITIONS` only."""
        self.transfers = legs
        """The transfers to write next: hold, post, void or correction, according to its state."""
        self.waiter: Token = None
        """Receives the next outcome; None: no caller waits, or none any more."""
        self.relay_by_ms = 0
        """When its post is written to the outbox, unless it has been acknowledged."""
        self.latest_ms = 0
        """The last moment at which its Fulfill is of use to the sender."""
        self.fulfill = b""
        """The Fulfill, while it has yet to be kept with the post; see `fulfilments`."""
        self.keep_until_ms = 0
        """Until when it is kept; zero: it was kept by an earlier process."""
        self.hold_spooled = False
        """Whether the hold went into the outbox: the ledger may refuse it later."""
        self.outbox_seq = 0
        """The outbox's request with its post; zero: none."""

    def move(self, event: int) -> None:
        """Apply a `PromiseEvent`."""
        to = _NEXT[self.state * _EVENTS + event]
        assert to >= 0, (Promise(self.state), PromiseEvent(event))
        self.state = to

    @property
    def posted(self) -> bool:
        """Whether the ledger is known to have it: posted, or corrected."""
        return self.state in (_BOOKED, _CORRECTED)

    @property
    def released(self) -> bool:
        """Whether its Fulfill was sent before the ledger acknowledged the post."""
        return self.state in (_RELEASED, _CORRECTING_RELEASED)

    @property
    def is_free(self) -> bool:
        """Whether nothing is held for it, as far as is known: refused, voided before a restart, or expired."""
        return self.state == Promise.FREE

    @property
    def resolution_ids(self) -> list[int]:
        """Ids of the transfers that post or void it; none if this process did not request that."""
        if self.transfers is self.legs:
            return []
        return [leg.id | PHASE_RESOLVE for leg in self.legs]

    @property
    def corrected(self) -> bool:
        """Whether its hold had expired, so that a correction replaces the post."""
        return self.state >= _CORRECTING


def to_be_kept(reservation: Reservation) -> Kept:
    """The fulfilment of a packet as it is stored."""
    assert reservation.fulfill, "nothing to be kept"
    return make_kept((reservation.packet_id, reservation.keep_until_ms, reservation.fulfill))


class Promises:
    """Posts that the ledger has not acknowledged."""

    def __init__(self) -> None:
        self._waiting: dict[int, Reservation] = {}
        # Their budget is used up: their Fulfills are held back until their posts are durable.
        self._overdue: dict[int, Reservation] = {}
        self._released_by_seq: dict[int, list[Reservation]] = {}
        # Packets in flight whose hold a replay has made under other ids; each until it is resolved.
        self._held_again: set[int] = set()

    def __len__(self) -> int:
        """How many posts are neither in the ledger nor in the outbox."""
        return len(self._waiting) + len(self._overdue)

    def needs_kept(self, now_ms: int) -> bool:
        """Whether a kept Fulfill whose time is over is all that makes some post durable."""
        return any(
            one.waiter is None and one.keep_until_ms <= now_ms
            for posts in (self._waiting, self._overdue)
            for one in posts.values()
        )

    @property
    def has_overdue(self) -> bool:
        """Whether posts are to be put into the outbox."""
        return bool(self._overdue)

    @property
    def has_released(self) -> bool:
        """Whether there are posts in the outbox."""
        return bool(self._released_by_seq)

    def post(
        self,
        reservation: Reservation,
        waiter: Token,
        transfers: list[Transfer],
        relay_by_ms: int,
        latest_ms: int,
    ) -> None:
        """A packet was fulfilled: from now on its money is owed. `transfers` post it."""
        state = _NEXT[reservation.state * _EVENTS + _POST]  # `move`, without a call
        assert state >= 0, Promise(reservation.state)
        reservation.state = state
        reservation.waiter = waiter
        reservation.transfers = transfers
        reservation.relay_by_ms = relay_by_ms
        reservation.latest_ms = latest_ms
        self._waiting[reservation.packet_id] = reservation

    def acknowledged(self, reservation: Reservation) -> bool:
        """The ledger has a post, or its correction; returns whether its waiter, if any, must be resumed."""
        state = _NEXT[reservation.state * _EVENTS + _ACKNOWLEDGED]  # `move`, without a call
        assert state >= 0, Promise(reservation.state)
        reservation.state = state
        packet_id = reservation.packet_id
        if (
            self._waiting.pop(packet_id, None) is None
            and self._overdue.pop(packet_id, None) is None
        ):
            return False
        # The waiter refers to its reservation: without this, thousands of reference cycles a second
        # would be left to the garbage collector.
        reservation.waiter = None
        return True

    def spooled(self, reservation: Reservation, seq: int) -> Token:
        """The outbox has a post, or its correction, as request `seq`.

        Returns the waiter to resume; None: it was released before.
        """
        assert seq > 0, seq
        reservation.move(PromiseEvent.SPOOLED)
        if not reservation.outbox_seq:
            reservation.outbox_seq = seq
        return self._take_waiter(reservation)

    def _take_waiter(self, reservation: Reservation) -> Token:
        self._waiting.pop(reservation.packet_id, None)
        self._overdue.pop(reservation.packet_id, None)
        waiter, reservation.waiter = reservation.waiter, None
        return waiter

    def take_overdue(self, now_ms: int) -> list[Reservation]:
        """Posts whose budget is used up, to be written to the outbox; each is returned once."""
        if not self._waiting:
            return []
        overdue = [one for one in self._waiting.values() if one.relay_by_ms <= now_ms]
        for reservation in overdue:
            reservation.move(PromiseEvent.OVERDUE)
            del self._waiting[reservation.packet_id]
            self._overdue[reservation.packet_id] = reservation
        return overdue

    def take_latest(self, now_ms: int) -> list[Token]:
        """Callers whose last moment has come while their posts are not durable; each once."""
        if not self._overdue:
            return []
        # Without a waiter the Fulfill is kept, and was relayed.
        waiting = [one for one in self._overdue.values() if one.waiter is not None]
        latest = [one for one in waiting if one.latest_ms <= now_ms]
        for reservation in latest:
            reservation.move(PromiseEvent.LAST_MOMENT)
        return [self._take_waiter(one) for one in latest]

    def stored(self, seq: int, reservations: list[Reservation]) -> list[Token]:
        """The posts of `reservations` are in the outbox as request `seq`, while the ledger is up.

        Returns the callers that wait for them.
        """
        assert seq > 0, seq
        assert seq not in self._released_by_seq, seq
        self._released_by_seq[seq] = reservations
        waiters: list[Token] = []
        for reservation in reservations:
            assert not reservation.outbox_seq, reservation.outbox_seq
            waiter = self.spooled(reservation, seq)
            if waiter is not None:
                waiters.append(waiter)
        return waiters

    def corrected_of(self, seq: int) -> set[int]:
        """Packets of a request in the outbox whose correction the writer has queued."""
        return {one.packet_id for one in self._released_by_seq.get(seq, ()) if one.corrected}

    def replayed(self, seq: int) -> None:
        """Request `seq` of the outbox is booked."""
        for reservation in self._released_by_seq.pop(seq, ()):
            reservation.move(PromiseEvent.REPLAYED)
            reservation.outbox_seq = 0

    def note_held_again(self, packet_id: int) -> None:
        """A replay has held the money of a packet in flight under other ids."""
        self._held_again.add(packet_id)

    def take_held_again(self, packet_id: int) -> bool:
        """Whether its hold is under other ids; forgotten by this call."""
        if packet_id not in self._held_again:
            return False
        self._held_again.remove(packet_id)
        return True

    def take_booked_seqs(self) -> list[int]:
        """Requests of the outbox of which every post has been booked by the writer."""
        booked = [
            seq for seq, posts in self._released_by_seq.items() if all(one.posted for one in posts)
        ]
        for seq in booked:
            del self._released_by_seq[seq]
        return booked
