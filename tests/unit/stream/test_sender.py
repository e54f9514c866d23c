"""The sender against receivers and networks of all kinds, in simulated time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.ilp.packet import (
    FULFILL,
    REJECT,
    Answer,
    Code,
    Fulfill,
    Prepare,
    amount_too_large_data,
    reject,
)
from connector.stream import bounds
from connector.stream import packet as stream
from connector.stream.connection import Arrival
from connector.stream.crypto import Keys
from connector.stream.money import Terms, make
from connector.stream.packet import (
    UINT_MAX,
    ConnectionAssetDetails,
    ConnectionClose,
    Frame,
    StreamMaxMoney,
    StreamMoney,
    StreamPacket,
)
from connector.stream.rate import PacketSize, Window
from connector.stream.receiver import Receiver
from connector.stream.sender import OwnRate, Payment, Phase, shown_asset
from connector.stream.tokens import NONCE_BYTES

OWN = "test.them"
Network = Callable[[Prepare, int], Answer | int]
"""Answers a packet at a time, or gives the amount that arrives."""


class World:
    """A payment, a network and a receiver of ours; packets are answered in any order."""

    def __init__(
        self, amount: int, network: Network = lambda prepare, _now: prepare.amount,
        *, slippage: str = "0.01", seed: int = 0, min_delivered: int = 0,
        own_rate: OwnRate = lambda _code, _scale: None,
    ) -> None:  # fmt: skip
        self.receiver = Receiver(
            key=bytes(32), wallets=("w",), asset_code="EUR", asset_scale=2, own_address=lambda: OWN
        )
        invited = self.receiver.invite("w", bytes(NONCE_BYTES))
        assert invited is not None
        self.destination, secret = invited
        self.secret = secret
        self.keys = Keys(secret)
        self.now_ms = 1_000_000
        self.network = network
        self.random = random.Random(seed)
        self.received = 0
        self.spent = 0
        self.prepares: list[Prepare] = []
        self.most_in_flight = 0
        self.payment = Payment(
            destination=self.destination,
            secret=secret,
            source="test.us.~payer",
            amount=amount,
            slippage=Fraction(slippage),
            asset_code="USD",
            asset_scale=9,
            now_ms=self.now_ms,
            random_octets=self.random.randbytes,
            min_delivered=min_delivered,
            own_rate=own_rate,
        )

    def answer(self, prepare: Prepare) -> Answer:
        said = self.network(prepare, self.now_ms)
        if not isinstance(said, int):
            return said
        connection = self.receiver.find(prepare.destination)
        assert connection is not None
        arrival = self.receiver.arrived(connection, prepare, said)
        if not isinstance(arrival, Arrival):
            return arrival
        self.received += said
        self.spent += prepare.amount
        return self.receiver.fulfill(arrival)

    def run(self, *, steps_max: int = 100_000) -> Payment:
        """To the end; what was committed is all, at once."""
        payment = self.payment
        payment.commit(bounds.SEQUENCE_MAX)
        waiting: list[tuple[int, Prepare]] = []
        for _ in range(steps_max):
            made = payment.take(self.now_ms)
            self.prepares += [prepare for _, prepare in made]
            if payment.is_done:
                assert not payment.open_packets
                return payment
            waiting += made
            self.most_in_flight = max(self.most_in_flight, len(waiting))
            assert self.spent <= payment.sent + payment.in_flight <= payment.amount
            if waiting:
                at = self.random.randrange(len(waiting))
                sequence, prepare = waiting.pop(at)
                payment.answered(sequence, self.answer(prepare), self.now_ms)
            else:
                self.now_ms = max(self.now_ms + 1, payment.wake_at_ms())
        raise AssertionError(f"does not end: {payment.phase}, {payment.reason}")

    def _has_money(self, prepare: Prepare) -> bool:
        return self.keys.condition(prepare.data) == prepare.condition

    def reply(
        self, prepare: Prepare, packet_type: int, amount: int, *frames: Frame, ahead: int = 0
    ) -> bytes:
        """What the receiver would say, made by hand."""
        plain = self.keys.open(prepare.data)
        assert plain is not None
        sequence = stream.decode(plain).sequence + ahead
        return self.keys.seal(stream.encode(StreamPacket(sequence, packet_type, amount, frames)))


def code(one: Code, data: bytes = b"") -> Answer:
    return reject(one, "test.hop", "no", data)


def test_a_payment_of_one_packet() -> None:
    world = World(5)
    payment = world.run()
    assert (payment.sent, payment.delivered, payment.packets) == (5, 5, 1)
    assert payment.reason == ""
    assert payment.asset == ConnectionAssetDetails("EUR", 2)
    assert world.received == 5
    # A probe, the money, the close.
    assert [prepare.amount for prepare in world.prepares] == [5, 5, 0]


def test_the_close_has_as_long_as_the_money_so_that_it_reaches_the_end_of_a_long_line() -> None:
    world = World(5)
    world.run()
    _, money, close = world.prepares
    assert close.expires_at_ms - money.expires_at_ms >= 0


@given(
    st.integers(1, 10**6), st.integers(1, 2000), st.fractions("1/1000", 1000), st.integers(0, 99)
)
def test_never_a_unit_more_and_exactly_what_was_asked(
    amount: int, packet_max: int, rate: Fraction, seed: int
) -> None:
    packet_max = max(packet_max, amount // 500, int(10 / rate) + 1)

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if prepare.amount > packet_max:
            # In another unit than ours, as connectors further on say it.
            scale = Fraction(7, 3)
            data = amount_too_large_data(int(prepare.amount * scale), int(packet_max * scale))
            return code(Code.F08_AMOUNT_TOO_LARGE, data)
        return int(prepare.amount * rate)

    world = World(amount, network, slippage="0.2", seed=seed)
    payment = world.run()
    assert world.received == payment.delivered
    assert world.spent == payment.sent <= amount
    if amount * rate >= 1:
        assert (payment.sent, payment.reason) == (amount, "")


@given(st.integers(0, 99), st.floats(0, 0.5))
def test_packets_that_are_lost_or_refused_for_now_are_made_up_for(seed: int, share: float) -> None:
    chance = random.Random(seed)
    codes = (Code.T00_INTERNAL_ERROR, Code.T04_INSUFFICIENT_LIQUIDITY, Code.T05_RATE_LIMITED,
             Code.R00_TRANSFER_TIMED_OUT, Code.T01_PEER_UNREACHABLE)  # fmt: skip

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if prepare.amount > 100:
            return code(Code.F08_AMOUNT_TOO_LARGE)
        return code(chance.choice(codes)) if chance.random() < share else prepare.amount

    world = World(5000, network, seed=seed)
    payment = world.run()
    assert payment.sent == payment.delivered == world.received == 5000


def test_many_packets_are_in_flight_and_never_more_than_allowed() -> None:
    world = World(
        20_000,
        lambda p, _: (
            code(Code.F08_AMOUNT_TOO_LARGE, amount_too_large_data(p.amount, 10))
            if p.amount > 10
            else p.amount
        ),
    )
    payment = world.run()
    assert payment.packets == 2000
    assert 256 < world.most_in_flight <= bounds.WINDOW_MAX


def test_a_burst_is_made_in_parts() -> None:
    """Whoever holds back all answers and gives them at once makes room for all of the window."""
    world = World(10**9, lambda prepare, _now: prepare.amount)
    payment = world.payment
    payment.commit(bounds.SEQUENCE_MAX)
    payment.terms, payment.phase = Terms(Fraction(1), Fraction(0)), Phase.SENDING
    payment.size.now, payment.window.size = 1000, float(bounds.WINDOW_MAX)
    made = [len(payment.take(world.now_ms)) for _ in range(10)]
    assert made == [bounds.PACKETS_AT_ONCE_MAX] * 8 + [0, 0]


def test_nothing_beyond_what_is_committed_is_sent() -> None:
    world = World(1000)
    payment = world.payment
    (probe,) = payment.take(world.now_ms)
    payment.answered(probe[0], world.answer(probe[1]), world.now_ms)
    assert payment.phase is Phase.SENDING
    assert payment.take(world.now_ms) == []
    payment.size.now = 100
    payment.commit(4)
    packets = payment.take(world.now_ms)
    assert [prepare.amount for _, prepare in packets] == [100, 100, 100]
    assert payment.open_money == [sequence for sequence, _ in packets] == [2, 3, 4]
    payment.answered(3, world.answer(packets[1][1]), world.now_ms)
    assert payment.open_money == [2, 4]
    assert payment.take(world.now_ms) == []
    payment.commit(5)
    assert [sequence for sequence, _ in payment.take(world.now_ms)] == [5]


@pytest.mark.parametrize("one", [Code.F99_APPLICATION_ERROR, Code.F05_WRONG_CONDITION,
                                 Code.F04_INSUFFICIENT_DESTINATION_AMOUNT])  # fmt: skip
def test_probes_are_answered_by_different_codes(one: Code) -> None:
    world = World(10)

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if world._has_money(prepare):
            return prepare.amount
        return code(one, world.reply(prepare, REJECT, prepare.amount))

    world.network = network
    assert world.run().sent == 10


def forged(world: World, prepare: Prepare) -> bytes:
    return Keys(bytes(32)).seal(stream.encode(StreamPacket(1, REJECT, 10**6)))


@pytest.mark.parametrize(
    "data",
    [
        lambda _w, _p: b"",
        forged,
        lambda w, p: w.reply(p, REJECT, 10, ahead=1),
        lambda w, p: w.reply(p, FULFILL, 10),
        lambda _w, p: p.data,
    ],
    ids=["empty", "another key", "another sequence", "another type", "the question"],
)
def test_a_rate_that_the_receiver_has_not_said_is_not_used(
    data: Callable[[World, Prepare], bytes],
) -> None:
    world = World(10)
    world.network = lambda p, _: code(Code.F99_APPLICATION_ERROR, data(world, p))
    payment = world.run()
    assert payment.sent == 0
    assert payment.reason.startswith("F99 by test.hop")
    assert payment.terms is None


@pytest.mark.parametrize(
    "one", [Code.F02_UNREACHABLE, Code.F06_UNEXPECTED_PAYMENT, Code.R01_INSUFFICIENT_SOURCE_AMOUNT]
)
def test_a_final_error_ends_it_at_once(one: Code) -> None:
    world = World(10, lambda _p, _n: code(one))
    payment = world.run()
    assert (payment.sent, payment.rejected) == (0, 1)
    assert payment.reason == f"{one.value} by test.hop: 'no'"


def test_what_others_write_is_quoted_and_cut() -> None:
    message = "paid'\n\x1b[2J\u202e" + 1000 * "x"
    world = World(10, lambda _p, _n: reject(Code.F02_UNREACHABLE, "test.hop", message))
    reason = world.run().reason
    assert reason.isprintable()
    assert reason.isascii()
    assert len(reason) <= bounds.REASON_CHARACTERS_MAX
    assert reason.startswith("F02 by test.hop: \"paid'")
    assert reason.endswith('xxx..."')


def test_the_asset_that_a_receiver_names_is_cut_and_can_be_printed() -> None:
    assert shown_asset(ConnectionAssetDetails("USD", 9)) == "USD/9"
    assert shown_asset(ConnectionAssetDetails("\x1b[2J\u202e" + "x" * 30_000, 255)) == (
        "?[2J?" + "x" * 27 + "/255"
    )


def test_a_network_that_never_lets_a_packet_pass_ends_it_in_a_bounded_time() -> None:
    world = World(10, lambda _p, _n: code(Code.T01_PEER_UNREACHABLE))
    began_ms = world.now_ms
    payment = world.run()
    assert payment.sent == 0
    assert world.now_ms - began_ms <= bounds.STALLED_MS_MAX + 2 * bounds.PAUSE_MS_MAX
    assert payment.reason.startswith("T01")


def test_a_rate_that_becomes_worse_than_allowed_ends_it() -> None:
    world = World(10_000, slippage="0.1")

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if prepare.amount > 100:
            return code(Code.F08_AMOUNT_TOO_LARGE, amount_too_large_data(prepare.amount, 100))
        return prepare.amount if world.received < 2000 else prepare.amount * 89 // 100

    world.network = network
    payment = world.run()
    assert 2000 <= payment.sent < 10_000
    assert payment.delivered == world.received == payment.sent
    assert "rate" in payment.reason


@pytest.mark.parametrize("most", [1, 3, 10, 500])
@pytest.mark.parametrize("slippage", ["0", "0.01", "0.2"])
def test_a_hop_that_makes_packets_tiny_cannot_keep_what_is_rounded_away(
    most: int, slippage: str
) -> None:
    """It lets the quote pass as it is, then only packets of a few units, and of each as much as it has to."""

    def thief(prepare: Prepare, _now_ms: int) -> Answer | int:
        if prepare.amount > most:
            data = amount_too_large_data(prepare.amount, most)
            return reject(Code.F08_AMOUNT_TOO_LARGE, "g.thief", "", data)
        # The worst case: it has guessed the minimum that only the receiver can read.
        plain = world.keys.open(prepare.data)
        assert plain is not None
        packet = stream.decode(plain)
        is_probe = not any(isinstance(frame, StreamMoney) for frame in packet.frames)
        return prepare.amount if is_probe else packet.amount

    amount = 5000
    world = World(amount, thief, slippage=slippage)
    payment = world.run()
    least = (
        payment.sent * (1 - Fraction(slippage)) - 1 - Fraction(amount, bounds.ROUNDED_DOWN_PARTS)
    )
    assert world.received >= least
    assert payment.delivered == world.received


def test_what_honest_hops_round_away_is_borne() -> None:
    """Each packet brings up to a unit less than the rate, which was quoted with another amount."""
    world = World(
        100_003,
        lambda prepare, _now_ms: (
            prepare.amount * 92 // 100
            if prepare.amount <= 1000
            else reject(
                Code.F08_AMOUNT_TOO_LARGE, "g.x", "", amount_too_large_data(prepare.amount, 1000)
            )
        ),
    )
    payment = world.run()
    assert payment.sent == payment.amount


def test_a_receiver_that_says_it_got_less_than_the_minimum_ends_it() -> None:
    world = World(1000)

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if not world._has_money(prepare):
            return prepare.amount
        return Fulfill(
            fulfillment=world.keys.fulfillment(prepare.data),
            data=world.reply(prepare, FULFILL, 1),
        )

    world.network = network
    payment = world.run()
    assert payment.delivered == payment.packets
    assert "less than the minimum" in payment.reason or payment.sent == 1000


def test_a_fulfill_without_a_readable_answer_counts_its_minimum() -> None:
    world = World(1000, slippage="0.1")

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if not world._has_money(prepare):
            return prepare.amount
        return Fulfill(fulfillment=world.keys.fulfillment(prepare.data), data=b"junk")

    world.network = network
    payment = world.run()
    assert (payment.sent, payment.delivered) == (1000, 900)


def test_limits_of_the_receiver_are_kept_and_never_shrink() -> None:
    world = World(1000)

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if prepare.amount > 100:
            return code(Code.F08_AMOUNT_TOO_LARGE, amount_too_large_data(prepare.amount, 100))
        if not world._has_money(prepare):
            return code(Code.F99_APPLICATION_ERROR, world.reply(
                prepare, REJECT, prepare.amount, StreamMaxMoney(1, 350, 0)))  # fmt: skip
        world.received += prepare.amount
        return Fulfill(
            fulfillment=world.keys.fulfillment(prepare.data),
            data=world.reply(prepare, FULFILL, prepare.amount, StreamMaxMoney(1, 0, 0)),
        )

    world.network = network
    payment = world.run()
    assert payment.sent == world.received == 300
    assert payment.reason == "the receiver takes no more"


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ((ConnectionClose(1, ""),), "closed the connection"),
        ((ConnectionAssetDetails("EUR", 2), ConnectionAssetDetails("EUR", 3)), "changed its asset"),
    ],
)
def test_a_receiver_that_breaks_off_ends_it(frames: tuple[Frame, ...], reason: str) -> None:
    world = World(10)
    world.network = lambda p, _: code(
        Code.F99_APPLICATION_ERROR, world.reply(p, REJECT, p.amount, *frames)
    )
    payment = world.run()
    assert payment.sent == 0
    assert reason in payment.reason


def test_what_is_asked_for_is_what_packets_say() -> None:
    world = World(100, slippage="0.25")
    world.run()
    plain = world.keys.open(world.prepares[1].data)
    assert plain is not None
    assert stream.decode(plain) == StreamPacket(2, 12, 75, (StreamMoney(1, 1),))


def test_a_stop_sends_nothing_more_and_waits_for_what_is_in_flight() -> None:
    world = World(100)
    payment = world.payment
    (probe,) = payment.take(world.now_ms)
    payment.answered(probe[0], world.answer(probe[1]), world.now_ms)
    payment.commit(100)
    (money,) = payment.take(world.now_ms)
    payment.stop("stopped")
    assert payment.take(world.now_ms) == []
    assert not payment.is_done
    payment.answered(money[0], world.answer(money[1]), world.now_ms)
    (close,) = payment.take(world.now_ms)
    assert close[1].amount == 0
    assert (payment.is_done, payment.sent) == (True, 100)


def test_an_answer_that_comes_twice_counts_once() -> None:
    world = World(100)
    payment = world.payment
    (probe,) = payment.take(world.now_ms)
    payment.answered(probe[0], world.answer(probe[1]), world.now_ms)
    payment.commit(100)
    ((sequence, prepare),) = payment.take(world.now_ms)
    answer = world.answer(prepare)
    for _ in range(2):
        payment.answered(sequence, answer, world.now_ms)
    assert (payment.sent, payment.packets) == (100, 1)


# --- size and window


@given(st.integers(1, 2**64), st.integers(1, 2**64))
def test_packets_of_a_payment_are_about_equal(left: int, most: int) -> None:
    size = PacketSize(most)
    count = -(-left // most)
    amounts = []
    for _ in range(min(count, 50)):
        amount = size.next(left)
        assert 1 <= amount <= min(left, most)
        amounts.append(amount)
        left -= amount
    assert max(amounts) - min(amounts) <= 1


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (amount_too_large_data(2000, 500), 250),
        (b"", 500),
        (b"short", 500),
        (amount_too_large_data(5, 10), 500),
        (amount_too_large_data(10, 0), 500),
        (amount_too_large_data(2**64 - 1, 2**64 - 2), 999),
    ],
)
def test_how_large_a_packet_is_after_one_that_was_too_large(data: bytes, wanted: int) -> None:
    size = PacketSize(1000)
    size.too_large(1000, data)
    assert (size.hard, size.now) == (wanted, wanted)


def test_size_is_halved_by_a_want_of_liquidity_and_grows_again() -> None:
    size = PacketSize(1000)
    size.no_liquidity(1000)
    assert size.now == 500
    for _ in range(100):
        size.passed(size.now)
    assert size.now == 1000


def test_one_burst_of_refusals_halves_the_window_once() -> None:
    window = Window()
    assert window.refused(1, 16, 0)
    assert not any(window.refused(sequence, 16, 0) for sequence in range(2, 17))
    assert window.size == bounds.WINDOW_FIRST / 2
    assert window.refused(17, 20, 0)


def test_pauses_grow_to_a_bound_and_end_when_a_packet_passes() -> None:
    window = Window()
    for sequence in range(20):
        window.refused(sequence, sequence, 0)
    assert window.pause_until_ms == bounds.PAUSE_MS_MAX
    assert window.size == 1
    window.passed()
    window.refused(30, 30, 0)
    assert window.pause_until_ms == bounds.PAUSE_MS_MIN


def test_the_receiver_cannot_fulfill_a_probe() -> None:
    """Its condition follows from nothing that the receiver has."""
    world = World(1_000_000)
    ((_, probe),) = world.payment.take(world.now_ms)
    known = [world.keys.fulfillment(probe.data)]
    known += [world.keys.fulfillment(world.keys.condition(probe.data)), probe.condition]
    assert all(hashlib.sha256(one).digest() != probe.condition for one in known)
    other = World(1_000_000)
    other.random = random.Random(2)
    other.payment._random_octets = other.random.randbytes
    ((_, second),) = other.payment.take(other.now_ms)
    assert (second.data, second.amount) == (probe.data, probe.amount)
    assert second.condition != probe.condition


def test_a_probe_that_is_fulfilled_all_the_same_counts_and_ends_the_payment() -> None:
    world = World(1_000_000)
    ((sequence, probe),) = world.payment.take(world.now_ms)
    world.payment.answered(sequence, Fulfill(fulfillment=bytes(32)), world.now_ms)
    assert world.payment.sent == probe.amount
    assert world.payment.phase is Phase.CLOSING


def test_a_rate_that_no_packet_can_tell_ends_the_payment() -> None:
    """A receiver that quotes 2**64 - 1 for a small probe, and takes larger packets then."""
    world = World(1_000_000)
    payment = world.payment
    payment.commit(bounds.SEQUENCE_MAX)
    ((sequence, probe),) = payment.take(world.now_ms)
    quote = world.reply(probe, REJECT, UINT_MAX)
    payment.answered(sequence, code(Code.F99_APPLICATION_ERROR, quote), world.now_ms)
    # As if the probe had been for one unit.
    payment.terms = Terms(Fraction(UINT_MAX), Fraction(0))
    assert payment.take(world.now_ms) == []
    assert payment.phase is not Phase.SENDING
    assert payment.reason == "the receiver states a rate that no packet can tell"


# --- what must arrive


@given(st.integers(1, 10**12), st.fractions(0, 1000), st.fractions(0, 1), st.fractions(0, 1000))
def test_the_minimum_of_a_packet(
    amount: int, rate: Fraction, slippage: Fraction, share: Fraction
) -> None:
    up = Terms(rate, slippage, share).minimum(amount, rounds_up=True)
    assert up >= amount * rate * (1 - slippage)
    minimum = Terms(rate, slippage, share).minimum(amount)
    assert minimum <= up <= minimum + 1
    assert minimum >= amount * share
    assert minimum > amount * rate * (1 - slippage) - 1
    assert minimum < max(amount * share + 1, amount * rate * (1 - slippage) + 1)


def test_a_packet_can_be_made_again_from_what_is_kept_of_it() -> None:
    world = World(10_000, lambda p, _: p.amount // 2, slippage="0.1")
    payment = world.run()
    assert payment.terms is not None
    first = world.prepares[1]
    again = make(
        Keys(world.secret), world.destination, 2, first.amount, payment.terms.minimum(first.amount),
        first.expires_at_ms,
    )  # fmt: skip
    assert again == first


def half(prepare: Prepare, _now: int) -> int:
    return prepare.amount // 2


@pytest.mark.parametrize(("own", "is_paid"), [("0.5", True), ("0.5555", True), ("0.56", False)])
def test_a_quote_is_compared_with_our_own_rates(own: str, is_paid: bool) -> None:
    asked: list[tuple[str, int]] = []

    def own_rate(code: str, scale: int) -> Fraction:
        asked.append((code, scale))
        return Fraction(own)

    world = World(1_000_000, half, slippage="0.1", own_rate=own_rate)
    payment = world.run()
    assert asked == [("EUR", 2)]
    if is_paid:
        assert (payment.sent, world.received) == (1_000_000, 500_000)
        return
    assert (payment.sent, world.spent) == (0, 0)
    assert "500000" in payment.reason
    assert "560000" in payment.reason


def test_a_quote_below_the_least_that_must_arrive_is_refused_before_money_moves() -> None:
    world = World(1_000_000, half, min_delivered=500_001)
    payment = world.run()
    assert (payment.sent, world.spent) == (0, 0)
    assert "500000" in payment.reason
    assert "500001" in payment.reason
    assert World(1_000_000, half, min_delivered=500_000).run().delivered == 500_000


@given(st.integers(0, 99), st.integers(1, 300), st.fractions("0.4", "0.6"))
def test_the_least_that_must_arrive_does_or_the_payment_is_cut_short(
    seed: int, packet_max: int, rate: Fraction
) -> None:
    """Whatever the rate becomes after the quote."""

    def network(prepare: Prepare, _now: int) -> Answer | int:
        if prepare.amount > packet_max:
            data = amount_too_large_data(prepare.amount, packet_max)
            return code(Code.F08_AMOUNT_TOO_LARGE, data)
        return int(prepare.amount * (rate if world.received else Fraction("0.5")))

    world = World(10_000, network, slippage="1", min_delivered=4500, seed=seed)
    payment = world.run()
    assert world.received == payment.delivered
    assert payment.delivered * 10_000 >= 4500 * payment.sent
    if payment.sent == 10_000:
        assert payment.delivered >= 4500


def test_a_refused_quote_is_not_asked_for_again() -> None:
    world = World(1000, half, min_delivered=501)
    world.run()
    assert [prepare.amount for prepare in world.prepares] == [1000, 0]
