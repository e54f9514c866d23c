"""The ends of the network: peers of a node that send and receive packets, and record all of them.

Each speaks BTP with the simulator's own codec. An end never crashes and loses no state; its
connections may break. An end with packet ids resends what has no answer; one without them counts
such a packet as lost. Receivers act as the plan of a payment says.
"""

from __future__ import annotations

import random
from typing import Final

from connector.simulation import octets
from connector.simulation.facts import GRACE_S, Fact, Facts, Given
from connector.simulation.network import Network
from connector.simulation.transport import Transport
from connector.simulation.world import START_NS, World

START_MS: Final = START_NS // 1_000_000
NOWHERE: Final = "g.nowhere"
"""An address that nobody has."""
_RECONNECT_S: Final = (0.1, 0.3)


class Sent:
    """A Prepare that has no answer yet."""

    __slots__ = ("fact", "octets", "packet_id")

    def __init__(self, fact: Fact, ilp: bytes, packet_id: bytes) -> None:
        self.fact = fact
        self.octets = ilp
        self.packet_id = packet_id


class End:
    """See the module."""

    def __init__(
        self,
        *,
        world: World,
        network: Network,
        facts: Facts,
        name: str,
        node: str,
        token: str,
        resumable: bool,
    ) -> None:
        self.world: Final = world
        self.facts: Final = facts
        self.name: Final = name
        self.node: Final = node
        self.resumable = resumable
        self.knows_ids = False
        """Whether both sides of the current connection support packet ids."""
        self.connected_s: float | None = None
        self.connections = 0
        self.resent = 0
        self.asked_again = 0
        self.chance: random.Random = world.random(f"end {name}")
        self.stopped = False
        self.grace_s = GRACE_S
        """How long after its expiry it still waits for an answer."""
        self._network = network
        self._token = token
        self._transport: Transport | None = None
        self._rest = b""
        self._upgraded = False
        self._request_id = 1
        self._number = 0
        self._sent: dict[bytes, Sent] = {}
        """By condition, oldest first."""
        self._requests: dict[int, Sent] = {}
        """By request id of the current connection."""
        self._answers: dict[bytes, bytes | None] = {}
        """Answers to packets, by the other side's packet id; None: not answered yet."""
        self._reply_to: dict[bytes, tuple[Transport, int]] = {}
        self._told_ms: dict[bytes, int] = {}
        """By packet: the latest expiry that it was asked for again with, before it answered."""

    # --- the connection

    def dial(self) -> None:
        """Connect to the node, now and whenever the connection is lost."""
        if not self.stopped:
            self._network.connect(self.name, None, self.node, self._made, self._failed)

    def _made(self, transport: Transport) -> None:
        if transport.is_lost:
            self._dial_again()  # its node has died meanwhile: nobody else says so
            return
        self._rest, self._upgraded = b"", False
        transport.begin(self)

    def _failed(self, _error: OSError) -> None:
        self._dial_again()

    def _dial_again(self) -> None:
        low, high = _RECONNECT_S
        self.world.after(low + (high - low) * self.chance.random(), self.dial)

    def connection_made(self, transport: Transport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport
        transport.write(octets.upgrade_request(self.node))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        buffer = self._rest + data if self._rest else data
        if not self._upgraded:
            head, found, buffer = buffer.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if octets.ACCEPT.encode() not in head:
                self.facts.complaints.append(f"{self.name}: no WebSocket: {head[:80]!r}")
                return
            self._upgraded = True
            self._log_in()
        frames, self._rest = octets.read_frames(buffer)
        for opcode, payload in frames:
            if opcode == octets.BINARY:
                self._message(payload)
            elif opcode == octets.PING:
                self._write(octets.frame(octets.PONG, payload))
            elif opcode == octets.CLOSE and self._transport is not None:
                self._transport.close()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        was_open = self.connected_s is not None
        self.connected_s = None
        self._requests.clear()
        if was_open:
            self.facts.note(self.world.now_s, self.name, "loses its connection")
            if not self.knows_ids:
                for sent in list(self._sent.values()):
                    self._end(sent, "lost")
        self._dial_again()

    def drop(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _log_in(self) -> None:
        protocols = [
            ("auth", 0, b""),
            ("auth_username", 1, self.name.encode()),
            ("auth_token", 1, self._token.encode()),
        ]
        if self.resumable:
            protocols.append(("packet-id", 0, b""))
        self._request_id = self.chance.getrandbits(31)
        self._write(
            octets.frame(octets.BINARY, octets.btp(octets.MESSAGE, self._request_id, protocols))
        )

    def _logged_in(self, packet: octets.BtpSeen) -> None:
        if packet.kind != octets.RESPONSE and (self.node, self.name) in self.facts.removed:
            return
        if packet.kind != octets.RESPONSE:
            self.facts.complaints.append(f"{self.name}: the log-in is refused: {packet}")
            return
        self.knows_ids = self.resumable and "packet-id" in packet.protocols
        self.connected_s = self.world.now_s
        self.connections += 1
        self.facts.note(self.world.now_s, self.name, f"is connected to {self.node}")
        for sent in list(self._sent.values()):
            if self.knows_ids and sent.fact.expires_at_s > self.world.now_s:
                self.resent += 1
                self._send(sent, again=True)
                self.facts.note(
                    self.world.now_s, self.name, "sends it again", sent.fact.plan.number
                )

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    # --- sending

    def pay(self, fact: Fact) -> None:
        """Make a payment."""
        plan = fact.plan
        fact.sent_s = self.world.now_s
        fact.expires_at_s = self.world.now_s + plan.expires_in_s
        fact.amounts.add(plan.amount)
        if self.connected_s is None:
            fact.outcome = "unsent"
            self.facts.note(self.world.now_s, self.name, "is not connected", plan.number)
            return
        self._number += 1
        sent = Sent(fact, self.prepare(fact, plan.amount), self.new_packet_id())
        self._sent[fact.condition] = sent
        self.facts.open += 1
        self.facts.note(
            self.world.now_s,
            self.name,
            f"offers {plan.amount} to {plan.receiver}, for {plan.expires_in_s:g} s ({plan.outcome})",
            plan.number,
        )
        self._send(sent, again=False)
        self.world.after(plan.expires_in_s + self.grace_s, self._give_up, sent)

    def new_packet_id(self) -> bytes:
        """A new packet id; ids rise."""
        self._number += 1
        now_ms = START_MS + int(self.world.now_s * 1000)
        return (now_ms << 80 | self._number << 8).to_bytes(16, "big")

    def prepare(
        self, fact: Fact, amount: int, *, destination: str = "", data: bytes = b""
    ) -> bytes:
        """The octets of a Prepare for a payment."""
        plan = fact.plan
        return octets.prepare(
            amount,
            START_MS + round(fact.expires_at_s * 1000),
            fact.condition,
            destination or (NOWHERE if plan.outcome == "nowhere" else address_of(plan.receiver)),
            data or b"payment %d" % plan.number,
        )

    def _send(self, sent: Sent, *, again: bool) -> None:
        self._requests[self.send_octets(sent.octets, sent.packet_id, again=again)] = sent

    def send_octets(self, ilp: bytes, packet_id: bytes, *, again: bool) -> int:
        """Write a Message with an ILP packet; returns its request id."""
        self._request_id = request_id = (self._request_id + 1) & 0xFFFFFFFF
        message = octets.btp_ilp(
            octets.MESSAGE, request_id, ilp, packet_id if self.knows_ids else b"", again
        )
        self._write(octets.frame(octets.BINARY, message))
        return request_id

    def _give_up(self, sent: Sent) -> None:
        if sent.fact.condition in self._sent:
            self._end(sent, "expired")

    def _end(self, sent: Sent, outcome: str) -> None:
        if self._sent.pop(sent.fact.condition, None) is None:
            return
        self.facts.open -= 1
        sent.fact.outcome = outcome
        sent.fact.answered_s = self.world.now_s
        self.facts.note(
            self.world.now_s, self.name, f"payment ends: {outcome}", sent.fact.plan.number
        )

    # --- receiving

    def _message(self, message: bytes) -> None:
        packet = octets.read_btp(message)
        if self.connected_s is None:
            self._logged_in(packet)
            return
        ilp = packet.protocols.get("ilp")
        if packet.kind == octets.MESSAGE:
            if ilp is None:
                self._write(
                    octets.frame(octets.BINARY, octets.btp(octets.RESPONSE, packet.request_id, []))
                )
                return
            assert self._transport is not None
            self.asked(packet, octets.read_ilp(ilp), self._transport)
            return
        self.answered(packet, None if ilp is None else octets.read_ilp(ilp))

    def answered(
        self, packet: octets.BtpSeen, answer: octets.PrepareSeen | octets.AnswerSeen | None
    ) -> None:
        """An answer to a request of this end has arrived."""
        sent = self._requests.pop(packet.request_id, None)
        if sent is not None:
            self.took(sent, answer)

    def took(self, sent: Sent, answer: octets.PrepareSeen | octets.AnswerSeen | None) -> None:
        """The answer to a packet of this end."""
        fact = sent.fact
        if not isinstance(answer, octets.AnswerSeen):
            fact.answers.append("error")
            self._end(sent, "error")
            return
        fact.answers.append(answer.code or "fulfilled")
        if answer.code:
            fact.rejected_by = answer.triggered_by
            if fact.outcome == "fulfilled" and not fact.hostile:
                self.facts.complaints.append(
                    f"payment {fact.plan.number}: {self.name} got {answer.code} after a Fulfill"
                )
            self.facts.note(
                self.world.now_s,
                self.name,
                f"gets {answer.code} from {answer.triggered_by}: {answer.message}",
                fact.plan.number,
            )
            self._end(sent, answer.code)
            return
        if answer.preimage != fact.preimage:
            self.facts.complaints.append(
                f"payment {fact.plan.number}: {self.name} got a Fulfill that does not fit"
            )
        self._end(sent, "fulfilled")

    def asked(
        self,
        packet: octets.BtpSeen,
        prepare: octets.PrepareSeen | octets.AnswerSeen,
        transport: Transport,
    ) -> None:
        """A Prepare has arrived over a connection."""
        assert isinstance(prepare, octets.PrepareSeen)
        packet_id = packet.protocols.get("packet-id", b"") if self.resumable else b""
        fact = self.facts.by_condition.get(prepare.condition)
        if packet_id and packet_id in self._answers:
            self.asked_again += 1
            known = self._answers[packet_id]
            if fact is not None:
                self.facts.note(
                    self.world.now_s, self.name, "is asked for it again", fact.plan.number
                )
            if known is None:
                self._reply_to[packet_id] = (transport, packet.request_id)
                # A node that was restarted may give it more time: the latest word counts.
                told_ms = self._told_ms.get(packet_id, 0)
                self._told_ms[packet_id] = max(told_ms, prepare.expires_at_ms)
            else:
                self.reply(transport, packet.request_id, known)
            return
        if packet_id:
            self._answers[packet_id] = None
            self._reply_to[packet_id] = (transport, packet.request_id)
        if fact is None or prepare.destination != address_of(self.name):
            answer = octets.reject("F02", address_of(self.name), "who?")
            self._answer(packet_id, packet.request_id, answer, transport)
            return
        plan = fact.plan
        self.facts.note(
            self.world.now_s, self.name, f"is asked to take {prepare.amount}", plan.number
        )
        if plan.outcome == "silence":
            return
        wait_s = plan.think_s
        if plan.outcome == "late":
            left_s = (prepare.expires_at_ms - START_MS) / 1000 - self.world.now_s
            wait_s = max(0.0, left_s) + 0.5
        call = (self._decide, fact, prepare, packet_id, packet.request_id, transport)
        if wait_s:
            self.world.after(wait_s, *call)
        else:
            self._decide(fact, prepare, packet_id, packet.request_id, transport)

    def _decide(
        self,
        fact: Fact,
        prepare: octets.PrepareSeen,
        packet_id: bytes,
        request_id: int,
        transport: Transport,
    ) -> None:
        until_ms = max(prepare.expires_at_ms, self._told_ms.pop(packet_id, 0))
        expires_at_s = (until_ms - START_MS) / 1000
        own = address_of(self.name)
        match fact.plan.outcome:
            case "pay" | "late":
                if self.world.now_s >= expires_at_s and fact.plan.outcome == "pay":
                    answer = octets.reject("R00", own, "too late")
                else:
                    answer = octets.fulfill(fact.preimage, b"receipt %d" % fact.plan.number)
                    fact.given.append(
                        Given(self.world.now_s, prepare.amount, expires_at_s, packet_id, self.name)
                    )
                    self.facts.note(
                        self.world.now_s,
                        self.name,
                        f"fulfils it, {prepare.amount}",
                        fact.plan.number,
                    )
            case "lie":
                answer = octets.fulfill(bytes(32))
            case _:
                answer = octets.reject("F99", own, "no thanks")
        self._answer(packet_id, request_id, answer, transport)

    def _answer(
        self, packet_id: bytes, request_id: int, answer: bytes, transport: Transport
    ) -> None:
        if not packet_id:
            self.reply(transport, request_id, answer)
            return
        self._answers[packet_id] = answer
        transport, request_id = self._reply_to.pop(packet_id)
        self.reply(transport, request_id, answer)

    def reply(self, transport: Transport, request_id: int, answer: bytes) -> None:
        """Answer a request, over the connection that it came on."""
        transport.write(
            octets.frame(octets.BINARY, octets.btp_ilp(octets.RESPONSE, request_id, answer))
        )

    @property
    def waiting(self) -> int:
        """Packets without an answer."""
        return len(self._sent)


class RefusingEnd(End):
    """Refuses every packet, at once or later, and the same one always in the same way."""

    def asked(
        self,
        packet: octets.BtpSeen,
        prepare: octets.PrepareSeen | octets.AnswerSeen,
        transport: Transport,
    ) -> None:
        """See `End`."""
        assert isinstance(prepare, octets.PrepareSeen)
        packet_id = packet.protocols.get("packet-id", b"") if self.resumable else b""
        answer = self._answers.get(packet_id) if packet_id else None
        if answer is None:
            code = self.chance.choice(("T01", "T02", "T05"))
            answer = octets.reject(code, address_of(self.name), "not this way")
            if packet_id:
                self._answers[packet_id] = answer
        wait_s = 0.0 if self.chance.random() < 0.6 else self.chance.random()
        self.world.after(wait_s, self.reply, transport, packet.request_id, answer)


def address_of(end: str) -> str:
    """The ILP address of an end: that of its node, followed by its name."""
    return f"g.{end[:-1]}.{end}"
