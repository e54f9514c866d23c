"""A hostile peer: it resends with other content, replays, floods, answers twice, does not read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from connector.simulation import octets
from connector.simulation.ends import End, Sent, address_of
from connector.simulation.facts import Fact
from connector.simulation.kinds import Kind
from connector.simulation.transport import Transport

SERVICE_RESTART: Final = 1012
FLOOD_PACKETS: Final = 200
_RETURNS_IN_S: Final = (0.05, 0.4, 3.0, 12.0, 34.0)
"""Also when its node has given it up."""


class HostileEnd(End):
    """An end that violates the protocol where the plan of a payment says so."""

    def __init__(self, *, register: Callable[[Fact, bytes], Fact], **options: Any) -> None:
        super().__init__(**options)
        self._register = register
        self.moves: dict[Kind, int] = {}
        self._repeated: dict[int, tuple[Sent, bytes, int]] = {}
        """By request id of the present connection: what was sent under the id of another packet,
        its condition and its amount."""
        self._paid: dict[bytes, set[int]] = {}
        """By packet id: the amounts that Fulfills came for."""
        self._to_come: set[bytes] = set()
        """Conditions of packets that will be sent again at their last moment."""
        self._flood_of: Fact | None = None
        """The payment that it has flooded with: it does so after each log-in."""
        self._restarts_left = 0
        """How often it still says that it is being replaced."""
        self._returns_in_s = 0.0
        """When it dials again after that."""

    def pay(self, fact: Fact) -> None:
        """Make a payment, and the planned violation."""
        super().pay(fact)
        move = fact.plan.hostile
        sent = self._sent.get(fact.condition)
        if move is None or sent is None:
            return
        self.moves[move] = self.moves.get(move, 0) + 1
        delay_s = self.chance.choice((0.0, 0.0005, 0.01, 0.2, 1.0, 3.0))
        match move:
            case Kind.RESEND_OTHER:
                self.world.after(delay_s, self._resend_other, sent)
            case Kind.REPLAY:
                for _ in range(self.chance.choice((1, 3))):
                    self.world.after(delay_s, self._replay, sent)
            case Kind.LAST_MOMENT if fact.plan.again_in_s:
                self._to_come.add(fact.condition)
                self.facts.open += 1
                self.world.after(fact.plan.again_in_s, self._at_last, sent)
            case Kind.NEVER_READ if self._transport is not None:
                self._transport.pause_reading()
                self.world.after(2 * delay_s, self._transport.resume_reading)
            case Kind.FLOOD:
                self._flood_of = fact
                self._flood(fact, again=0.5)
            case Kind.RESTART_AGAIN:
                self._restarts_left = self.chance.choice((1, 3, 8))
                self.world.after(delay_s, self._say_restart)
            case _:
                pass

    def _flood(self, fact: Fact, *, again: float) -> None:
        """`again`: the share of packets that are said to be resent, and have to be looked up."""
        for _ in range(FLOOD_PACKETS):
            self.send_octets(
                self.prepare(fact, 1, data=b"flood", destination="g.nowhere"),
                self.new_packet_id(),
                again=self.chance.random() < again,
            )

    def _say_restart(self) -> None:
        """Close with 1012, as a node that is replaced does; perhaps come back, and do it again."""
        if self._transport is None or self.connected_s is None:
            return
        self._restarts_left -= 1
        self._returns_in_s = self.chance.choice(_RETURNS_IN_S)
        self.facts.note(
            self.world.now_s, self.name, f"says that it is back in {self._returns_in_s:g} s"
        )
        closing = SERVICE_RESTART.to_bytes(2, "big") + b"back in a moment"
        self._transport.write(octets.frame(octets.CLOSE, closing))
        self._transport.close()

    def _dial_again(self) -> None:
        seconds, self._returns_in_s = self._returns_in_s, 0.0
        if seconds:
            self.world.after(seconds, self.dial)
        else:
            super()._dial_again()

    def _logged_in(self, packet: octets.BtpSeen) -> None:
        super()._logged_in(packet)
        if self._flood_of is not None and self.connected_s is not None:
            # A flood of resent packets just after a log-in, when other peers resend theirs as well.
            self._flood(self._flood_of, again=1.0)
        if self._restarts_left > 0:
            self.world.after(self.chance.choice((0.0, 0.05, 0.5)), self._say_restart)

    def _resend_other(self, sent: Sent) -> None:
        """Resend a packet id with another content."""
        if self.connected_s is None:
            return
        fact = sent.fact
        amount = fact.plan.amount
        what = self.chance.choice(("amount", "less", "condition", "data", "destination"))
        again = self.chance.random() < 0.8
        ilp = sent.octets
        other = fact
        match what:
            case "amount":
                amount = amount * self.chance.choice((2, 1000)) + 1
            case "less":
                amount //= 2
            case "condition":
                other = self._register(fact, b"other")
                other.expires_at_s = fact.expires_at_s
            case "data":
                ilp = self.prepare(fact, amount, data=b"something else")
            case _:
                ilp = self.prepare(fact, amount, destination=f"g.{self.node}.nobody")
        if what in ("amount", "less", "condition"):
            ilp = self.prepare(other, amount)
        other.amounts.add(amount)
        other.times += not again
        self.facts.note(
            self.world.now_s,
            self.name,
            f"sends its packet id again with another {what} ({amount})",
            fact.plan.number,
        )
        request_id = self.send_octets(ilp, sent.packet_id, again=again)
        self._repeated[request_id] = (sent, other.condition, amount)
        if self.chance.random() < 0.3:
            self.drop()

    def _replay(self, sent: Sent, *, last: bool = False) -> None:
        if self.connected_s is None:
            return
        self.facts.note(self.world.now_s, self.name, "replays it", sent.fact.plan.number)
        again = last or self.chance.random() < 0.7
        sent.fact.times += not again
        request_id = self.send_octets(sent.octets, sent.packet_id, again=again)
        self._repeated[request_id] = (sent, sent.fact.condition, sent.fact.plan.amount)
        if self.chance.random() < 0.2:
            self.drop()

    def _at_last(self, sent: Sent) -> None:
        """Just before it expires, when somebody may have forgotten it: the same once more."""
        if sent.fact.condition not in self._to_come:
            return
        if self.connected_s is None and self.world.now_s < sent.fact.expires_at_s:
            self.world.after(0.1, self._at_last, sent)
            return
        self._no_more_to_come(sent)
        self._replay(sent, last=True)

    def _no_more_to_come(self, sent: Sent) -> None:
        if sent.fact.condition in self._to_come:
            self._to_come.discard(sent.fact.condition)
            self.facts.open -= 1

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._repeated.clear()
        super().connection_lost(error)

    def answered(
        self, packet: octets.BtpSeen, answer: octets.PrepareSeen | octets.AnswerSeen | None
    ) -> None:
        """The answer to a request of ours; also to one under the id of another packet."""
        first = self._requests.get(packet.request_id)
        what = self._repeated.pop(packet.request_id, None)
        if first is not None:
            what = (first, first.fact.condition, first.fact.plan.amount)
        if what is not None and isinstance(answer, octets.AnswerSeen):
            self._look_at(answer, *what)
        super().answered(packet, answer)

    def _look_at(
        self, answer: octets.AnswerSeen, sent: Sent, condition: bytes, amount: int
    ) -> None:
        """Whether an answer fits what was asked: of two packets under one id only one is taken."""
        if answer.code:
            if answer.code == "F00":
                self._no_more_to_come(sent)  # it was not taken, and will not be
            return
        number = sent.fact.plan.number
        if hashlib.sha256(answer.preimage).digest() != condition:
            self.facts.complaints.append(
                f"payment {number}: {self.name} got a Fulfill for another packet under its id"
            )
        if amount:
            paid = self._paid.setdefault(sent.packet_id, set())
            paid.add(amount)
            if len(paid) > sent.fact.times:
                self.facts.complaints.append(
                    f"payment {number}: {self.name} got Fulfills for {sorted(paid)} under one id"
                )

    def reply(self, transport: Transport, request_id: int, answer: bytes) -> None:
        """Answer a request; sometimes a second time, with another answer."""
        super().reply(transport, request_id, answer)
        if self.chance.random() < 0.3:
            other = octets.reject("F99", address_of(self.name), "or not")
            super().reply(transport, request_id, self.chance.choice((answer, other)))
