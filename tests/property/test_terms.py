"""Amounts are conserved: what is not forwarded is kept, and rounding favours us."""

from __future__ import annotations

import struct
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from connector.base import limits
from connector.ilp.packet import Reject
from connector.peering.model import Asset, Peer, PeerTerms
from connector.switch import terms
from connector.switch.terms import Amounts, Rates
from tests.support import strategies as some

_fees = st.integers(0, 10_000) | st.sampled_from((0, 1, 9_999, 10_000))
_rates = st.fractions(min_value=Fraction(1, 10**12), max_value=10**12).filter(bool)
_scales = st.integers(0, 20) | st.integers(0, 255)


def terms_of(asset: Asset, fee: int = 0) -> PeerTerms:
    return PeerTerms(peer_id="p", asset=asset, fee_basis_points=fee)


@given(some.amounts, _fees)
def test_within_an_asset_fee_and_onward_amount_are_the_amount(amount: int, fee: int) -> None:
    asset = Asset("XRP", 9)
    divided = terms.amounts(terms_of(asset, fee), terms_of(asset), amount, Rates({}), "g.us")
    exact_fee = Fraction(amount * fee, 10_000)
    if isinstance(divided, Reject):
        assert divided.code == "R01"
        assert amount - exact_fee < 1
        return
    assert divided.fee + divided.onward == amount
    assert exact_fee <= divided.fee < exact_fee + 1
    assert divided.onward > 0 or amount == 0


@given(some.amounts, _fees, _rates, _scales, _scales)
def test_across_assets_nobody_gets_more_than_the_rate_gives(
    amount: int, fee: int, rate: Fraction, scale_in: int, scale_out: int
) -> None:
    source, target = Asset("USD", scale_in), Asset("EUR", scale_out)
    rates = Rates({("USD", "EUR"): rate})
    divided = terms.amounts(terms_of(source, fee), terms_of(target), amount, rates, "g.us")
    # In whole currency units, exactly.
    exact_fee = Fraction(amount * fee, 10_000)
    per_unit = rate * Fraction(10) ** (target.scale - source.scale)
    if isinstance(divided, Reject):
        if divided.code == "R01":
            # Rounded against the sender twice, by less than a unit each time.
            assert (amount - exact_fee - 1) * per_unit < 1
        else:
            assert divided.code == "F08"
            received, largest = struct.unpack(">QQ", divided.data)
            assert received == amount > largest
            assert (amount - exact_fee) * per_unit > limits.AMOUNT_MAX
            again = terms.amounts(terms_of(source, fee), terms_of(target), largest, rates, "g.us")
            assert not isinstance(again, Reject) or again.code == "R01"
        return
    assert exact_fee <= divided.fee < exact_fee + 1
    assert 0 <= divided.onward <= limits.AMOUNT_MAX
    exact = (amount - divided.fee) * per_unit
    assert exact - 1 < divided.onward <= exact
    assert divided.fee + divided.onward / per_unit <= amount


@given(some.amounts, some.amounts, _fees, _rates)
def test_who_sends_more_forwards_no_less(one: int, other: int, fee: int, rate: Fraction) -> None:
    source, target = terms_of(Asset("USD", 2), fee), terms_of(Asset("EUR", 2))
    rates = Rates({("USD", "EUR"): rate})
    low, high = (
        terms.amounts(source, target, amount, rates, "g.us") for amount in sorted((one, other))
    )
    if isinstance(low, Amounts) and isinstance(high, Amounts):
        assert low.onward <= high.onward
        assert low.fee <= high.fee


@given(
    st.integers(-1_000_000, 1_000_000),
    st.integers(1, 60_000),
    st.integers(1, limits.HOLD_MS_MAX),
)
def test_the_next_hop_has_at_least_a_window_and_we_have_one_left(
    left_ms: int, window_ms: int, hold_ms_max: int
) -> None:
    now_ms = 1_700_000_000_000
    onward = terms.onward_expiry_ms(now_ms + left_ms, now_ms, window_ms, hold_ms_max, "g.us")
    if isinstance(onward, Reject):
        assert onward.code == "R02"
        assert min(left_ms, hold_ms_max) < 2 * window_ms
        return
    assert now_ms + window_ms <= onward
    assert onward + window_ms <= now_ms + left_ms
    assert onward + window_ms <= now_ms + hold_ms_max


@given(
    st.integers(1, 1000),
    st.lists(st.integers(0, 400), min_size=1, max_size=80),
)
def test_no_stretch_of_time_lets_in_more_than_its_rate_and_one_burst(
    rate: int, gaps_ms: list[int]
) -> None:
    peer = Peer(PeerTerms(peer_id="p", asset=Asset("XRP", 9), rate_limit=rate))
    start_ms = now_ms = 1_700_000_000_000
    let_in = 0
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        while peer.take_token(now_ms):
            let_in += 1
        # One more may be owed to rounding of fractions of a token.
        assert let_in <= rate + (now_ms - start_ms) * rate / 1000 + 1
