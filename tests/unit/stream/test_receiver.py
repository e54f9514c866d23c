"""The receiver: what it answers to each kind of packet, and that a restart loses nothing."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace

import pytest

from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.stream import bounds
from connector.stream import packet as stream
from connector.stream.connection import Arrival
from connector.stream.crypto import Keys
from connector.stream.packet import (
    UINT_MAX,
    CloseCode,
    ConnectionAssetDetails,
    ConnectionClose,
    ConnectionDataBlocked,
    ConnectionMaxData,
    ConnectionMaxStreamId,
    ConnectionNewAddress,
    StreamClose,
    StreamData,
    StreamMaxData,
    StreamMaxMoney,
    StreamMoney,
    StreamMoneyBlocked,
    StreamPacket,
)
from connector.stream.receiver import Receiver
from connector.stream.tokens import NONCE_BYTES, Tokens

OWN = "test.node"


def receiver(
    key: bytes = bytes(32), wallets: tuple[str, ...] = ("alice", "bob"), *, takes_data: bool = False
) -> Receiver:
    return Receiver(
        key=key,
        wallets=wallets,
        asset_code="USD",
        asset_scale=9,
        own_address=lambda: OWN,
        takes_data=lambda: takes_data,
    )


class Payer:
    """Makes packets as a sender does, and reads the answers."""

    def __init__(self, one: Receiver, wallet: str = "alice", nonce: int = 1) -> None:
        invited = one.invite(wallet, nonce.to_bytes(NONCE_BYTES, "big"))
        assert invited is not None
        self.destination, secret = invited
        self.keys = Keys(secret)
        self.sequence = 0

    def make(
        self, *frames: stream.Frame, minimum: int = 0, probe: bool = False, **changed: int
    ) -> Prepare:
        self.sequence += 1
        packet = StreamPacket(self.sequence, 12, minimum, frames)
        packet = replace(packet, **changed)
        return self.seal(stream.encode(packet), probe=probe)

    def seal(self, plain: bytes, *, probe: bool = False) -> Prepare:
        data = self.keys.seal(plain)
        return Prepare(
            amount=10,
            expires_at_ms=1,
            condition=bytes(32) if probe else self.keys.condition(data),
            destination=self.destination,
            data=data,
        )

    def read(self, data: bytes) -> StreamPacket:
        plain = self.keys.open(data)
        assert plain is not None
        return stream.decode(plain)


def ask(one: Receiver, prepare: Prepare, amount: int = 10) -> Fulfill | Reject:
    """The answer to a packet of which `amount` arrives."""
    connection = one.find(prepare.destination)
    assert connection is not None
    arrival = one.arrived(connection, prepare, amount)
    return one.fulfill(arrival) if isinstance(arrival, Arrival) else arrival


def test_a_payment_is_fulfilled_and_its_answer_says_what_arrived() -> None:
    one = receiver()
    payer = Payer(one)
    prepare = payer.make(StreamMoney(1, 1), minimum=10)
    answer = ask(one, prepare, 12)
    assert isinstance(answer, Fulfill)
    assert hashlib.sha256(answer.fulfillment).digest() == prepare.condition
    assert payer.read(answer.data) == StreamPacket(1, 13, 12, (StreamMaxMoney(1, UINT_MAX, 12),))


def test_each_invitation_is_for_another_connection_of_its_wallet() -> None:
    one = receiver()
    first, second = Payer(one, "alice", 1), Payer(one, "bob", 2)
    assert first.destination != second.destination
    for payer, wallet in ((first, "alice"), (second, "bob")):
        connection = one.find(payer.destination)
        assert connection is not None
        assert connection.wallet == wallet
        assert wallet not in payer.destination.rpartition(".")[2]


@pytest.mark.parametrize(
    "destination",
    [OWN, f"{OWN}.x", f"{OWN}.{'A' * 60}", f"{OWN}.{'A' * 900}", "test.other.x", f"{OWN}.a.b"],
)
def test_other_addresses_are_of_no_wallet(destination: str) -> None:
    assert receiver().find(destination) is None


def test_an_address_of_another_node_or_of_a_former_wallet_is_of_no_wallet() -> None:
    payer = Payer(receiver())
    assert receiver(key=b"\1" * 32).find(payer.destination) is None
    assert receiver(wallets=("bob",)).find(payer.destination) is None


def test_a_restart_loses_no_payment() -> None:
    payer = Payer(receiver())
    for _ in range(3):
        answer = ask(receiver(), payer.make(StreamMoney(1, 1)))
        assert isinstance(answer, Fulfill)


def test_a_restart_knows_streams_that_an_earlier_process_allowed() -> None:
    payer = Payer(receiver())
    payer.sequence = 50
    assert isinstance(ask(receiver(), payer.make(StreamMoney(61, 1))), Fulfill)


def test_a_probe_is_answered_with_what_would_arrive() -> None:
    one = receiver()
    payer = Payer(one)
    answer = ask(one, payer.make(ConnectionNewAddress("test.me"), probe=True), 7)
    assert isinstance(answer, Reject)
    assert answer.code == "F99"
    assert payer.read(answer.data) == StreamPacket(1, 14, 7, (ConnectionAssetDetails("USD", 9),))


@pytest.mark.parametrize(("arrives", "fulfilled"), [(10, True), (9, False)])
def test_the_senders_minimum_on_the_line_and_one_below(arrives: int, fulfilled: bool) -> None:
    one = receiver()
    payer = Payer(one)
    answer = ask(one, payer.make(StreamMoney(1, 1), minimum=10), arrives)
    assert isinstance(answer, Fulfill) == fulfilled
    if isinstance(answer, Reject):
        assert answer.code == "F99"
    # What was refused is not counted.
    total = ask(one, payer.make(StreamMoney(1, 1)), 5)
    wanted = arrives * fulfilled + 5
    assert payer.read(total.data).frames == (StreamMaxMoney(1, UINT_MAX, wanted),)


@pytest.mark.parametrize("data", [b"", bytes(100)])
def test_what_cannot_be_decrypted_is_unexpected(data: bytes) -> None:
    one = receiver()
    prepare = Payer(one).make()
    prepare.data = data
    answer = ask(one, prepare)
    assert isinstance(answer, Reject)
    assert (answer.code, answer.data) == ("F06", b"")


@pytest.mark.parametrize("packet_type", [13, 14, 0])
def test_an_answer_that_is_sent_back_as_a_question_is_unexpected(packet_type: int) -> None:
    one = receiver()
    answer = ask(one, Payer(one).make(packet_type=packet_type))
    assert isinstance(answer, Reject)
    assert answer.code == "F06"


def closed_with(answer: Fulfill | Reject, payer: Payer) -> CloseCode | None:
    assert isinstance(answer, Reject)
    assert answer.code == "F99"
    found = [f for f in payer.read(answer.data).frames if isinstance(f, ConnectionClose)]
    return CloseCode(found[0].error_code) if found else None


@pytest.mark.parametrize(("sequence", "taken"), [(2**31 - 1, True), (2**31, False)])
def test_a_connection_ends_after_2_to_the_31_packets(sequence: int, taken: bool) -> None:
    one = receiver()
    payer = Payer(one)
    answer = ask(one, payer.make(sequence=sequence))
    assert isinstance(answer, Fulfill) == taken
    if not taken:
        assert closed_with(answer, payer) is CloseCode.INTERNAL_ERROR


def test_malformed_frames_close_the_connection_and_pay_nothing() -> None:
    one = receiver()
    payer = Payer(one)
    whole = stream.encode(StreamPacket(1, 12, 0, (StreamMoney(1, 1),)))
    assert closed_with(ask(one, payer.seal(whole[:-2])), payer) is CloseCode.FRAME_FORMAT_ERROR
    payer.sequence = 1
    # It stays closed, for the reason given first.
    assert closed_with(ask(one, payer.make()), payer) is CloseCode.FRAME_FORMAT_ERROR


@pytest.mark.parametrize(
    ("stream_id", "taken"), [(1, True), (19, True), (21, False), (2, False), (0, False)]
)
def test_the_ids_that_a_payer_may_use(stream_id: int, taken: bool) -> None:
    one = receiver()
    payer = Payer(one)
    answer = ask(one, payer.make(StreamMoney(stream_id, 1)))
    assert isinstance(answer, Fulfill) == taken
    if not taken:
        assert closed_with(answer, payer) is CloseCode.STREAM_ID_ERROR


def test_a_closed_stream_makes_room_for_another_one() -> None:
    one = receiver()
    payer = Payer(one)
    answer = ask(one, payer.make(StreamClose(1, 1, "")))
    assert payer.read(answer.data).frames == (ConnectionMaxStreamId(22),)
    assert isinstance(ask(one, payer.make(StreamMoney(21, 1))), Fulfill)


def test_a_connection_that_the_payer_closes_takes_what_came_with_it_and_no_more() -> None:
    one = receiver()
    payer = Payer(one)
    last = payer.make(StreamMoney(1, 1), ConnectionClose(1, "done"))
    assert isinstance(ask(one, last), Fulfill)
    assert closed_with(ask(one, payer.make(StreamMoney(1, 1))), payer) is CloseCode.NO_ERROR


def test_money_is_divided_by_shares_and_the_rest_goes_to_the_lowest_open_stream() -> None:
    one = receiver()
    payer = Payer(one)
    answer = ask(one, payer.make(StreamMoney(5, 1), StreamMoney(1, 1), StreamMoney(3, 1)), 11)
    found = {f.stream_id: f.total_received for f in payer.read(answer.data).frames}  # type: ignore[union-attr]
    assert found == {1: 5, 3: 3, 5: 3}
    ask(one, payer.make(StreamClose(1, 1, "")), 0)
    answer = ask(one, payer.make(StreamMoney(1, 1), StreamMoney(3, 1)), 3)
    found = {f.stream_id: f.total_received for f in payer.read(answer.data).frames}  # type: ignore[union-attr]
    assert found == {1: 6, 3: 5}


def test_a_payer_that_is_blocked_is_told_that_there_is_no_limit() -> None:
    one = receiver()
    payer = Payer(one)
    answer = ask(one, payer.make(StreamMoneyBlocked(1, 10, 5)))
    assert payer.read(answer.data).frames == (StreamMaxMoney(1, UINT_MAX, 0),)


def test_a_packet_that_was_accepted_before_is_fulfilled_again_and_not_counted() -> None:
    one = receiver()
    payer = Payer(one)
    prepare = payer.make(StreamMoney(1, 1))
    first = ask(one, prepare)
    for other in (one, receiver()):
        connection = other.find(prepare.destination)
        assert connection is not None
        again = other.again(connection, prepare, 10)
        assert again is not None
        assert isinstance(first, Fulfill)
        assert again.fulfillment == first.fulfillment
        assert other.fulfills(prepare)
    total = ask(one, payer.make(StreamMoney(1, 1)))
    assert payer.read(total.data).frames == (StreamMaxMoney(1, UINT_MAX, 20),)


def test_a_probe_is_nothing_that_was_accepted() -> None:
    one = receiver()
    probe = Payer(one).make(probe=True)
    connection = one.find(probe.destination)
    assert connection is not None
    assert one.again(connection, probe, 10) is None
    assert not one.fulfills(probe)


def test_connections_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CONNECTIONS_MAX", 3)
    one = receiver()
    payers = [Payer(one, nonce=nonce) for nonce in range(5)]
    for payer in payers:
        assert isinstance(ask(one, payer.make(StreamMoney(1, 1))), Fulfill)
    assert len(one._connections) == 3
    assert isinstance(ask(one, payers[0].make(StreamMoney(1, 1))), Fulfill)


def test_without_an_address_nobody_is_invited() -> None:
    one = Receiver(
        key=bytes(32), wallets=("a",), asset_code="USD", asset_scale=9, own_address=lambda: ""
    )
    assert one.invite("a", bytes(NONCE_BYTES)) is None


def test_little_is_kept_of_who_has_not_paid() -> None:
    """Addresses are free: frames of packets without money must not fill the memory."""
    one = receiver()
    payer = Payer(one)
    closes = [StreamClose(id_, CloseCode.NO_ERROR, "") for id_ in range(1, 20, 2)]
    ask(one, payer.make(*closes, probe=True))
    connection = one.find(payer.make().destination)
    assert connection is not None
    assert connection.closed_bits.bit_count() == 4
    assert isinstance(ask(one, payer.make(StreamMoney(1, 1))), Fulfill)
    ask(one, payer.make(*closes, probe=True))
    assert connection.closed_bits.bit_count() == 10


def test_a_token_has_one_spelling() -> None:
    tokens = Tokens(bytes(32))
    for name in ("a", "ab", "abc"):
        token, _ = tokens.make(name, bytes(NONCE_BYTES))
        assert tokens.read(token) is not None
        last = token[-1]
        others = [token[:-1] + one for one in "ABCDEFGHabcdefgh0189-_" if one != last]
        assert [one for one in others if tokens.read(one) is not None] == []


def test_streams_that_are_closed_take_an_octet_or_less_each() -> None:
    """Of ten thousand payers, each of whom closes all that it may."""
    one = receiver()
    payer = Payer(one)
    assert isinstance(ask(one, payer.make(StreamMoney(1, 1))), Fulfill)
    for number in range(bounds.STREAMS_CLOSED_MAX + 10):
        ask(one, payer.make(StreamClose(2 * number + 1, CloseCode.NO_ERROR, "")))
    connection = one.find(payer.destination)
    assert connection is not None
    assert connection.closed_bits.bit_count() == bounds.STREAMS_CLOSED_MAX
    assert sys.getsizeof(connection.closed_bits) < bounds.STREAMS_CLOSED_MAX


# --- data


def arrival(one: Receiver, prepare: Prepare, amount: int = 10) -> Arrival:
    connection = one.find(prepare.destination)
    assert connection is not None
    arrived = one.arrived(connection, prepare, amount)
    assert isinstance(arrived, Arrival)
    return arrived


def test_data_is_ignored_where_nobody_decides_about_it() -> None:
    one = receiver()
    payer = Payer(one)
    arrived = arrival(one, payer.make(StreamMoney(1, 1), StreamData(1, 0, b"who pays")))
    assert one.question(arrived) is None
    frames = payer.read(one.fulfill(arrived).data).frames
    assert frames == (StreamMaxMoney(1, UINT_MAX, 10),)


def test_the_question_about_a_packet_is_the_same_after_a_restart() -> None:
    one = receiver(takes_data=True)
    payer = Payer(one)
    assert one.question(arrival(one, payer.make(StreamMoney(1, 1)))) is None
    first, second = (
        payer.make(StreamMoney(1, 1), StreamData(1, offset, b"who pays")) for offset in (0, 8)
    )
    asked = one.question(arrival(one, first))
    assert asked is not None
    assert (asked.wallet, asked.amount, asked.asset_code) == ("alice", 10, "USD")
    assert [piece.data for piece in asked.pieces] == [b"who pays"]
    other = receiver(takes_data=True)
    assert other.question(arrival(other, first)) == asked
    another = one.question(arrival(one, second))
    assert another is not None
    assert another.question_id != asked.question_id
    assert another.payment_id == asked.payment_id


def test_an_accepted_packet_says_how_much_more_data_is_taken_and_never_less() -> None:
    one = receiver(takes_data=True)
    payer = Payer(one)
    ahead = bounds.DATA_AHEAD_BYTES
    for frame, most in (
        (StreamData(1, 100, b"who pays"), 108 + ahead),
        (StreamData(1, 0, b"who pays"), 108 + ahead),
        (ConnectionDataBlocked(200), 200 + ahead),
        (StreamData(1, UINT_MAX, b"who pays"), UINT_MAX),
    ):
        arrived = arrival(one, payer.make(frame))
        assert one.accepted(arrived) is None
        frames = payer.read(one.fulfill(arrived).data).frames
        limits = [ConnectionMaxData(most)]
        assert frames == (
            *limits,
            *([StreamMaxData(1, most)] if isinstance(frame, StreamData) else []),
        )


def test_a_declined_packet_ends_its_payment_and_says_why() -> None:
    one = receiver(takes_data=True)
    payer = Payer(one)
    first = arrival(one, payer.make(StreamMoney(3, 1), StreamData(3, 0, b"who pays")))
    beside = arrival(one, payer.make(StreamMoney(3, 1), StreamData(3, 8, b"and why")))
    declined = one.decline(first, "not\nfrom there")
    assert (declined.code, declined.triggered_by) == ("F99", OWN)
    assert payer.read(declined.data) == StreamPacket(
        1,
        14,
        10,
        (
            ConnectionClose(CloseCode.APPLICATION_ERROR, "not from there"),
            StreamData(3, 0, b"not from there"),
        ),
    )
    # What was asked about at the same time, and all that follows, is refused.
    refused = one.accepted(beside)
    assert refused is not None
    assert refused.code == "F99"
    after = ask(one, payer.make(StreamMoney(3, 1)))
    assert isinstance(after, Reject)
    # Another connection to the same wallet is not touched.
    assert isinstance(ask(one, Payer(one, nonce=2).make(StreamMoney(1, 1))), Fulfill)
