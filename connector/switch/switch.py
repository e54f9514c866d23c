"""The story of one Prepare, from coming in to being answered.

A story is a generator: it yields what it needs done and is resumed with the outcome, so the same
code runs under the daemon's driver and under a test that owns time, network and ledger.

    yield Reserve   -> Reservation | Outcome     money held, or why not
    yield Send      -> octets | Unanswered       what the next hop said
    yield Deliver   -> Fulfill | Reject | Unanswered   what this node's own receiver said
    yield Post      -> Outcome                   final; it may be told now
    yield Void      -> None                      given back

It returns a `Result`, always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from typing import Any, Final

from connector.accounting.entries import Reserve
from connector.accounting.promises import Outcome, Reservation
from connector.accounting.resent import Recovered
from connector.base.errors import DecodeError
from connector.ilp import ildcp, settle
from connector.ilp.packet import (
    Answer,
    Code,
    Fulfill,
    Prepare,
    Reject,
    decode,
    encode,
    reject,
    reprice,
)
from connector.peering.model import (
    LOCAL,
    Asset,
    Peer,
    PeerRegistry,
    PeerTerms,
    Relation,
    Unanswered,
)
from connector.peering.routing import RoutingTable
from connector.switch import receiver, rules, terms

_UNANSWERED_CODES: Final = {
    Unanswered.NOT_SENT: Code.T01_PEER_UNREACHABLE,
    Unanswered.TIMED_OUT: Code.R00_TRANSFER_TIMED_OUT,
    Unanswered.LINK_LOST: Code.T00_INTERNAL_ERROR,
    Unanswered.REFUSED: Code.T00_INTERNAL_ERROR,
    Unanswered.BUSY: Code.T02_PEER_BUSY,
}

_REFUSALS: Final = {
    Outcome.NO_CREDIT: (Code.T04_INSUFFICIENT_LIQUIDITY, "credit limit reached"),
    Outcome.NO_PAYABLE: (Code.T04_INSUFFICIENT_LIQUIDITY, "limit towards the next hop reached"),
    Outcome.BUSY: (Code.T05_RATE_LIMITED, "too many packets wait for the ledger"),
    Outcome.UNAVAILABLE: (Code.T00_INTERNAL_ERROR, "accounting is not available"),
}


class Send:
    """Send this Prepare and wait for its answer until `deadline_ms`."""

    __slots__ = ("again", "deadline_ms", "next_hop", "octets", "packet_id")

    def __init__(
        self,
        next_hop: Peer,
        octets: bytes,
        deadline_ms: int,
        packet_id: int,
        *,
        again: bool = False,
    ) -> None:
        self.next_hop = next_hop
        self.octets = octets
        self.deadline_ms = deadline_ms
        self.packet_id = packet_id
        self.again = again
        """Whether it may have been sent before: only to a peer that knows packet ids."""


class Deliver:
    """Ask this node's own receiver, until `deadline_ms`."""

    __slots__ = ("deadline_ms", "prepare", "source")

    def __init__(self, source: Peer, prepare: Prepare, deadline_ms: int) -> None:
        self.source = source
        self.prepare = prepare
        self.deadline_ms = deadline_ms


class Post:
    """Make the reservation final before the sender stops waiting."""

    __slots__ = ("expires_at_ms", "reservation")

    def __init__(self, reservation: Reservation, expires_at_ms: int) -> None:
        self.reservation = reservation
        self.expires_at_ms = expires_at_ms


class Void:
    """Give the reservation back."""

    __slots__ = ("reservation",)

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation


Step = Reserve | Send | Deliver | Post | Void


class Result:
    """How a story ended."""

    __slots__ = ("amount_out", "code", "fee", "message", "next_hop", "octets", "triggered_by")

    def __init__(
        self,
        octets: bytes,
        *,
        code: str | None,
        next_hop: str | None = None,
        amount_out: int = 0,
        fee: int = 0,
        message: str = "",
        triggered_by: str = "",
    ) -> None:
        self.octets = octets
        """The ILP packet that answers the Prepare."""
        self.code = code
        """Of a Reject; None for a Fulfill."""
        self.next_hop = next_hop
        """The peer it was meant for, as far as it came to that."""
        self.amount_out = amount_out
        self.fee = fee
        self.message = message
        self.triggered_by = triggered_by


Story = Generator[Step, Any, Result]


class Switch:
    """Tells stories. Knows rules, routes, terms; does nothing itself."""

    def __init__(
        self,
        *,
        node: rules.Node,
        peers: PeerRegistry,
        routes: RoutingTable,
        rates: terms.Rates,
        now_ms: Callable[[], int],
        window_ms: int,
        hold_ms_max: int,
        receiver_secret: bytes | None = None,
        delivers: Callable[[], bool] = lambda: False,
    ) -> None:
        self.node: Final = node
        self._peers = peers
        self._routes = routes
        self._rates = rates
        self._now_ms = now_ms
        self._window_ms = window_ms
        self._hold_ms_max = hold_ms_max
        self._receiver_secret = receiver_secret
        self._delivers = delivers

    def forward(self, source: Peer, prepare: Prepare, packet_id: int) -> Story:
        """Answer `prepare` from `source`. Always returns a Fulfill or a Reject."""
        now_ms = self._now_ms()
        node = self.node
        # 1. May it come in?
        refusal = rules.check(node, source, prepare, now_ms)
        if refusal is not None:
            return _rejected(refusal)
        # 2. Where does it go?
        destination = prepare.destination
        if destination.startswith("peer."):
            if destination == settle.DESTINATION:
                return (yield from self._settle(source, prepare, now_ms))
            return self._peer_protocol(source, prepare)
        route = self._routes.find(destination)
        if route is None:
            return self._refuse(Code.F02_UNREACHABLE, "no route found")
        if route.next_hop == LOCAL:
            return (yield from self._deliver(source, prepare, now_ms))
        next_hop = self._peers.get(route.next_hop)
        if next_hop is None:
            return self._refuse(Code.F02_UNREACHABLE, "no route found")
        if next_hop is source and not source.terms.allow_reflection:
            return self._refuse(Code.F02_UNREACHABLE, "the route leads back to the sender")
        # 3. What do we offer the next hop?
        amounts = terms.amounts(
            source.terms, next_hop.terms, prepare.amount, self._rates, node.address
        )
        if isinstance(amounts, Reject):
            return _rejected(amounts, next_hop.peer_id)
        deadline_ms = terms.onward_expiry_ms(
            prepare.expires_at_ms, now_ms, self._window_ms, self._hold_ms_max, node.address
        )
        if isinstance(deadline_ms, Reject):
            return _rejected(deadline_ms, next_hop.peer_id)
        # 4. Hold the money before promising it.
        onward = amounts.onward
        held: Reservation | None = None
        if prepare.amount:
            booked: Reservation | Outcome = yield Reserve(
                source.terms,
                next_hop.terms,
                prepare.amount,
                amounts.fee,
                onward,
                prepare.condition,
                deadline_ms + self._window_ms - now_ms,
            )
            if isinstance(booked, Outcome):
                return self._refuse(*_REFUSALS[booked], next_hop.peer_id)
            held = booked
            if self._now_ms() >= deadline_ms:
                # The ledger took so long that there is no time left to promise anything.
                yield Void(held)
                return self._refuse(
                    Code.R00_TRANSFER_TIMED_OUT, "no time left after accounting", next_hop.peer_id
                )
        # 5. Promise it, and wait.
        octets = reprice(prepare, amount=onward, expires_at_ms=deadline_ms)
        said = yield Send(next_hop, octets, deadline_ms, packet_id)
        # 6. Believe nothing that is not proven.
        answer = self._check(prepare, said, next_hop, deadline_ms)
        if type(answer) is Reject:
            if held is not None:
                yield Void(held)
            return _rejected(answer, next_hop.peer_id)
        # 7. Book it, then tell.
        if held is not None:
            yield Post(held, prepare.expires_at_ms)
        return Result(
            answer.wire or encode(answer),
            code=None,
            next_hop=next_hop.peer_id,
            amount_out=onward,
            fee=amounts.fee,
        )

    def resume(self, source: Peer, prepare: Prepare, recovered: Recovered) -> Story:
        """Answer a Prepare that was under way when this node stopped (docs/protocol.md).

        Its money is held or posted already; ask the next hop again under the same packet id, which
        makes it answer as before.
        """
        now_ms = self._now_ms()
        reservation = recovered.reservation
        amount_out = reservation.legs[-1].amount
        deadline_ms = min(prepare.expires_at_ms, now_ms + self._hold_ms_max) - self._window_ms
        if recovered.next_hop_id == LOCAL:
            said: object = receiver.answer(prepare, self._receiver_secret)
            if said is None and self._delivers():
                said = yield Deliver(source, prepare, deadline_ms)
            next_hop = None
        else:
            next_hop = self._peers.get(recovered.next_hop_id)
            if next_hop is None or deadline_ms <= now_ms:
                if not reservation.posted:
                    yield Void(reservation)
                return self._refuse(Code.T00_INTERNAL_ERROR, "restarted meanwhile")
            amount_out = next(
                leg.amount
                for leg, (_, credit) in zip(reservation.legs, reservation.books, strict=True)
                if credit.peer_id == next_hop.peer_id
            )
            octets = reprice(prepare, amount=amount_out, expires_at_ms=deadline_ms)
            said = yield Send(next_hop, octets, deadline_ms, reservation.packet_id, again=True)
        return (
            yield from self._conclude(
                prepare, said, reservation, next_hop, amount_out, 0, deadline_ms
            )
        )

    def ask(self, next_hop: Peer, prepare: Prepare, packet_id: int) -> Story:
        """Put a question to a neighbour itself (`peer.config`): not routed, no money moves."""
        deadline_ms = prepare.expires_at_ms
        said = yield Send(next_hop, encode(prepare), deadline_ms, packet_id)
        answer = self._check(prepare, said, next_hop, deadline_ms)
        if isinstance(answer, Reject):
            return _rejected(answer, next_hop.peer_id)
        return Result(answer.wire or encode(answer), code=None, next_hop=next_hop.peer_id)

    def _conclude(
        self,
        prepare: Prepare,
        said: object,
        held: Reservation | None,
        next_hop: Peer | None,
        amount_out: int,
        fee: int,
        deadline_ms: int,
    ) -> Story:
        """Steps 6 and 7 of a packet for this node, or of one that is asked for again."""
        hop_id = LOCAL if next_hop is None else next_hop.peer_id
        answer = self._check(prepare, said, next_hop, deadline_ms)
        if isinstance(answer, Reject):
            if held is not None and not held.posted:
                yield Void(held)
            return _rejected(answer, hop_id)
        if held is not None and not held.posted:
            yield Post(held, prepare.expires_at_ms)
        return Result(
            answer.wire or encode(answer),
            code=None,
            next_hop=hop_id,
            amount_out=amount_out,
            fee=fee,
        )

    def _check(
        self, prepare: Prepare, said: object, next_hop: Peer | None, deadline_ms: int
    ) -> Answer:
        """The answer as we pass it on: a Fulfill only with the right preimage and in time.

        RFC 22: executed only if the preimage fits and came before the expiry on that link.
        """
        own_address = self.node.address
        if type(said) is bytes:
            assert next_hop is not None
            try:
                answer = decode(said)
            except DecodeError:
                next_hop.counters.answers_malformed += 1
                return reject(Code.T00_INTERNAL_ERROR, own_address, "next hop answered unreadably")
            if isinstance(answer, Prepare):
                next_hop.counters.answers_malformed += 1
                return reject(
                    Code.T00_INTERNAL_ERROR, own_address, "next hop answered with a Prepare"
                )
        elif isinstance(said, Unanswered):
            return reject(_UNANSWERED_CODES[said], own_address, said.value)
        elif said is None:
            return reject(Code.F06_UNEXPECTED_PAYMENT, own_address, "unexpected payment")
        else:
            assert isinstance(said, Fulfill | Reject), said
            answer = said
        if isinstance(answer, Reject):
            return answer
        if hashlib.sha256(answer.fulfillment).digest() != prepare.condition:
            return reject(
                Code.F05_WRONG_CONDITION, own_address, "fulfillment does not match the condition"
            )
        if self._now_ms() >= deadline_ms:
            if next_hop is not None:
                next_hop.counters.answers_late += 1
            return reject(
                Code.R00_TRANSFER_TIMED_OUT, own_address, "next hop did not answer in time"
            )
        return answer

    def _deliver(self, source: Peer, prepare: Prepare, now_ms: int) -> Story:
        """A packet for this node: money goes from the sender to the wallet."""
        deadline_ms = terms.onward_expiry_ms(
            prepare.expires_at_ms, now_ms, self._window_ms, self._hold_ms_max, self.node.address
        )
        if isinstance(deadline_ms, Reject):
            return _rejected(deadline_ms, LOCAL)
        known = receiver.answer(prepare, self._receiver_secret)
        if known is None and not self._delivers():
            return self._refuse(Code.F06_UNEXPECTED_PAYMENT, "unexpected payment", LOCAL)
        held: Reservation | None = None
        if prepare.amount:
            booked: Reservation | Outcome = yield Reserve(
                source.terms,
                PeerTerms(peer_id=LOCAL, asset=source.terms.asset),
                prepare.amount,
                0,
                prepare.amount,
                prepare.condition,
                deadline_ms + self._window_ms - now_ms,
            )
            if isinstance(booked, Outcome):
                return self._refuse(*_REFUSALS[booked], LOCAL)
            held = booked
        said: object = known
        if known is None:
            said = yield Deliver(source, prepare, deadline_ms)
        return (
            yield from self._conclude(prepare, said, held, None, prepare.amount, 0, deadline_ms)
        )

    def _peer_protocol(self, source: Peer, prepare: Prepare) -> Result:
        """`peer.` is between neighbours: answered here, never forwarded (RFC 15)."""
        if prepare.destination != ildcp.DESTINATION:
            return self._refuse(Code.F01_INVALID_PACKET, "unknown peer protocol")
        if prepare.amount or prepare.condition != ildcp.PEER_CONDITION:
            return self._refuse(
                Code.F01_INVALID_PACKET, "not a peer protocol's amount or condition"
            )
        if source.terms.relation is not Relation.CHILD:
            return self._refuse(Code.F00_BAD_REQUEST, "only children are told an address")
        if not self.node.address:
            return self._refuse(Code.T03_CONNECTOR_BUSY, "no address yet")
        asset: Asset = source.terms.asset
        config = ildcp.ChildConfig(
            address=f"{self.node.address}.{source.peer_id}",
            asset_scale=asset.scale,
            asset_code=asset.code,
        )
        return Result(encode(ildcp.answer(config)), code=None, next_hop=LOCAL)

    def _settle(self, source: Peer, prepare: Prepare, now_ms: int) -> Story:
        """A message for our settlement engine from the sender's (RFC 38): no money moves."""
        if prepare.amount:
            return _rejected(
                settle.refusal(Code.F01_INVALID_PACKET, "peer.settle carries no money"), LOCAL
            )
        deadline_ms = min(prepare.expires_at_ms, now_ms + self._hold_ms_max)
        said = yield Deliver(source, prepare, deadline_ms)
        if isinstance(said, Unanswered):
            said = settle.refusal(_UNANSWERED_CODES[said], "no answer from the settlement engine")
        if isinstance(said, Reject):
            return _rejected(said, LOCAL)
        # The condition that RFC 38 gives has no fulfilment that we could check: any is accepted.
        return Result(encode(said), code=None, next_hop=LOCAL)

    def _refuse(self, code: Code, message: str, next_hop: str | None = None) -> Result:
        return _rejected(reject(code, self.node.address, message), next_hop)


def _rejected(answer: Reject, next_hop: str | None = None) -> Result:
    return Result(
        answer.wire or encode(answer),
        code=answer.code,
        next_hop=next_hop,
        message=answer.message,
        triggered_by=answer.triggered_by,
    )
