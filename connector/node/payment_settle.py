"""What has become of a payment's packets that were under way when its process was cut off.

The ledger tells which of them it holds money for. Those are made again and resent under their ids through
the switch, as a neighbour's would be (docs/protocol.md): the next hop gives the answer that it gave
before, or takes the packet now. So each is counted as what it is, and our books and the next hop's agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

from connector.accounting.entries import condition_tag
from connector.accounting.own import OwnPacket
from connector.ilp.packet import FULFILL, Answer, Fulfill, Prepare, Reject, decode, encode
from connector.node import bounds
from connector.node.core import Core
from connector.node.payment_store import Connection, PaymentStatus, sequence_of
from connector.stream import money
from connector.stream.crypto import Keys

LookUp = Callable[[Iterable[int]], Awaitable[list[OwnPacket] | None]]
"""Gives what the ledger has of packets with these sequences; None: it does not know the attempt."""


async def settle(core: Core, status: PaymentStatus, look_up: LookUp) -> str:
    """Count every packet that may have been sent and is not counted; then none is under way.

    Only `status` is changed, all at once when everything is known, and not written.

    Returns:
        Why the payment cannot go on; empty: it can.

    Raises:
        What `look_up` raises: then nothing was counted.
    """
    kept = status.connection
    assert kept is not None, "nothing was under way"
    if not core.accounts.ledger.keeps_books:
        return _give_up(status, "the ledger was in memory: what was sent is not known")
    beyond = range(kept.high + 1, kept.high + 1 + bounds.PAYMENT_PACKETS_LOOKED_BEYOND)
    found = await look_up((*kept.uncertain, *beyond))
    if found is None:
        return _give_up(status, "the ledger does not know the payment: what was sent is not known")
    if any(sequence_of(one.sender_packet_id) > kept.high for one in found):
        return _give_up(status, "payments.db is older than the ledger: what was sent is not known")
    keys = Keys(kept.secret)
    unknown = {one.sender_packet_id: one for one in found if not one.is_void}
    fulfilled: list[tuple[OwnPacket, Fulfill | None]] = []
    # The switch finds them only where they were sent from an account that is in use.
    resendable = unknown.values() if status.own_asset == core.local.terms.asset else ()
    for resent in await _resend(core, kept, keys, resendable):
        packet, answer = resent.packet, resent.answer
        if isinstance(answer, Fulfill):
            fulfilled.append((packet, answer))
        elif packet.is_posted or not _is_refused(core, packet, answer):
            continue
        del unknown[packet.sender_packet_id]
    if unknown:
        sequences = [sequence_of(id_) for id_ in unknown]
        for packet in await look_up(sequences) or ():
            if packet.is_posted:
                fulfilled.append((packet, None))
                del unknown[packet.sender_packet_id]
    for packet, fulfill in fulfilled:
        status.sent += packet.amount
        status.packets += 1
        status.delivered += _delivered(status, kept, keys, packet, fulfill)
    status.uncertain += sum(packet.amount for packet in unknown.values())
    status.use_up()
    assert status.left >= 0, status
    return ""


def _is_refused(core: Core, packet: OwnPacket, answer: Answer | None) -> bool:
    """Whether an answer shows that nobody owes anything for a packet.

    What we say ourselves shows nothing. What the next hop says does; but T00 to a packet that has expired may mean that it was
    restarted and has booked it.
    """
    return (
        isinstance(answer, Reject)
        and answer.triggered_by != core.node.address
        and (answer.code != "T00" or core.clock.now_ms() < packet.expires_at_ms)
    )


def _give_up(status: PaymentStatus, reason: str) -> str:
    status.uncertain = status.amount - status.sent
    status.use_up()
    return reason


def _delivered(
    status: PaymentStatus,
    kept: Connection,
    keys: Keys,
    packet: OwnPacket,
    fulfill: Fulfill | None,
) -> int:
    """What the receiver got; the least that it can be where its answer is not known any more."""
    minimum = kept.terms.minimum(packet.amount)
    if fulfill is None:
        return minimum
    sequence = sequence_of(packet.sender_packet_id)
    said = money.read(keys, sequence, fulfill.data, FULFILL)
    status.proof.fulfilled(sequence, money.STREAM_ID, said)
    return minimum if said is None else said.amount


class _Resent:
    """A packet that is resent; takes its answer, a `ReplyTo`."""

    __slots__ = ("answer", "packet", "prepare", "waits")

    def __init__(self, packet: OwnPacket, prepare: Prepare) -> None:
        self.packet = packet
        self.prepare = prepare
        self.waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer: Answer | None = None

    def reply(self, _request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        if self.waits.done():
            return False
        answer = decode(octets)
        assert isinstance(answer, Fulfill | Reject), answer
        self.answer = answer
        self.waits.set_result(None)
        return True


async def _resend(
    core: Core, kept: Connection, keys: Keys, packets: Collection[OwnPacket]
) -> list[_Resent]:
    """Resend packets through the switch, and wait until each has an answer, or its time is over."""
    now_ms = core.clock.now_ms()
    resent: list[_Resent] = []
    until_ms = now_ms + bounds.PAYMENT_ANSWER_MS_MAX
    for at, packet in enumerate(packets):
        if not at % bounds.PAYMENT_PACKETS_RESENT_AT_ONCE:
            await asyncio.sleep(0)
        if packet.age_ms > bounds.PAYMENT_PACKET_RESENT_MS_MAX:
            continue  # the switch would not find it any more
        prepare = _make_again(kept, keys, packet)
        if prepare is None:
            continue  # made by another version of this program
        resent.append(_Resent(packet, prepare))
    for at, one in enumerate(resent):
        if not at % bounds.PAYMENT_PACKETS_RESENT_AT_ONCE:
            core.links.flush()
            await asyncio.sleep(0)
        id_ = one.packet.sender_packet_id
        core.driver.arrived(core.local, encode(one.prepare), id_, one, 0, again=True)
    core.links.flush()
    if resent:
        waits = [one.waits for one in resent]
        await asyncio.wait(waits, timeout=(until_ms - core.clock.now_ms()) / 1000)
    return resent


def _make_again(kept: Connection, keys: Keys, packet: OwnPacket) -> Prepare | None:
    """The packet as it was, found by its condition; None: it is none that we make."""
    for rounds_up in (False, True):
        prepare = money.make(
            keys,
            kept.destination,
            sequence_of(packet.sender_packet_id),
            packet.amount,
            kept.terms.minimum(packet.amount, rounds_up=rounds_up),
            packet.expires_at_ms,
        )
        if condition_tag(prepare.condition) == packet.condition_tag:
            return prepare
    return None
