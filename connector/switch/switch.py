"""The packet flow: the steps of one Prepare, from its arrival to its answer.

A flow is a generator: it yields each step to be done and is resumed with the outcome, so the same
code runs under the daemon's driver and under a test that controls time, network and ledger.

    yield Reserve   -> Reservation | Outcome     the money is held, or why not
    yield Send      -> octets | Unanswered       the answer of the next hop
    yield Deliver   -> Fulfill | Reject | Unanswered   the answer of this node's own receiver
    yield Post      -> Outcome                   final; the Fulfill may be sent now
    yield Void      -> None                      the hold is released
    yield Rename    -> None                      what follows is under another id: a second way

It ends with a `Result`: yields it as its last step, after which it is not resumed, or returns it. A
generator that returns costs an exception with a traceback, which is too much for nearly every packet.

Long because all steps of a packet, from admission to booking, are read in one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from fractions import Fraction
from typing import Any, Final

from connector.accounting.entries import Reserve
from connector.accounting.promises import Outcome, Reservation
from connector.accounting.resent import Recovered
from connector.base import limits
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
from connector.ledger.model import TransferCode, second_id
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
from connector.stream.connection import Arrival
from connector.stream.questions import Decision, PaymentData
from connector.stream.receiver import Receiver
from connector.stream.tokens import PAYER
from connector.switch import bounds, receiver, rules, terms, ways
from connector.switch.loops import Loops, lap_ms, mark_ms
from connector.switch.terms import Offer
from connector.switch.ways import Step as WayStep
from connector.switch.ways import StepEvent as WayEvent

_sha256: Final = hashlib.sha256
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
    Outcome.NO_ROOM: (Code.T04_INSUFFICIENT_LIQUIDITY, "too much value in flight"),
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
        """Whether it may have been sent before: only to a peer with packet ids."""


class Deliver:
    """Pass the packet to this node's own receiver, until `deadline_ms`."""

    __slots__ = ("deadline_ms", "packet_id", "prepare", "source")

    def __init__(self, source: Peer, prepare: Prepare, deadline_ms: int, packet_id: int) -> None:
        self.source = source
        self.prepare = prepare
        self.deadline_ms = deadline_ms
        self.packet_id = packet_id
        """The same at every delivery of the same packet."""


class Ask:
    """Ask whether data that a payer has sent is accepted, until `deadline_ms`."""

    __slots__ = ("deadline_ms", "question", "source")

    def __init__(self, source: Peer, question: PaymentData, deadline_ms: int) -> None:
        self.source = source
        self.question = question
        self.deadline_ms = deadline_ms


class Post:
    """Make the reservation final before the sender stops waiting."""

    __slots__ = ("expires_at_ms", "fulfill", "reservation")

    def __init__(self, reservation: Reservation, expires_at_ms: int, fulfill: bytes) -> None:
        self.reservation = reservation
        self.expires_at_ms = expires_at_ms
        self.fulfill = fulfill
        """The Fulfill for the sender, an ILP packet."""


class Void:
    """Release the reservation."""

    __slots__ = ("reservation",)

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation


class Rename:
    """What follows is held and sent under this id: another way for a packet that its next hop has refused."""

    __slots__ = ("packet_id",)

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id


class Result:
    """The result of a flow."""

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
        """The next hop; None: the packet was refused before it was routed."""
        self.amount_out = amount_out
        self.fee = fee
        self.message = message
        self.triggered_by = triggered_by


Step = Reserve | Send | Deliver | Ask | Post | Void | Rename | Result
PacketFlow = Generator[Step, Any, Result]


class Switch:
    """Makes the flows of packets from rules, routes and terms; pure, no step is executed here."""

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
        wallets: Receiver | None = None,
        wallet_asset: Asset | None = None,
    ) -> None:
        self.node: Final = node
        self.loops: Final = Loops()
        self.ways: Final = ways.Ways()
        self._peers = peers
        self._routes = routes
        self._rates = rates
        self._now_ms = now_ms
        self._window_ms = window_ms
        self._hold_ms_max = hold_ms_max
        self._receiver_secret = receiver_secret
        self._delivers = delivers
        self._wallets = wallets
        self._wallet_terms: dict[str, PeerTerms] = {}
        """Terms of each wallet here as a payee."""
        if wallets is not None:
            assert wallet_asset is not None
            self._wallet_terms = {
                name: PeerTerms(peer_id=LOCAL, asset=wallet_asset, wallet=name)
                for name in wallets.wallets
            }
        self._own_terms: PeerTerms | None = None
        """Cached terms of this node as the payee of packets for it: they are slow to build."""

    def forward(
        self,
        source: Peer,
        prepare: Prepare,
        packet_id: int,
        recovered: Recovered | None = None,
        now_ms: int = 0,
    ) -> PacketFlow:
        """Answer `prepare` from `source`. Always ends with a Fulfill or a Reject.

        `recovered`: a resent packet that the ledger knows, equal to the first one as far as the
        ledger shows (docs/protocol.md). It was admitted, routed and priced before, and its money is
        held or posted: it is resent to the next hop under the same packet id, and gets the same
        answer. `now_ms`: the time, if the caller has just read it; zero: it is read.
        """
        if not now_ms:
            now_ms = self._now_ms()
        node = self.node
        if recovered is None:
            # 1. Admission.
            refusal = rules.check(node, source, prepare, now_ms)
            if refusal is not None:
                return _rejected(refusal)
            # 2. and 3. Routing, and the terms for the next hop.
            destination = prepare.destination
            if destination.startswith("peer."):
                if destination == settle.DESTINATION:
                    return (yield from self._settle(source, prepare, packet_id, now_ms))
                return self._peer_protocol(source, prepare)
            offer = self._offer(source, prepare, packet_id, now_ms)
        elif recovered.fulfill:
            return self._answer_kept(prepare, recovered)
        elif recovered.reservation.is_free:
            former = self._of_former_wallet(prepare, recovered)
            if former is not None:
                return former
            return self._refuse(Code.T00_INTERNAL_ERROR, "given back before")
        else:
            offer = self._former_offer(source, prepare, recovered, now_ms)
        if isinstance(offer, Result):
            if recovered is not None and not recovered.reservation.posted:
                yield Void(recovered.reservation)
            return offer
        next_hop, hop_id, deadline_ms = offer.next_hop, offer.hop_id, offer.deadline_ms
        until_ms = deadline_ms
        if recovered is not None:
            # Also if it has expired (`is_over`). The next hop is told its own expiry: if it does not
            # know the packet, it refuses it.
            if source.peer_id == LOCAL:
                until_ms = max(deadline_ms, now_ms + bounds.OWN_ANSWER_MS)
            elif recovered.reservation.posted:
                until_ms = max(deadline_ms, now_ms + bounds.POSTED_ANSWER_MS)
        if next_hop is None and offer.arrival is not None:
            # Before anything is held: what is held for a wallet was accepted, also after a restart.
            refused = yield from self._decide(source, offer.arrival, deadline_ms)
            if refused is not None:
                return refused
        # 4. Reserve: hold the money before the Prepare is sent.
        held: Reservation | None = None
        metered = False
        if recovered is not None:
            held = recovered.reservation
        elif prepare.amount:
            metered = terms.is_metered(offer)
            if metered and (refusal := terms.meter(offer, now_ms, node.address)) is not None:
                return _rejected(refusal, hop_id)
            booked: Reservation | Outcome = yield Reserve(
                source.terms,
                offer.payee,
                prepare.amount,
                offer.fee,
                offer.amount,
                prepare.condition,
                deadline_ms + offer.mark_ms + self._window_ms - now_ms,
            )
            if isinstance(booked, Outcome):
                if metered:
                    terms.give_back(offer, now_ms, self._now_ms())
                return self._refuse(*_REFUSALS[booked], hop_id)
            held = booked
            if next_hop is not None and self._now_ms() >= deadline_ms:
                # The ledger took so long that the Prepare cannot be sent any more.
                yield Void(held)
                if metered:
                    terms.give_back(offer, now_ms, self._now_ms())
                return self._refuse(
                    Code.R00_TRANSFER_TIMED_OUT, "no time left after accounting", hop_id
                )
        # 5. Send or deliver, and wait for the answer.
        said: object
        if next_hop is not None:
            octets = reprice(prepare, amount=offer.amount, expires_at_ms=deadline_ms)
            if recovered is None:
                self.loops.began(offer)
            said = yield Send(next_hop, octets, until_ms, packet_id, again=recovered is not None)
            if recovered is None:
                self.loops.ended(offer)
        else:
            said = offer.known
            if offer.arrival is not None:
                if self._now_ms() < until_ms:
                    assert self._wallets is not None
                    said = self._wallets.fulfill(offer.arrival)
                else:
                    said = Unanswered.TIMED_OUT
            elif said is None and self._delivers():
                said = yield Deliver(source, prepare, until_ms, packet_id)
        # 6. Check the answer.
        answer = self._check(prepare, said, next_hop, until_ms)
        if type(answer) is Reject:
            if metered:
                terms.give_back(offer, now_ms, self._now_ms())
            if held is not None and not held.posted:
                yield Void(held)
            if answer.code in ways.CODES and next_hop is not None and recovered is None:
                # Nothing is promised any more: another next hop may take it.
                second = yield from self._go_second_way(offer, packet_id, said, answer)
                if second is not None:
                    return second
            return _rejected(answer, hop_id)
        # 7. Post or void, then answer.
        octets = answer.wire or encode(answer)
        if held is not None and not held.posted:
            by_ms = prepare.expires_at_ms
            yield Post(held, max(until_ms, by_ms), octets)
            if next_hop is None and offer.paid is not None:
                assert self._wallets is not None
                self._wallets.received(offer.paid, offer.amount)
        result = Result(
            octets,
            code=None,
            next_hop=hop_id,
            amount_out=offer.amount,
            fee=offer.fee,
        )
        yield result
        return result

    def _decide(
        self, source: Peer, arrival: Arrival, deadline_ms: int
    ) -> Generator[Step, Any, Result | None]:
        """Have it decided whether data of a payment to a wallet is accepted; None: go on."""
        assert self._wallets is not None
        question = self._wallets.question(arrival)
        if question is None:
            return None
        now_ms = self._now_ms()
        until_ms = min(deadline_ms, now_ms + bounds.DATA_ANSWER_MS_MAX)
        said = yield Ask(source, question, until_ms)
        if not isinstance(said, Decision):
            # It may be asked again: the payer is told to try later.
            if said is Unanswered.BUSY:
                return self._refuse(Code.T03_CONNECTOR_BUSY, "receiver is busy", LOCAL)
            why = "did not answer in time" if said is Unanswered.TIMED_OUT else "failed"
            return self._refuse(Code.T00_INTERNAL_ERROR, f"receiver {why}", LOCAL)
        if not said.accept:
            return _rejected(self._wallets.decline(arrival, said.message), LOCAL)
        closed = self._wallets.accepted(arrival)
        if closed is not None:
            return _rejected(closed, LOCAL)
        if self._now_ms() >= deadline_ms:
            return self._refuse(
                Code.R00_TRANSFER_TIMED_OUT, "receiver did not answer in time", LOCAL
            )
        return None

    def _go_second_way(
        self, first: Offer, packet_id: int, said: object, refusal: Reject
    ) -> Generator[Step, Any, Result | None]:
        """Send a packet that its next hop has refused another way, once; see `ways`.

        None: the first answer, `refusal`, stands; nothing is held then.
        """
        way = ways.SecondWay()
        now_ms = self._now_ms()
        offer = self._other_offer(first, said, refusal, now_ms)
        if offer is None:
            way.move(WayEvent.NO_OTHER)
            return None
        way.move(WayEvent.OTHER)
        metered = terms.is_metered(offer)
        if metered and terms.meter(offer, now_ms, self.node.address) is not None:
            way.move(WayEvent.NOT_HELD)
            return None
        yield Rename(second_id(packet_id))
        result = yield from self._second_result(way, offer, second_id(packet_id), now_ms)
        if metered and (result is None or result.code is not None):
            terms.give_back(offer, now_ms, self._now_ms())
        yield Rename(packet_id)
        assert (result is None) is (way.step is WayStep.FIRST), way.step
        if result is not None and result.code is None:
            self.ways.fulfilled += 1
        return result

    def _second_result(
        self, way: ways.SecondWay, offer: Offer, packet_id: int, now_ms: int
    ) -> Generator[Step, Any, Result | None]:
        """Hold, send, check, and post or void, as `forward` does it; `packet_id`: that of the second way."""
        prepare, next_hop, deadline_ms = offer.prepare, offer.next_hop, offer.deadline_ms
        assert next_hop is not None
        held: Reservation | None = None
        if prepare.amount:
            booked: Reservation | Outcome = yield Reserve(
                offer.source.terms, offer.payee, prepare.amount, offer.fee, offer.amount,
                prepare.condition, deadline_ms + self._window_ms - now_ms,
            )  # fmt: skip
            if isinstance(booked, Outcome):
                way.move(WayEvent.NOT_HELD)
                return None
            held = booked
            if self._now_ms() >= deadline_ms:
                way.move(WayEvent.TOO_LATE)
                yield Void(held)
                return None
        way.move(WayEvent.HELD)
        self.ways.tried += 1
        octets = reprice(prepare, amount=offer.amount, expires_at_ms=deadline_ms)
        self.loops.began(offer)
        said = yield Send(next_hop, octets, deadline_ms, packet_id)
        self.loops.ended(offer)
        answer = self._check(prepare, said, next_hop, deadline_ms)
        was_sent = said is not Unanswered.NOT_SENT and said is not Unanswered.BUSY
        way.move(WayEvent.ANSWERED if was_sent else WayEvent.NOT_SENT)
        if isinstance(answer, Reject):
            if held is not None:
                yield Void(held)
            return _rejected(answer, offer.hop_id) if was_sent else None
        octets = answer.wire or encode(answer)
        if held is not None:
            yield Post(held, prepare.expires_at_ms, octets)
        return Result(
            octets, code=None, next_hop=offer.hop_id, amount_out=offer.amount, fee=offer.fee
        )

    def _other_offer(
        self, first: Offer, said: object, refusal: Reject, now_ms: int
    ) -> Offer | None:
        """What is offered to another next hop than that of `first`; None: it goes no other way."""
        source, prepare, hop = first.source, first.prepare, first.next_hop
        assert hop is not None
        own_address = self.node.address
        if (
            self.node.stopping
            or source.draining
            or self.loops.has_passed(prepare)
            or first.lap_ms
            or (
                type(said) is bytes
                and not ways.refuses_itself(
                    hop, self._routes, prepare.destination, refusal.triggered_by, own_address
                )
            )
        ):
            return None
        other = next(
            ways.others(self._routes, self._peers, prepare.destination, source, hop.peer_id), None
        )
        if other is None:
            return None
        _, next_hop = other
        amounts = terms.amounts(
            source.terms, next_hop.terms, prepare.amount, self._rates, own_address
        )
        deadline_ms = terms.onward_expiry_ms(
            prepare.expires_at_ms, now_ms, self._window_ms, self._hold_ms_max, own_address
        )
        if isinstance(amounts, Reject) or isinstance(deadline_ms, Reject):
            return None
        return Offer(
            source, prepare, next_hop, next_hop.terms, amounts.onward, amounts.fee, deadline_ms
        )

    def _answer_kept(self, prepare: Prepare, recovered: Recovered) -> Result:
        """Answer with the kept Fulfill: its packet is posted, or its post is queued."""
        fulfill = decode(recovered.fulfill)
        assert isinstance(fulfill, Fulfill), fulfill
        if hashlib.sha256(fulfill.fulfillment).digest() != prepare.condition:
            # The ledger has only 96 bits of the first packet's condition, so the Fulfill is checked.
            return self._refuse(Code.F00_BAD_REQUEST, "packet id was used before")
        reservation = recovered.reservation
        return Result(
            recovered.fulfill,
            code=None,
            next_hop=recovered.next_hop_id,
            # Without the accounts of a next hop that was removed it is not known.
            amount_out=_amount_to(recovered.next_hop_id, reservation) if reservation.books else 0,
        )

    def next_hops_of(self, destination: str) -> list[Peer]:
        """The peers that packets for this address may go to, the best first."""
        route = self._routes.find(destination)
        ids = (
            () if route is None else [one.next_hop for one in self._routes.candidates(route.prefix)]
        )
        return [peer for peer in map(self._peers.get, ids) if peer is not None]

    def rate(self, here: Asset, there: Asset) -> Fraction | None:
        """Units of `there` for one unit of `here`, as packets are converted now; None: no rate."""
        ratio = (1, 1) if here == there else self._rates.ratio(here, there)
        return None if ratio is None else Fraction(*ratio)

    def refuse_resent(self) -> PacketFlow:
        """Reject a packet that reuses the id of another one, or is resent after its answer was read."""
        yield from ()
        return self._refuse(Code.F00_BAD_REQUEST, "packet id was used before")

    def refuse_expiry(self) -> PacketFlow:
        """Reject a packet that could be resent for longer than it is remembered."""
        yield from ()
        return self._refuse(Code.F00_BAD_REQUEST, "expires too late")

    def answers_itself(self, prepare: Prepare) -> bool:
        """Whether this node computes the Fulfill of a packet itself: ping, RECEIVER_SECRET, STREAM.

        There is no delivery, so a resent packet of this kind is answered again, always the same.
        """
        return receiver.answer(prepare, self._receiver_secret) is not None or (
            self._wallets is not None and self._wallets.fulfills(prepare)
        )

    def may_have_held(self, prepare: Prepare) -> bool:
        """Whether money can have been held for a packet to this destination.

        The ledger does not have the destination of a packet that it knows; to these none is forwarded.
        """
        return not prepare.destination.startswith(("peer.", *self.node.foreign_prefixes))

    def must_wait(self, source: Peer, prepare: Prepare, *, posted: bool) -> bool:
        """Whether a resent packet whose money is held or posted must be resent later.

        The rules that bound work apply to it as to any packet. One that is over is answered without
        work.
        """
        if self.is_over(prepare, posted=posted):
            return False
        now_ms = self._now_ms()
        return rules.check(self.node, source, prepare, now_ms, is_new=False) is not None

    def is_over(self, prepare: Prepare, *, posted: bool) -> bool:
        """Whether nothing is done any more for a packet that the ledger knows, or may know.

        `posted`: its money is posted, or may be. It is owed, so it is answered with its Fulfill also
        if it has expired by a clock that is ahead; no clock is further ahead than `CLOCK_ERROR_MS`.
        """
        over_ms = self._now_ms() - prepare.expires_at_ms
        return over_ms > limits.CLOCK_ERROR_MS if posted else over_ms >= 0

    def ask(
        self, next_hop: Peer, prepare: Prepare, packet_id: int, deadline_ms: int | None = None
    ) -> PacketFlow:
        """Send a request to a peer itself (`peer.config`): not routed, no money moves.

        `deadline_ms`: when we stop waiting, if that is before it expires.
        """
        if deadline_ms is None:
            deadline_ms = prepare.expires_at_ms
        said = yield Send(next_hop, encode(prepare), deadline_ms, packet_id)
        answer = self._check(prepare, said, next_hop, deadline_ms)
        if isinstance(answer, Reject):
            return _rejected(answer, next_hop.peer_id)
        return Result(answer.wire or encode(answer), code=None, next_hop=next_hop.peer_id)

    def _check(
        self, prepare: Prepare, said: object, next_hop: Peer | None, deadline_ms: int
    ) -> Answer:
        """The answer to pass on: a Fulfill only with the right preimage and in time.

        RFC 22: executed only if the preimage matches and came before the expiry on that link.
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
        if _sha256(answer.fulfillment).digest() != prepare.condition:
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

    def _offer(self, source: Peer, prepare: Prepare, packet_id: int, now_ms: int) -> Offer | Result:
        """Steps 2 and 3 of a new packet: its next hop, the amount and the expiry for it."""
        route = self._routes.find(prepare.destination)
        if route is None:
            if self._routes.missed.holds(prepare.destination):
                return self._refuse(Code.T01_PEER_UNREACHABLE, "no route at the moment")
            return self._refuse(Code.F02_UNREACHABLE, "no route found")
        next_hop: Peer | None = None
        lap = mark = 0
        if route.next_hop != LOCAL:
            next_hop = self._peers.get(route.next_hop)
            if next_hop is None:
                return self._refuse(Code.F02_UNREACHABLE, "no route found")
            if next_hop.away and not self.loops.has_passed(prepare):
                # Nothing is held yet, so a packet that would get T01 may go another way; one that has come
                # back from there may not.
                route, next_hop = next(
                    ways.others(
                        self._routes, self._peers, prepare.destination, source, route.next_hop
                    ),
                    (route, next_hop),
                )
            if next_hop is source and not source.terms.allow_reflection:
                # A neighbour that has announced this way and sends us the packet is about to tell us more.
                code = Code.F02_UNREACHABLE if route.learned is None else Code.T01_PEER_UNREACHABLE
                return self._refuse(code, "the route leads back to the sender")
            first = self.loops.find(prepare)
            if first is not None:
                lap = lap_ms(first, prepare, next_hop)
                if lap and self.loops.refuses(first, lap, source, prepare, route, now_ms):
                    return self._refuse(Code.F02_UNREACHABLE, "routing loop", next_hop.peer_id)
                if lap:
                    mark = mark_ms(first, lap, source, packet_id)
            payee = next_hop.terms
            amounts = terms.amounts(
                source.terms, payee, prepare.amount, self._rates, self.node.address
            )
            if isinstance(amounts, Reject):
                return _rejected(amounts, next_hop.peer_id)
            onward, fee = amounts.onward, amounts.fee
        else:
            arrived = None
            if self._wallets is not None and prepare.condition != receiver.PING_CONDITION:
                arrived = self._arrived(source, prepare, now_ms)
            if arrived is not None:
                return arrived
            if prepare.destination == f"{self.node.address}.{PAYER}":
                return self._refuse(Code.T00_INTERNAL_ERROR, "a payer takes no packets", LOCAL)
            payee = self._terms_here(source.terms.asset)
            onward, fee = prepare.amount, 0
        onward_ms = terms.onward_expiry_ms(
            prepare.expires_at_ms, now_ms, self._window_ms, self._hold_ms_max, self.node.address
        )
        if isinstance(onward_ms, Reject):
            return _rejected(onward_ms, payee.peer_id)
        if mark and onward_ms - mark - now_ms < self._window_ms:
            mark = 0  # it will not come back a second time
        deadline_ms = onward_ms - mark
        known: Fulfill | None = None
        if next_hop is None:
            known = receiver.answer(prepare, self._receiver_secret)
            if known is None and not self._delivers():
                return self._refuse(Code.F06_UNEXPECTED_PAYMENT, "unexpected payment", LOCAL)
        offer = Offer(source, prepare, next_hop, payee, onward, fee, deadline_ms, known)
        offer.lap_ms = lap
        offer.mark_ms = mark
        return offer

    def _arrived(self, source: Peer, prepare: Prepare, now_ms: int) -> Offer | Result | None:
        """What becomes of a packet to a wallet of this node; None: it is to none.

        The wallet has one asset, so the amount is converted as for any next hop.
        """
        assert self._wallets is not None
        connection = self._wallets.find(prepare.destination)
        if connection is None:
            return None
        payee = self._wallet_terms[connection.wallet]
        amounts = terms.amounts(source.terms, payee, prepare.amount, self._rates, self.node.address)
        if isinstance(amounts, Reject):
            return _rejected(amounts, LOCAL)
        deadline_ms = terms.onward_expiry_ms(
            prepare.expires_at_ms, now_ms, self._window_ms, self._hold_ms_max, self.node.address
        )
        if isinstance(deadline_ms, Reject):
            return _rejected(deadline_ms, LOCAL)
        arrival = self._wallets.arrived(connection, prepare, amounts.onward)
        if isinstance(arrival, Reject):
            return _rejected(arrival, LOCAL)
        offer = Offer(source, prepare, None, payee, amounts.onward, amounts.fee, deadline_ms)
        offer.arrival = arrival
        offer.paid = connection
        return offer

    def _terms_here(self, asset: Asset) -> PeerTerms:
        """The terms of this node as a payee."""
        known = self._own_terms
        if known is None or known.asset is not asset:
            known = self._own_terms = PeerTerms(peer_id=LOCAL, asset=asset)
        return known

    def _former_offer(
        self, source: Peer, prepare: Prepare, recovered: Recovered, now_ms: int
    ) -> Offer | Result:
        """The offer made before for a packet that the ledger knows."""
        reservation = recovered.reservation
        deadline_ms = terms.answer_by_ms(
            prepare.expires_at_ms, now_ms, self._window_ms, self._hold_ms_max
        )
        posted = reservation.posted
        is_over = self.is_over(prepare, posted=posted) or (deadline_ms <= now_ms and not posted)
        if source.peer_id == LOCAL:
            # Of our own, which is resent once: nobody waits for its answer, and nobody else pays for it.
            is_over = False
        payee_id = recovered.next_hop_id
        if payee_id == LOCAL:
            payee = self._terms_here(source.terms.asset)
            amount = _amount_to(payee_id, reservation)
            known = receiver.answer(prepare, self._receiver_secret)
            connection = None
            if known is None and self._wallets is not None:
                connection = self._wallets.find_former(prepare.destination)
                if connection is not None:
                    known = self._wallets.again(connection, prepare, amount)
            if known is None and is_over:
                return self._refuse(Code.T00_INTERNAL_ERROR, "restarted meanwhile")
            offer = Offer(source, prepare, None, payee, amount, 0, deadline_ms, known)
            offer.paid = None if known is None else connection
            return offer
        next_hop = self._peers.get(payee_id)
        if next_hop is None or is_over:
            return self._refuse(Code.T00_INTERNAL_ERROR, "restarted meanwhile")
        onward = _amount_to(payee_id, reservation)
        return Offer(source, prepare, next_hop, next_hop.terms, onward, 0, deadline_ms)

    def _of_former_wallet(self, prepare: Prepare, recovered: Recovered) -> Result | None:
        """The Fulfill of a packet that is posted to a wallet which is not configured any more."""
        if not recovered.was_posted or self._wallets is None:
            return None
        connection = self._wallets.find_former(prepare.destination)
        if connection is None:
            return None
        amount = _amount_to(LOCAL, recovered.reservation)
        fulfill = self._wallets.again(connection, prepare, amount)
        if fulfill is None:
            return None
        return Result(encode(fulfill), code=None, next_hop=LOCAL, amount_out=amount)

    def _peer_protocol(self, source: Peer, prepare: Prepare) -> Result:
        """`peer.` is for the receiving peer only: answered here, never forwarded (RFC 15)."""
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
            address=ildcp.child_address(self.node.address, source.terms.child_segment),
            asset_scale=asset.scale,
            asset_code=asset.code,
        )
        return Result(encode(ildcp.answer(config)), code=None, next_hop=LOCAL)

    def _settle(self, source: Peer, prepare: Prepare, packet_id: int, now_ms: int) -> PacketFlow:
        """Pass a message of the peer's settlement engine to ours (RFC 38): no money moves."""
        if prepare.amount:
            return _rejected(
                settle.refusal(Code.F01_INVALID_PACKET, "peer.settle carries no money"), LOCAL
            )
        deadline_ms = min(prepare.expires_at_ms, now_ms + self._hold_ms_max)
        said = yield Deliver(source, prepare, deadline_ms, packet_id)
        if isinstance(said, Unanswered):
            said = settle.refusal(_UNANSWERED_CODES[said], "no answer from the settlement engine")
        if isinstance(said, Reject):
            return _rejected(said, LOCAL)
        # The condition of RFC 38 has no known preimage to check: any fulfillment is accepted.
        return Result(encode(said), code=None, next_hop=LOCAL)

    def _refuse(self, code: Code, message: str, next_hop: str | None = None) -> Result:
        return _rejected(reject(code, self.node.address, message), next_hop)


def _amount_to(next_hop_id: str, reservation: Reservation) -> int:
    """The amount for the next hop of a recovered packet, or for this node's wallet."""
    if next_hop_id == LOCAL:
        # A fee's leg may come after it.
        return next(
            leg.amount for leg in reversed(reservation.legs) if leg.code != TransferCode.FEE
        )
    for leg, (_, credit) in zip(reservation.legs, reservation.books, strict=True):
        if credit.peer_id == next_hop_id:
            return leg.amount
    raise AssertionError(f"no leg credits {next_hop_id}")


def _rejected(answer: Reject, next_hop: str | None = None) -> Result:
    return Result(
        answer.wire or encode(answer),
        code=answer.code,
        next_hop=next_hop,
        message=answer.message,
        triggered_by=answer.triggered_by,
    )
