"""Runs packet flows: performs each step that a flow yields and resumes it with the outcome.

No task, no await and no callback object per packet: a `Flight` holds a flow and the destination of
its answer. Links call `arrived` and `answered`, the `AccountManager` calls `booked`, a timer `tick`.

Packets of peers that send packet ids are idempotent (docs/protocol.md): a resent packet joins the
flow in progress, or gets the answer that was given. It must equal the first one. If the answer may
have been dropped, or was given by an earlier process, the packet is looked up in the ledger before
it counts as new.

Long because every event of a packet (link, ledger, receiver, timer) changes the same tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol, cast

from connector.accounting.entries import Reserve, condition_tag
from connector.accounting.manager import AccountManager
from connector.accounting.promises import Outcome, Reservation
from connector.accounting.resent import Recovered
from connector.base import limits
from connector.base.errors import DecodeError
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, decode_prepare, encode, reject
from connector.ledger.model import SECOND_WAY
from connector.peering.model import LOCAL, Peer, Unanswered
from connector.stream.questions import Decision
from connector.switch import bounds
from connector.switch.flight import NEVER_MS, Flight, ReplyTo, Trace, fingerprint, same_packet
from connector.switch.inbox import Asked, Inbox, Inboxes
from connector.switch.switch import Ask, Deliver, Post, Rename, Result, Send, Step, Switch, Void

PACKET_ID_MAX: Final = (1 << 128) - 1
CCP_DESTINATIONS: Final = "peer.route."
"""How the destinations of requests about routes begin."""


class Outlet(Protocol):
    """The connections to next hops."""

    def send(self, flight: Flight) -> Unanswered | None:
        """Send `flight.octets` to `flight.next_hop`; the answer comes through `answered`."""

    def can_ask_again(self, next_hop: Peer) -> bool:
        """Whether a packet sent to `next_hop` now could be resent after a restart."""

    def forget(self, flights: Collection[Flight]) -> None:
        """Stop waiting for the answers to these; late ones are ignored."""


class Observer(Protocol):
    """Called for each packet; must not block."""

    def began(self, flight: Flight) -> Trace | None:
        """A Prepare arrived; returns a trace if its times are to be recorded."""

    def forwarded(self, flight: Flight, trace: Trace) -> None:
        """It was sent to its next hop. Called only for packets with a trace."""

    def unreadable(self, source: Peer, packet_id: int, message: str) -> None:
        """A packet from `source` that is not a valid Prepare was refused."""

    def ended(self, flight: Flight, result: Result) -> None:
        """A Prepare was answered."""


class Driver:
    """See the module."""

    def __init__(
        self,
        *,
        switch: Switch,
        accounts: AccountManager,
        outlet: Outlet,
        deliver: Callable[[Flight, Deliver], None],
        observer: Observer,
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        ask_about: Callable[[Flight, Ask], None] | None = None,
    ) -> None:
        self._switch = switch
        self._accounts = accounts
        self._outlet = outlet
        self._deliver = deliver
        self._ask_about = ask_about
        self._observer = observer
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s
        self._inboxes = Inboxes()
        # Answers to this node itself are not kept: it has read each at once, or has crashed.
        self._inboxes.get(LOCAL).forgotten_id_max = PACKET_ID_MAX
        self._asking: dict[str, Inbox] = {}
        self._waiting: dict[Flight, None] = {}
        self._next_deadline_ms = NEVER_MS
        self._answer_control: Callable[[Peer, Prepare, ReplyTo, int], None] | None = None
        self._first_packet_id = 0
        """The first id that this process gave to a peer's packet; ids only rise."""

    def attach_control(self, answer: Callable[[Peer, Prepare, ReplyTo, int], None]) -> None:
        """Let `answer` answer requests about routes (CCP), at once or later.

        They are no packets: not counted, not shown.
        """
        self._answer_control = answer

    # --- from the links

    def arrived(
        self,
        source: Peer,
        octets: bytes,
        sender_packet_id: int,
        reply_to: ReplyTo,
        request_id: int,
        again: bool = False,
    ) -> None:
        """A Message with an ILP packet arrived from `source`; `again`: it may be a resent one."""
        node = self._switch.node
        try:
            prepare = decode_prepare(octets)
        except DecodeError as error:
            message = f"unreadable packet: {error.field}"
            answer = encode(reject(Code.F01_INVALID_PACKET, node.address, message))
            reply_to.reply(request_id, answer)
            source.counters.rejected_in += 1
            by_code = source.counters.rejected_in_by_code
            by_code["F01"] = by_code.get("F01", 0) + 1
            self._observer.unreadable(source, self._accounts.new_packet_id(), message)
            return
        if (
            not prepare.amount
            and self._answer_control is not None
            and prepare.destination.startswith(CCP_DESTINATIONS)
        ):
            # Bounded by their handler. One that is resent is answered again.
            self._answer_control(source, prepare, reply_to, request_id)
            return
        if not sender_packet_id:
            self._begin(None, source, prepare, 0, reply_to, request_id)
            return
        inbox = self._inboxes.get(source.peer_id)
        flight = inbox.open.get(sender_packet_id)
        if flight is not None:
            if not same_packet(flight.prepare, prepare):
                self._refuse_resent(source, prepare, reply_to, request_id)
                return
            # Resent over a new connection: the answer goes over that one.
            source.counters.resent_in += 1
            flight.reply_to = reply_to
            flight.request_id = request_id
            return
        given = inbox.find(sender_packet_id)
        if given is not None:
            if given.fingerprint != fingerprint(prepare):
                self._refuse_resent(source, prepare, reply_to, request_id)
                return
            source.counters.resent_in += 1
            reply_to.reply(request_id, given.octets)
            return
        if sender_packet_id in inbox.asked:
            # It waits for a look-up already. Taken as new meanwhile, it would be paid twice.
            self._ask_ledger(inbox, sender_packet_id, Asked(source, prepare, reply_to, request_id))
            return
        if again and (sender_packet_id <= inbox.forgotten_id_max or self._accounts.may_know_former):
            former = self._accounts.find_recovered(source.peer_id, sender_packet_id)
            if former is None or former.may_be_kept:
                asked = Asked(source, prepare, reply_to, request_id)
                self._ask_ledger(inbox, sender_packet_id, asked)
                return
        self._begin(inbox, source, prepare, sender_packet_id, reply_to, request_id)

    def _begin(
        self,
        inbox: Inbox | None,
        source: Peer,
        prepare: Prepare,
        sender_packet_id: int,
        reply_to: ReplyTo,
        request_id: int,
    ) -> None:
        accounts = self._accounts
        recovered = None
        if inbox is not None:
            recovered = accounts.find_recovered(source.peer_id, sender_packet_id)
        if recovered is None:
            now_ms = self._now_ms()
            packet_id = accounts.new_packet_id(now_ms)
            if not self._first_packet_id:
                self._first_packet_id = packet_id
            if inbox is None or prepare.expires_at_ms <= now_ms + limits.EXPIRY_MS_MAX:
                flow = self._switch.forward(source, prepare, packet_id, None, now_ms)
            else:
                flow = self._switch.refuse_expiry()
        else:
            assert inbox is not None
            if not self._may_resume(inbox, source, prepare, recovered, reply_to, request_id):
                return
            taken = accounts.take_recovered(source.peer_id, sender_packet_id, prepare.condition)
            assert taken is recovered, sender_packet_id
            source.counters.resent_in += 1
            packet_id = recovered.reservation.packet_id
            flow = self._switch.forward(source, prepare, packet_id, recovered)
        flight = Flight(flow, source, prepare, packet_id, sender_packet_id, reply_to, request_id)
        if inbox is not None:
            assert sender_packet_id not in inbox.open, sender_packet_id
            assert sender_packet_id not in inbox.asked, sender_packet_id
            inbox.open[sender_packet_id] = flight
        self._start(flight)

    def _may_resume(
        self,
        inbox: Inbox,
        source: Peer,
        prepare: Prepare,
        recovered: Recovered,
        reply_to: ReplyTo,
        request_id: int,
    ) -> bool:
        """Whether the flow of a packet that the ledger knows is resumed now.

        Otherwise it is refused, or left without an answer until it is resent: its money is held or
        posted, so that a Reject with "try later" would be wrong.
        """
        reservation = recovered.reservation
        if (
            recovered.condition_tag != condition_tag(prepare.condition)
            or prepare.amount != _amount_in(reservation)
            or not self._switch.may_have_held(prepare)
        ):
            self._refuse_resent(source, prepare, reply_to, request_id)
            return False
        if (
            reservation.posted
            and not recovered.fulfill
            and recovered.next_hop_id == LOCAL
            and 0 < self._first_packet_id <= reservation.packet_id
            and inbox.was_read(recovered.sender_packet_id)
            and not self._switch.answers_itself(prepare)
        ):
            # Answered by this process, and the peer has read the answer: not delivered again.
            self._refuse_resent(source, prepare, reply_to, request_id)
            return False
        posted = reservation.posted
        if self._switch.must_wait(source, prepare, posted=posted) or (
            recovered.may_be_kept and not self._switch.is_over(prepare, posted=posted)
        ):
            self._ask_ledger(
                inbox, recovered.sender_packet_id, Asked(source, prepare, reply_to, request_id)
            )
            return False
        return True

    def _refuse_resent(
        self, source: Peer, prepare: Prepare, reply_to: ReplyTo, request_id: int
    ) -> None:
        """Reject a packet that reuses an id, without effect on the packet with that id."""
        source.counters.resent_refused += 1
        packet_id = self._accounts.new_packet_id()
        flow = self._switch.refuse_resent()
        # Without the sender's packet id: the answer is not kept under it.
        self._start(Flight(flow, source, prepare, packet_id, 0, reply_to, request_id))

    def originate(
        self, source: Peer, prepare: Prepare, reply_to: ReplyTo, sender_packet_id: int = 0
    ) -> None:
        """Forward a Prepare of this node itself, for the first time.

        With an id it can be resent: `arrived` with `again`. Zero: it is not.
        """
        if sender_packet_id:
            inbox = self._inboxes.get(source.peer_id)
            self._begin(inbox, source, prepare, sender_packet_id, reply_to, 0)
            return
        packet_id = self._accounts.new_packet_id()
        flow = self._switch.forward(source, prepare, packet_id)
        self._start(Flight(flow, source, prepare, packet_id, 0, reply_to, 0))

    def ask(self, source: Peer, next_hop: Peer, prepare: Prepare, reply_to: ReplyTo) -> None:
        """Send a request of this node to a peer (peer protocols)."""
        packet_id = self._accounts.new_packet_id()
        flow = self._switch.ask(next_hop, prepare, packet_id)
        self._start(Flight(flow, source, prepare, packet_id, 0, reply_to, 0))

    def ask_quietly(
        self,
        source: Peer,
        next_hop: Peer,
        prepare: Prepare,
        reply_to: ReplyTo,
        deadline_ms: int,
    ) -> None:
        """`ask` about addresses or routes: neither counted nor shown, and over by `deadline_ms`."""
        packet_id = self._accounts.new_packet_id()
        flow = self._switch.ask(next_hop, prepare, packet_id, deadline_ms)
        flight = Flight(flow, source, prepare, packet_id, 0, reply_to, 0)
        flight.quiet = flight.counted = True
        self._resume(flight, None)

    def _start(self, flight: Flight) -> None:
        source = flight.source
        source.counters.prepares_in += 1
        flight.began_s = self._monotonic_s()
        flight.trace = self._observer.began(flight)
        self._resume(flight, None)

    def answered(self, flight: Flight, said: bytes | Unanswered) -> None:
        """The answer of the next hop, or why there is none; late answers are only counted."""
        if flight not in self._waiting:
            if flight.next_hop is not None:
                flight.next_hop.counters.answers_late += 1
            return
        del self._waiting[flight]
        if flight.trace is not None:
            flight.trace.answered_s = self._monotonic_s()
        self._resume(flight, said)

    def delivered(self, flight: Flight, said: Fulfill | Reject | Unanswered) -> None:
        """The answer of this node's own receiver."""
        if flight in self._waiting:
            del self._waiting[flight]
            if flight.trace is not None:
                flight.trace.answered_s = self._monotonic_s()
            self._resume(flight, said)

    def decided(self, flight: Flight, said: Decision | Unanswered) -> None:
        """Whether data of a payment is accepted."""
        if flight in self._waiting:
            del self._waiting[flight]
            self._resume(flight, said)

    def receipt(self, peer_id: str) -> None:
        """The peer has read all answers that were sent before it was pinged."""
        self._inboxes.get(peer_id).receipt(self._now_ms())

    def reconnected(self, peer_id: str) -> None:
        """The peer has a new connection: it may not have read answers sent over an older one."""
        self._inboxes.get(peer_id).reconnected(self._now_ms())

    def wants_receipt(self, peer_id: str) -> bool:
        """Whether answers to this peer are kept."""
        inbox = self._inboxes.by_peer.get(peer_id)
        return inbox is not None and inbox.keeps

    def answer_given(self, source_id: str, sender_packet_id: int) -> bytes | None:
        """The answer that was given to a packet, if it is still kept in memory."""
        inbox = self._inboxes.by_peer.get(source_id)
        given = None if inbox is None else inbox.find(sender_packet_id)
        return None if given is None else given.octets

    def waiting_for(self, peer: Peer) -> list[Flight]:
        """Prepares that were sent to `peer` and have no answer, oldest first."""
        return [flight for flight in self._waiting if flight.next_hop is peer]

    def waiting_by_peer(self) -> dict[str, int]:
        """How many Prepares that were sent to each peer have no answer; peers without any are left out."""
        counts: dict[str, int] = {}
        for flight in self._waiting:
            if not flight.quiet and flight.next_hop is not None:
                peer_id = flight.next_hop.peer_id
                counts[peer_id] = counts.get(peer_id, 0) + 1
        return counts

    # --- resent Prepares that are not known here

    def _ask_ledger(self, inbox: Inbox, sender_packet_id: int, asked: Asked) -> None:
        """Leave it without an answer until it has been looked up in the ledger.

        Any answer before that could be wrong: its money may be held or posted.
        """
        earlier = inbox.asked.get(sender_packet_id)
        if earlier is not None and not same_packet(earlier.prepare, asked.prepare):
            self._refuse_resent(asked.source, asked.prepare, asked.reply_to, asked.request_id)
            return
        if earlier is None and not self._may_ask(inbox, len(asked.prepare.data)):
            # More than can have been in flight: no answer at all, until they expire.
            return
        inbox.put_asked(sender_packet_id, asked)
        self._asking[asked.source.peer_id] = inbox

    def _may_ask(self, inbox: Inbox, octets: int) -> bool:
        """Whether there is room for one more; if not, the peer with the most loses some."""
        if (
            len(inbox.asked) >= bounds.PACKETS_ASKED_AGAIN_PER_PEER_MAX
            or inbox.asked_bytes + octets > limits.IN_FLIGHT_BYTES_PER_PEER_MAX
        ):
            return False
        asking = self._asking.values()
        while sum(len(one.asked) for one in asking) >= bounds.PACKETS_ASKED_AGAIN_MAX:
            most = max(asking, key=_asked_by)
            if len(most.asked) <= len(inbox.asked) + 1:
                return False
            most.take_asked(next(reversed(most.asked)))
        while sum(one.asked_bytes for one in asking) + octets > limits.IN_FLIGHT_BYTES_MAX:
            most = max(asking, key=_asked_bytes_by)
            if most.asked_bytes <= inbox.asked_bytes + octets or len(most.asked) < 2:
                return False
            most.take_asked(next(reversed(most.asked)))
        return True

    def to_look_up(self) -> list[tuple[str, int]]:
        """A bounded number of packets to look up in the ledger, by source and sender's packet id.

        Peers take turns, packet by packet; what was returned last time comes after all others.
        """
        if not self._asking:
            return []
        keys: list[tuple[str, int]] = []
        turns = deque((peer_id, iter(inbox.asked)) for peer_id, inbox in self._asking.items())
        while turns and len(keys) < bounds.PACKETS_LOOKED_UP_AT_ONCE_MAX:
            peer_id, ids = turns.popleft()
            sender_packet_id = next(ids, 0)
            if sender_packet_id:
                keys.append((peer_id, sender_packet_id))
                turns.append((peer_id, ids))
        for peer_id, sender_packet_id in keys:
            inbox = self._asking.pop(peer_id)
            self._asking[peer_id] = inbox
            inbox.asked[sender_packet_id] = inbox.asked.pop(sender_packet_id)
        return keys

    def give_up_asking(self) -> None:
        """Reject packets that are over, and still wait for their look-up."""
        self.looked_up(
            [
                (peer_id, id_)
                for peer_id, inbox in self._asking.items()
                for id_, asked in inbox.asked.items()
                if self._switch.is_over(asked.prepare, posted=self._may_be_posted(peer_id, id_))
            ]
        )

    def _may_be_posted(self, source_id: str, sender_packet_id: int) -> bool:
        """Whether a packet is posted, as far as it was found in the ledger."""
        former = self._accounts.find_recovered(source_id, sender_packet_id)
        return former is None or former.reservation.posted

    def looked_up(self, keys: Sequence[tuple[str, int]]) -> None:
        """These were looked up: the account manager knows which of them were accepted before."""
        for peer_id, sender_packet_id in keys:
            inbox = self._asking.get(peer_id)
            asked = None if inbox is None else inbox.take_asked(sender_packet_id)
            if inbox is None or asked is None:
                continue
            if not inbox.asked:
                del self._asking[peer_id]
            source, prepare = asked.source, asked.prepare
            reply_to, request_id = asked.reply_to, asked.request_id
            books = self._accounts.peers.get(peer_id)
            if peer_id == LOCAL and not self._accounts.find_recovered(peer_id, sender_packet_id):
                # It was held before it was resent. Taken as new, its receiver would be paid again.
                self._refuse_resent(source, prepare, reply_to, request_id)
            elif peer_id == LOCAL or (books is not None and not books.removed):
                self._begin(inbox, source, prepare, sender_packet_id, reply_to, request_id)

    # --- from the account manager

    def booked(self, flight: Flight, outcome: Outcome) -> None:
        """The outcome of a reservation or a post."""
        trace = flight.trace
        if outcome is Outcome.HELD:
            assert flight.reservation is not None, "a hold that nobody asked for"
            if trace is not None:
                trace.reserved_s = self._monotonic_s()
            self._resume(flight, flight.reservation)
        else:
            if trace is not None and outcome in (Outcome.POSTED, Outcome.RELEASED):
                trace.posted_s = self._monotonic_s()
            self._resume(flight, outcome)

    # --- time

    def tick(self) -> None:
        """End the wait of every packet whose deadline has passed (RFC 27, R00)."""
        now_ms = self._now_ms()
        if now_ms < self._next_deadline_ms:
            return
        late = {flight: None for flight in self._waiting if flight.deadline_ms <= now_ms}
        for flight in late:
            del self._waiting[flight]
        if late:
            self._outlet.forget(late.keys())
        for flight in late:
            self._resume(flight, Unanswered.TIMED_OUT)
        self._next_deadline_ms = min(
            (flight.deadline_ms for flight in self._waiting), default=NEVER_MS
        )

    @property
    def in_flight(self) -> int:
        """Prepares without an answer."""
        return self._switch.node.in_flight

    # --- steps

    def _resume(self, flight: Flight, outcome: object) -> None:
        flow = flight.flow
        while True:
            try:
                step: Step = flow.send(outcome)
            except StopIteration as end:
                self._end(flight, end.value)
                return
            kind = type(step)
            if kind is Reserve:
                outcome = self._reserve(flight, step)  # type: ignore[arg-type]
                if outcome is None:
                    return
            elif kind is Send:
                outcome = self._send(flight, step)  # type: ignore[arg-type]
                if outcome is None:
                    return
            elif kind is Post:
                self._post(flight, step)  # type: ignore[arg-type]
                return
            elif kind is Result:
                self._end(flight, step)  # type: ignore[arg-type]
                return
            elif kind is Void:
                flight.reservation = step.reservation  # type: ignore[union-attr]
                self._accounts.void(step.reservation)  # type: ignore[union-attr]
                outcome = None
            elif kind is Ask:
                assert self._ask_about is not None, "nobody is asked"
                self._wait(flight, step.deadline_ms)  # type: ignore[union-attr]
                self._ask_about(flight, step)  # type: ignore[arg-type]
                return
            elif kind is Rename:
                self._rename(flight, step)  # type: ignore[arg-type]
                outcome = None
            else:
                assert isinstance(step, Deliver), step
                if flight.sender_packet_id and not self._may_keep(flight):
                    outcome = Unanswered.BUSY
                    continue
                self._wait(flight, step.deadline_ms)
                self._deliver(flight, step)
                return

    def _reserve(self, flight: Flight, step: Reserve) -> Outcome | None:
        held = self._accounts.reserve(flight, flight.packet_id, flight.sender_packet_id, step)
        if type(held) is Outcome:
            return held
        if not flight.counted:
            self._count_in(flight)
        flight.reservation = cast(Reservation, held)
        if flight.trace is not None:
            flight.trace.asked = step
        return None

    def _rename(self, flight: Flight, step: Rename) -> None:
        """A packet goes another way (`ways`), or has been there: no look-up of its sender's id sees that."""
        if step.packet_id & SECOND_WAY:
            if flight.next_hop is not None:
                flight.next_hop.counters.rejected_out += 1
                flight.next_hop = None
            flight.reservation = None
        flight.packet_id = step.packet_id

    def _post(self, flight: Flight, step: Post) -> None:
        flight.reservation = reservation = step.reservation
        if flight.keeps:
            self._accounts.keep_and_post(flight, reservation, step.expires_at_ms, step.fulfill)
        else:
            self._accounts.post(flight, reservation, step.expires_at_ms, step.fulfill)

    def _may_keep(self, flight: Flight) -> bool:
        """Mark the Fulfill of a packet to be kept; False: no room for a new one, so it is rejected."""
        if flight.reservation is not None and not self._accounts.can_keep:
            return False
        flight.keeps = True
        return True

    def _send(self, flight: Flight, step: Send) -> Unanswered | None:
        if (
            flight.sender_packet_id
            and not self._outlet.can_ask_again(step.next_hop)
            and not self._may_keep(flight)
        ):
            return Unanswered.BUSY
        flight.next_hop = step.next_hop
        flight.octets = step.octets
        flight.packet_id = step.packet_id
        flight.again = step.again
        unanswered = self._outlet.send(flight)
        if unanswered is not None:
            flight.next_hop = None  # it was not sent anything that could be counted
            return unanswered
        if not flight.quiet:
            step.next_hop.counters.prepares_out += 1
        trace = flight.trace
        if trace is not None:
            trace.forwarded_s = self._monotonic_s()
            self._observer.forwarded(flight, trace)
        self._wait(flight, step.deadline_ms)
        return None

    def _wait(self, flight: Flight, deadline_ms: int) -> None:
        if not flight.counted:
            self._count_in(flight)
        flight.deadline_ms = deadline_ms
        self._waiting[flight] = None
        self._next_deadline_ms = min(self._next_deadline_ms, deadline_ms)

    def _count_in(self, flight: Flight) -> None:
        assert not flight.counted, "counted twice"
        flight.counted = True
        source = flight.source
        source.in_flight += 1
        if not flight.prepare.amount:
            source.in_flight_unpaid += 1
        node = self._switch.node
        node.in_flight += 1
        octets = len(flight.prepare.data)
        source.in_flight_bytes += octets
        node.in_flight_bytes += octets
        assert source.in_flight_unpaid <= source.in_flight <= node.in_flight
        assert octets <= source.in_flight_bytes <= node.in_flight_bytes

    def _end(self, flight: Flight, result: Result) -> None:
        if flight.quiet:
            flight.reply_to.reply(flight.request_id, result.octets)
            return
        source = flight.source
        counters = source.counters
        if flight.counted:
            source.in_flight -= 1
            if not flight.prepare.amount:
                source.in_flight_unpaid -= 1
            node = self._switch.node
            node.in_flight -= 1
            octets = len(flight.prepare.data)
            source.in_flight_bytes -= octets
            node.in_flight_bytes -= octets
            assert source.in_flight >= source.in_flight_unpaid >= 0
            assert node.in_flight >= source.in_flight
            assert node.in_flight_bytes >= source.in_flight_bytes >= 0
        next_hop = flight.next_hop
        if result.code is None:
            counters.fulfilled_in += 1
            counters.amount_in += flight.prepare.amount
            if next_hop is not None:
                next_hop.counters.fulfilled_out += 1
                next_hop.counters.amount_out += result.amount_out
        else:
            counters.rejected_in += 1
            code = result.code
            by_code = counters.rejected_in_by_code
            # Codes come from peers: the number of different ones that are counted is bounded.
            if code not in by_code and len(by_code) >= 64:
                code = "other"
            by_code[code] = by_code.get(code, 0) + 1
            if next_hop is not None:
                next_hop.counters.rejected_out += 1
        if flight.sender_packet_id:
            inbox = self._inboxes.get(source.peer_id)
            inbox.open.pop(flight.sender_packet_id, None)
            if source.peer_id != LOCAL:
                inbox.keep(flight.sender_packet_id, result.octets, fingerprint(flight.prepare))
        if not flight.reply_to.reply(flight.request_id, result.octets) and source.peer_id != LOCAL:
            counters.answers_undelivered += 1
        self._observer.ended(flight, result)


def _asked_by(inbox: Inbox) -> int:
    return len(inbox.asked)


def _asked_bytes_by(inbox: Inbox) -> int:
    return inbox.asked_bytes


def _amount_in(reservation: Reservation) -> int:
    """The amount that the sender of a reserved packet pays: the legs that debit its account."""
    payer = reservation.legs[0].debit_account_id
    amount = sum(leg.amount for leg in reservation.legs if leg.debit_account_id == payer)
    assert amount > 0, "nothing is held for a packet without an amount"
    return amount
