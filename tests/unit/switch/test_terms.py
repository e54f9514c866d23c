"""What we offer the next hop: fees, rates, expiry."""

from __future__ import annotations

import struct
from fractions import Fraction

import pytest

from connector.base import limits
from connector.ilp.packet import Reject
from connector.peering.model import Asset, PeerTerms
from connector.switch import terms
from connector.switch.terms import Amounts, Rates

XRP9, XRP6, EUR2, USD2 = Asset("XRP", 9), Asset("XRP", 6), Asset("EUR", 2), Asset("USD", 2)
NO_RATES = Rates({})
NOW_MS = 1_700_000_000_000


def peer(asset: Asset = XRP9, fee: int = 0) -> PeerTerms:
    return PeerTerms(peer_id="p", asset=asset, fee_basis_points=fee)


def divide(
    amount: int,
    *,
    source: Asset = XRP9,
    target: Asset = XRP9,
    fee: int = 0,
    rates: Rates = NO_RATES,
) -> Amounts | Reject:
    return terms.amounts(peer(source, fee), peer(target), amount, rates, "g.us")


# --- what may be in flight to the next hop


@pytest.mark.parametrize(
    ("rate", "fee", "largest"),
    [(Fraction(1), 0, 1000), (Fraction(3, 2), 0, 667), (Fraction(2, 3), 0, 1501), (Fraction(1), 100, 1011)],
)  # fmt: skip
def test_a_packet_that_is_more_than_may_be_in_flight_to_the_next_hop_is_too_large(
    rate: Fraction, fee: int, largest: int
) -> None:
    next_hop = PeerTerms(peer_id="p", asset=EUR2, max_in_flight_value=1000)
    rates = Rates({("USD", "EUR"): rate})

    def offered(amount: int) -> Amounts | Reject:
        return terms.amounts(peer(USD2, fee), next_hop, amount, rates, "g.us")

    assert isinstance(offered(largest), Amounts)
    refusal = offered(largest + 1)
    assert isinstance(refusal, Reject)
    received, told = struct.unpack(">QQ", refusal.data)
    assert (refusal.code, received) == ("F08", largest + 1)
    assert isinstance(offered(told), Amounts)  # what the sender is told passes
    assert told > largest * 0.98


# --- rates


@pytest.mark.parametrize(
    ("source", "target", "ratio"),
    [
        (XRP9, XRP9, (1, 1)),
        (XRP6, XRP9, (1000, 1)),
        (XRP9, XRP6, (1, 1000)),
        (USD2, EUR2, (9, 10)),
        (USD2, Asset("EUR", 4), (90, 1)),
        (Asset("USD", 4), EUR2, (9, 1000)),
        (EUR2, USD2, None),
        (XRP9, EUR2, None),
    ],
)
def test_a_ratio_takes_rate_and_scales_into_account(
    source: Asset, target: Asset, ratio: tuple[int, int] | None
) -> None:
    rates = Rates({("USD", "EUR"): Fraction(9, 10)})
    assert rates.ratio(source, target) == ratio
    assert rates.ratio(source, target) == ratio  # from the cache


def test_the_rates_are_those_of_the_start() -> None:
    table = {("USD", "EUR"): Fraction(1)}
    rates = Rates(table)
    table.clear()
    assert rates.ratio(USD2, EUR2) == (1, 1)


def test_the_same_currency_uses_no_rate() -> None:
    assert Rates({("XRP", "XRP"): Fraction(2)}).ratio(XRP9, XRP9) == (1, 1)


# --- amounts


@pytest.mark.parametrize("fee", [0, 1, 10_000])
def test_zero_stays_zero_and_passes_even_without_a_rate(fee: int) -> None:
    """STREAM probes rates with it (requirement 37)."""
    assert divide(0, fee=fee) == Amounts(0, 0)
    assert divide(0, source=XRP9, target=EUR2, fee=fee) == Amounts(0, 0)


@pytest.mark.parametrize(
    ("amount", "fee", "expected"),
    [
        (100, 0, Amounts(0, 100)),
        (10_000, 1, Amounts(1, 9999)),
        (9_999, 1, Amounts(1, 9998)),
        (10_001, 1, Amounts(2, 9999)),
        (2, 1, Amounts(1, 1)),
        (1_000, 50, Amounts(5, 995)),
        (1_001, 50, Amounts(6, 995)),
        (10_001, 9_999, Amounts(10_000, 1)),
        (limits.AMOUNT_MAX, 0, Amounts(0, limits.AMOUNT_MAX)),
        (limits.AMOUNT_MAX, 1, Amounts(1844674407370956, limits.AMOUNT_MAX - 1844674407370956)),
    ],
)
def test_the_fee_is_rounded_up(amount: int, fee: int, expected: Amounts) -> None:
    assert divide(amount, fee=fee) == expected


@pytest.mark.parametrize(
    ("amount", "fee", "source", "target"),
    [
        (1, 1, XRP9, XRP9),
        (10_000, 10_000, XRP9, XRP9),
        (999, 0, XRP9, XRP6),
        (1000, 1, XRP9, XRP6),
    ],
)
def test_a_packet_whose_fee_takes_everything_is_refused(
    amount: int, fee: int, source: Asset, target: Asset
) -> None:
    refusal = divide(amount, source=source, target=target, fee=fee)
    assert isinstance(refusal, Reject)
    assert (refusal.code, refusal.triggered_by) == ("R01", "g.us")


@pytest.mark.parametrize(("amount", "onward"), [(1000, 1), (1999, 1), (2000, 2)])
def test_the_onward_amount_is_rounded_down(amount: int, onward: int) -> None:
    assert divide(amount, source=XRP9, target=XRP6) == Amounts(0, onward)


def test_fee_then_rate() -> None:
    rates = Rates({("USD", "EUR"): Fraction(9, 10)})
    assert divide(1001, source=USD2, target=EUR2, fee=100, rates=rates) == Amounts(11, 891)


def test_without_a_rate_nothing_is_forwarded() -> None:
    refusal = divide(100, source=XRP9, target=EUR2)
    assert refusal == Reject(code="T00", triggered_by="g.us", message="no exchange rate")


def test_an_amount_that_outgrows_64_bits_is_refused_with_the_largest_that_does_not() -> None:
    largest = limits.AMOUNT_MAX // 1000
    assert divide(largest, source=XRP6, target=XRP9) == Amounts(0, largest * 1000)
    refusal = divide(largest + 1, source=XRP6, target=XRP9)
    assert isinstance(refusal, Reject)
    assert (refusal.code, refusal.triggered_by) == ("F08", "g.us")
    assert refusal.data == struct.pack(">QQ", largest + 1, largest)


@pytest.mark.parametrize(
    ("rate", "largest"),
    [
        (Fraction(1), limits.AMOUNT_MAX),
        (Fraction(3, 2), limits.AMOUNT_MAX * 2 // 3),
        (Fraction(2, 3), limits.AMOUNT_MAX),
        (Fraction(10**30), 0),
    ],
)
def test_the_largest_amount_that_a_refusal_names_is_the_largest_that_passes(
    rate: Fraction, largest: int
) -> None:
    rates = Rates({("USD", "EUR"): rate})
    onward = largest * rate.numerator // rate.denominator
    assert divide(largest, source=USD2, target=EUR2, rates=rates) == Amounts(0, onward)
    if largest < limits.AMOUNT_MAX:
        for amount in (largest + 1, limits.AMOUNT_MAX):
            refusal = divide(amount, source=USD2, target=EUR2, rates=rates)
            assert isinstance(refusal, Reject)
            assert refusal.data == struct.pack(">QQ", amount, largest)


# --- expiry


@pytest.mark.parametrize(
    ("left_ms", "hold_ms_max", "onward_ms"),
    [
        (30_000, 30_000, 29_000),
        (30_001, 30_000, 29_000),
        (10_000, 30_000, 9_000),
        (2_000, 30_000, 1_000),
        (1_000_000, 2_000, 1_000),
    ],
)
def test_the_next_hop_gets_one_window_less_and_no_more_than_the_hold_time(
    left_ms: int, hold_ms_max: int, onward_ms: int
) -> None:
    onward = terms.onward_expiry_ms(NOW_MS + left_ms, NOW_MS, 1_000, hold_ms_max, "g.us")
    assert onward == NOW_MS + onward_ms


@pytest.mark.parametrize(
    ("left_ms", "hold_ms_max"), [(1_999, 30_000), (1_000, 30_000), (1, 30_000), (30_000, 1_999)]
)
def test_less_than_two_windows_is_not_enough(left_ms: int, hold_ms_max: int) -> None:
    refusal = terms.onward_expiry_ms(NOW_MS + left_ms, NOW_MS, 1_000, hold_ms_max, "g.us")
    assert isinstance(refusal, Reject)
    assert (refusal.code, refusal.triggered_by) == ("R02", "g.us")


# --- rates of assets that others have named


def test_a_rate_for_an_asset_that_others_have_named_is_given_and_not_remembered() -> None:
    now_s = 0.0
    rates = Rates(
        {("USD", "EUR"): Fraction(9, 10)}, spread_basis_points=1000, monotonic_s=lambda: now_s
    )
    assert rates.known(USD2, EUR2) == Fraction(81, 100)
    assert rates.known(USD2, Asset("USD", 9)) == 10**7
    assert rates.known(USD2, Asset("EUR", 255)) == Fraction(81, 100) * 10**253
    assert rates.known(EUR2, USD2) is None
    assert rates.known(USD2, XRP6) is None
    rates.use(terms.Prices("USD", {"USD": Fraction(1), "XRP": Fraction(2)}, until_s=10))
    assert rates.known(USD2, XRP6) == 2 * Fraction(9, 10) * 10**4
    assert rates.known(USD2, Asset("GBP", 2)) is None
    now_s = 10.0
    assert rates.known(USD2, XRP6) is None
    assert not rates._ratios
    assert not rates._live_ratios
    for source, target in ((USD2, EUR2), (USD2, XRP6), (XRP9, XRP6)):
        ratio = rates.ratio(source, target)
        assert rates.known(source, target) == (None if ratio is None else Fraction(*ratio))
