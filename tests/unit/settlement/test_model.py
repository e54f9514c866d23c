"""Quantities in whole units, phases as a table, and when how much is due."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import ProtocolError, SettlementError
from connector.peering.model import Asset
from connector.settlement.model import (
    IN_LEDGER,
    NOTHING,
    OPEN,
    TRANSITIONS,
    Direction,
    Move,
    Origin,
    Payer,
    Phase,
    Quantity,
    Settlement,
    State,
    after,
    amount_due,
    convert,
    key_tag,
    read_quantity,
    settled_sums,
    to_engine,
)

USD = Asset("USD", 9)
scales = st.integers(0, 255)
quantities = st.builds(Quantity, st.integers(0, 10**30), scales)


def value(quantity: Quantity) -> Fraction:
    return Fraction(quantity.amount, 10**quantity.scale)


# --- phases


@pytest.mark.parametrize(("phase", "move"), list(product(Phase, Move)))
def test_every_move_is_in_the_table_or_refused(phase: Phase, move: Move) -> None:
    if (phase, move) in TRANSITIONS:
        assert after(phase, move) is TRANSITIONS[phase, move]
    else:
        with pytest.raises(ProtocolError, match=f"that is {phase} cannot {move}"):
            after(phase, move)


def test_final_phases_have_no_transition() -> None:
    for phase in set(Phase) - OPEN:
        assert not [move for move in Move if (phase, move) in TRANSITIONS]


def test_no_booked_phase_leads_to_refused() -> None:
    """Between the ledger and the end there is no way back but to book it back."""
    for (phase, _), to in TRANSITIONS.items():
        if phase in IN_LEDGER:
            assert to in IN_LEDGER


@pytest.mark.parametrize(
    ("phase", "payer", "state"),
    [
        (Phase.PENDING, Payer.ENGINE, State.PENDING),
        (Phase.BOOKED, Payer.ENGINE, State.IN_PROGRESS),
        (Phase.BOOKED, Payer.OPERATOR, State.IN_PROGRESS),
        (Phase.CANCELLING, Payer.OPERATOR, State.IN_PROGRESS),
        (Phase.COMPLETED, Payer.ENGINE, State.IDLE),
        (Phase.REFUSED, Payer.ENGINE, State.IDLE),
        (Phase.CANCELLED, Payer.ENGINE, State.IDLE),
        (Phase.PENDING, Payer.NOBODY, State.IDLE),
    ],
)
def test_the_state_of_each_phase(phase: Phase, payer: Payer, state: State) -> None:
    one = Settlement(
        id=1, booking_id=2, peer_id="bob", asset=USD, direction=Direction.OUTGOING, origin=Origin.THRESHOLD,
        key="k", amount=1, quantity=Quantity(1, 9), payer=payer, phase=phase, created_ms=0,
        changed_ms=0,
    )  # fmt: skip
    assert one.state is state


# --- quantities


@given(st.lists(quantities, max_size=12), scales)
def test_converting_between_scales_conserves_value(given: list[Quantity], scale: int) -> None:
    kept = NOTHING
    units = 0
    for one in given:
        whole, kept = convert(one, kept, scale)
        units += whole
        assert value(kept) < Fraction(1, 10**scale), "a whole unit was kept back"
    assert Fraction(units, 10**scale) + value(kept) == sum(map(value, given))


def test_remainders_add_up_to_a_unit() -> None:
    units, kept = convert(Quantity(19, 1), NOTHING, 0)
    assert (units, kept) == (1, Quantity(9, 1))
    assert convert(Quantity(1, 1), kept, 0) == (1, NOTHING)
    assert convert(Quantity(9, 2), kept, 0) == (0, Quantity(99, 2))
    assert convert(Quantity(10, 2), kept, 0) == (1, NOTHING)


@given(st.integers(0, 2**64), scales, scales)
def test_an_engine_gets_the_booked_amount(amount: int, asset_scale: int, scale: int) -> None:
    booked, told = to_engine(amount, asset_scale, scale)
    assert Fraction(booked, 10**asset_scale) == value(told)
    assert told.scale == scale
    assert 0 <= amount - booked < max(1, 10 ** max(0, asset_scale - scale))


@pytest.mark.parametrize(
    ("amount", "scale"),
    [("0", 0), ("254", 2), ("9" * 100, 255), ("007", 0)],
)
def test_a_quantity_is_digits_and_a_scale(amount: str, scale: int) -> None:
    assert read_quantity(amount, scale) == Quantity(int(amount), scale)
    assert read_quantity(int(amount), scale) == Quantity(int(amount), scale)


@pytest.mark.parametrize(
    ("amount", "scale"),
    [
        (254.0, 2), (True, 2), (-1, 2), (10**100, 2), ("", 2), ("-1", 2), ("1.5", 2), ("1e3", 2), ("9" * 101, 2), ("\u0661", 2), (" 1", 2),
        ("1\n", 2), (None, 2), ("1", None), ("1", 256), ("1", -1), ("1", "2"), ("1", 2.0),
        ("1", True),
    ],
)  # fmt: skip
def test_invalid_quantities(amount: object, scale: object) -> None:
    with pytest.raises(SettlementError):
        read_quantity(amount, scale)


# --- when, and how much


@pytest.mark.parametrize(
    ("owed", "threshold", "settle_to", "available", "due"),
    [
        (101, 100, 0, 1000, 101),
        (100, 100, 0, 1000, 0),
        (101, 100, 40, 1000, 61),
        (101, 100, 100, 1000, 1),
        (101, 100, 0, 60, 60),
        (101, 100, 40, 60, 20),
        (101, 100, 60, 60, 0),
        (101, 100, 0, -5, 0),
        (101, None, 0, 1000, 0),
        (1, 0, 0, 1000, 1),
        (0, 0, 0, 1000, 0),
        (-5, 0, 0, 1000, 0),
    ],
)
def test_the_amount_due(
    owed: int, threshold: int | None, settle_to: int, available: int, due: int
) -> None:
    assert amount_due(owed, threshold=threshold, settle_to=settle_to, available=available) == due


# --- ids


def test_a_hex_key_is_its_own_tag() -> None:
    assert key_tag("00000000000000000000000000000abc") == 0xABC
    assert key_tag("any other") == key_tag("any other") != key_tag("another")


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("direction", list(Direction))
def test_the_sums_a_ledger_should_have(phase: Phase, direction: Direction) -> None:
    is_in = phase in IN_LEDGER
    is_asked_for = is_in or phase in (Phase.PENDING, Phase.ACCEPTED)
    is_back = phase is Phase.CANCELLED
    may_be_back = is_back or phase is Phase.CANCELLING
    outgoing = direction is Direction.OUTGOING
    for with_open, booked, back in ((False, is_in, is_back), (True, is_asked_for, may_be_back)):
        paid, received = settled_sums([(phase, direction, 7)] * 2, with_open=with_open)
        assert paid == (14 if booked and outgoing else 0)
        assert received == (14 if booked and not outgoing else 0) + (14 if back else 0)
