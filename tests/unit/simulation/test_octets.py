"""The simulator's own codec agrees with the product's, which it must not share."""

from __future__ import annotations

import hashlib

import pytest

from connector.btp import packet as btp
from connector.ilp.packet import Fulfill, Prepare, Reject, decode, encode
from connector.simulation import octets

CONDITION = hashlib.sha256(b"p" * 32).digest()


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 300, 32_767])
@pytest.mark.parametrize("amount", [0, 1, 2**64 - 1])
def test_a_prepare_reads_the_same(size: int, amount: int) -> None:
    ours = octets.prepare(amount, 1_767_225_600_123, CONDITION, "g.n1.n1a", b"x" * size)
    theirs = encode(
        Prepare(
            amount=amount,
            expires_at_ms=1_767_225_600_123,
            condition=CONDITION,
            destination="g.n1.n1a",
            data=b"x" * size,
        )
    )
    assert ours == theirs
    seen = octets.read_ilp(theirs)
    assert isinstance(seen, octets.PrepareSeen)
    assert (seen.amount, seen.expires_at_ms, seen.condition) == (
        amount,
        1_767_225_600_123,
        CONDITION,
    )
    assert (seen.destination, seen.data) == ("g.n1.n1a", b"x" * size)


def test_answers_read_the_same() -> None:
    fulfill = octets.fulfill(b"p" * 32, b"data")
    assert decode(fulfill) == Fulfill(fulfillment=b"p" * 32, data=b"data")
    reject = octets.reject("T00", "g.a", "why")
    assert decode(reject) == Reject(code="T00", triggered_by="g.a", message="why")
    seen = octets.read_ilp(encode(Reject(code="F99", triggered_by="g.b", message="no")))
    assert isinstance(seen, octets.AnswerSeen)
    assert (seen.code, seen.triggered_by, seen.message) == ("F99", "g.b", "no")


@pytest.mark.parametrize(("packet_id", "again"), [(0, False), (5 << 8, False), (5 << 8, True)])
def test_btp_messages_are_the_same(packet_id: int, again: bool) -> None:
    ilp = octets.fulfill(b"p" * 32)
    own_id = packet_id.to_bytes(16, "big") if packet_id else b""
    ours = octets.btp_ilp(octets.MESSAGE, 7, ilp, own_id, again)
    assert ours == btp.encode_ilp(btp.MESSAGE, 7, ilp, packet_id, again)
    seen = octets.read_btp(ours)
    assert seen.request_id == 7
    assert seen.protocols["ilp"] == ilp
    assert ("packet-again" in seen.protocols) == again


@pytest.mark.parametrize("text", [b"", b"\x0c", b"\x0c\x05abc", b"\xff\x00"])
def test_what_is_no_packet_is_unreadable(text: bytes) -> None:
    with pytest.raises(octets.UnreadableError):
        octets.read_ilp(text)


def test_frames_are_cut_where_they_end() -> None:
    from connector.btp.frames import wrap

    stream = wrap([b"a", b"b" * 300, b"c" * 70_000], None)
    frames, rest = octets.read_frames(stream + b"\x82")
    assert [payload for _, payload in frames] == [b"a", b"b" * 300, b"c" * 70_000]
    assert rest == b"\x82"
