"""Payments that come in: which packets make one, and when it has come in. Pure: time is handed in.

A payment is what one payer's connection brings until it has ended:

    closed   the payer, or this node, has closed the connection, and `CLOSED_GRACE_MS` have passed, so that
             packets on their way are counted
    quiet    nothing has come for `quiet_ms`: payers need not close, and some cannot
    room     more than `OPEN_PAYMENTS_MAX` are open, and this one has been quiet for longest

What comes on a connection after that is another payment, with another id and the same payment id. Packets
without an amount make no payment. What is counted is posted, or is to be: it is owed to the wallet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from connector.stream import bounds
from connector.stream.questions import payment_id_of


@dataclass(slots=True)
class Incoming:
    """A payment as far as it has come in."""

    id: str
    """32 hex digits: of this payment alone."""
    payment_id: str
    """32 hex digits: of the payer's connection."""
    token: str
    """The last segment of the address that it goes to."""
    wallet: str
    asset_code: str
    asset_scale: int
    amount: int
    """What the wallet got, in its asset; above zero."""
    packets: int
    began_ms: int
    last_ms: int
    """When the last packet came, milliseconds since the epoch."""
    at_least: bool = False
    """Whether the node was killed meanwhile, so that the wallet may have got more than `amount`."""
    ended: str = ""
    """`closed`, `quiet` or `room`; empty: it is open."""
    closed_ms: int = 0
    """When its connection was closed; 0: it is open."""


class IncomingPayments:
    """The open payments to wallets of this node; see the module."""

    def __init__(
        self, *, asset_code: str, asset_scale: int, quiet_ms: int, now_ms: Callable[[], int]
    ) -> None:
        """`asset_code`, `asset_scale`: of all wallets."""
        self._asset: Final = (asset_code, asset_scale)
        self._quiet_ms = quiet_ms
        self._now_ms = now_ms
        self._open: dict[str, Incoming] = {}
        """By token, the one that got a packet last at the end."""
        self._changed: dict[str, Incoming] = {}
        """By id: the open ones that are to be written down."""
        self._ended: dict[str, Incoming] = {}
        """The same of those that have ended, which nothing else knows: the one that ended first first."""
        self._lost = 0
        self._made = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open(self) -> Iterable[Incoming]:
        """The open ones."""
        return self._open.values()

    def restore(self, former: Iterable[Incoming]) -> None:
        """Take up what an earlier process has left open, before the first packet."""
        for one in former:
            if (one.asset_code, one.asset_scale) != self._asset or one.token in self._open:
                one.ended = "quiet"
                self._ended[one.id] = one
            else:
                self._open[one.token] = one

    def received(self, token: str, wallet: str, amount: int) -> None:
        """A packet was fulfilled that brings the wallet `amount`."""
        if not amount:
            return
        now_ms = self._now_ms()
        one = self._open.pop(token, None)
        if one is None:
            if len(self._open) >= bounds.OPEN_PAYMENTS_MAX:
                self._end(next(iter(self._open.values())), "room")
            one = Incoming(
                self._new_id(token, now_ms), payment_id_of(token), token, wallet, *self._asset, 0, 0, now_ms, now_ms
            )  # fmt: skip
        self._open[token] = one
        one.amount += amount
        one.packets += 1
        one.last_ms = now_ms
        self._changed[one.id] = one

    def closed(self, token: str) -> None:
        """The connection with this token was closed."""
        one = self._open.get(token)
        if one is not None and not one.closed_ms:
            one.closed_ms = self._now_ms()

    def take_changed(self, count_max: int) -> list[Incoming]:
        """So many of those that have changed since they were taken last; ends what has ended."""
        now_ms = self._now_ms()
        for one in list(self._open.values()):
            # Where the clock was set back: nobody waits until it is there again.
            one.last_ms, one.closed_ms = min(one.last_ms, now_ms), min(one.closed_ms, now_ms)
            if one.closed_ms and now_ms - one.closed_ms >= bounds.CLOSED_GRACE_MS:
                self._end(one, "closed")
            elif now_ms - one.last_ms >= self._quiet_ms:
                self._end(one, "quiet")
        taken: list[Incoming] = []
        for waiting in (self._ended, self._changed):
            while waiting and len(taken) < count_max:
                taken.append(waiting.pop(next(iter(waiting))))
        return taken

    def put_back(self, changed: Sequence[Incoming]) -> None:
        """These could not be written down: they are taken first the next time."""
        ended = {one.id: one for one in changed if one.ended}
        self._ended = ended | self._ended
        for one in changed:
            if not one.ended:
                self._changed[one.id] = one
        self._make_room()

    def take_lost(self) -> int:
        """How many that have ended were forgotten unwritten since the last call: too many waited."""
        lost, self._lost = self._lost, 0
        return lost

    def _make_room(self) -> None:
        # The disk may be stuck for as long as it likes. Open ones are bounded already.
        while len(self._ended) > bounds.UNWRITTEN_PAYMENTS_MAX:
            del self._ended[next(iter(self._ended))]
            self._lost += 1

    def _new_id(self, token: str, began_ms: int) -> str:
        """An id that no other payment on the same connection has."""
        self._made += 1
        said = f"connector_received:{began_ms}:{self._made}:{token}"
        return hashlib.sha256(said.encode("ascii")).hexdigest()[:32]

    def _end(self, one: Incoming, why: str) -> None:
        del self._open[one.token]
        one.ended = why
        self._changed.pop(one.id, None)
        self._ended[one.id] = one
        self._make_room()
