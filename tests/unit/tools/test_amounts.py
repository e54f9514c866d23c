"""Amounts as they are typed and shown: exact, in one asset, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base import limits
from connector.base.errors import OperatorError
from connector.tools.amounts import fault_in, in_asset, units_of


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0", 0), ("1250", 1250), ("1_250", 1250), ("1,250", 1250), ("1.25USD", 125),
        ("1.25 usd", 125), ("1USD", 100), ("1.500USD", 150), ("0.01USD", 1), ("1,000.5USD", 100_050),
        (f"{limits.AMOUNT_MAX}", limits.AMOUNT_MAX),
    ],
)  # fmt: skip
def test_an_amount_is_taken_in_units_and_in_the_asset(text: str, units: int) -> None:
    assert units_of(text, "USD", 2) == units


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.25", "name its asset, 1.25USD"), ("1.25EUR", "the asset of this peer is USD"),
        ("0.001USD", "finer than a smallest unit"), ("-1", "is no amount"), ("", "is no amount"),
        ("1e5", "the asset of this peer is USD"), ("USD", "is no amount"), ("1.USD", "is no amount"),
        (f"{limits.AMOUNT_MAX + 1}", "above the largest amount"),
        ("1" + "0" * 30 + "USD", "above the largest amount"), ("\u0661", "is no amount"),
    ],
)  # fmt: skip
def test_what_is_no_amount_of_the_asset_is_refused(text: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        units_of(text, "USD", 2)


@given(st.integers(0, limits.AMOUNT_MAX), st.integers(0, 30))
def test_what_is_shown_is_what_was_meant(units: int, scale: int) -> None:
    assert units_of(in_asset(units, "USD", scale), "USD", scale) == units


def test_a_debt_is_shown_with_its_sign() -> None:
    assert in_asset(-125, "USD", 2) == "-1.25 USD"
    assert in_asset(-5, "XRP", 6) == "-0.000005 XRP"
    assert in_asset(7, "JPY", 0) == "7 JPY"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1", ""),
        ("1.5EUR", ""),
        ("1.5", "has a point"),
        ("x", "must be whole"),
        ("", "must be whole"),
    ],
)
def test_what_is_an_amount_in_no_asset_is_told_without_asking_for_one(text: str, said: str) -> None:
    found = fault_in(text)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_a_large_amount_is_shown_in_groups() -> None:
    assert in_asset(123_456_789, "USD", 2) == "1,234,567.89 USD"
