"""What a payer has in hand about delivery."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.stream.packet import StreamMaxMoney, StreamPacket
from connector.stream.proof import Proof

UINT = st.integers(0, 2**64 - 1)


def report(sequence: int, amount: int, *totals: tuple[int, int]) -> StreamPacket:
    frames = tuple(StreamMaxMoney(stream_id, 2**64 - 1, total) for stream_id, total in totals)
    return StreamPacket(sequence, 13, amount, frames)


def test_reports_are_added_up_and_the_highest_total_of_the_stream_counts() -> None:
    proof = Proof()
    proof.fulfilled(4, 1, report(4, 10, (1, 30), (3, 1000)))
    proof.fulfilled(2, 1, report(2, 20, (1, 20)))
    proof.fulfilled(3, 1, report(3, 5))
    assert proof == Proof(acknowledged=3, reported=35, receiver_total=30, last_sequence=4)


def test_a_packet_without_a_report_is_fulfilled_and_not_acknowledged() -> None:
    proof = Proof()
    proof.fulfilled(7, 1, None)
    assert proof == Proof(last_sequence=7)


def test_a_payment_that_goes_on_has_the_proof_of_all_its_connections() -> None:
    before, now = Proof(2, 20, 20, 9), Proof(1, 5, 5, 3)
    assert now.after(before) == Proof(3, 25, 25, 3)
    assert Proof().after(before) == before


@given(st.builds(Proof, UINT, UINT, UINT, UINT))
def test_it_is_read_as_it_was_written(proof: Proof) -> None:
    assert Proof.from_text(proof.to_text()) == proof
