"""Amounts as operators type and read them: `1.25USD`, or whole smallest units; pure and exact."""

from __future__ import annotations

import re
from typing import Final

from connector.base import limits
from connector.base.errors import OperatorError
from connector.tools.terminal import exact

_AMOUNT: Final = re.compile(r"([0-9][0-9_,]*)(?:\.([0-9]+))?\s*([A-Za-z][A-Za-z0-9]*)?")


def fault_in(text: str) -> str:
    """Why a text is an amount in no asset; empty: it may be one."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        return "must be whole smallest units, or an amount in the asset such as 1.25USD"
    if found[2] and not found[3]:
        return f"has a point: name its asset, such as {text.strip()}USD"
    return ""


def units_of(text: str, code: str, scale: int, whose: str = "this peer") -> int:
    """Smallest units of an asset: `1.25USD` is 125 at scale 2, and `125` is 125.

    Args:
        text: a whole number of smallest units, or a decimal number and the code of the asset.
        code: of the asset that it has to be in.
        scale: of that asset; 0 to 255.
        whose: asset it is, for the message.

    Raises:
        OperatorError: it is not such a text, it is in another asset, finer than a smallest unit, or
            above 2**64 - 1.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise OperatorError(
            f"{text!r} is no amount: give smallest units such as 1250000, or 1.25{code}"
        )
    whole, fraction, named = found[1].replace("_", "").replace(",", ""), found[2] or "", found[3]
    if named is None:
        if fraction:
            raise OperatorError(f"{text!r} has a point: name its asset, {text}{code}")
        units = int(whole)
    elif named.upper() != code.upper():
        raise OperatorError(f"{text!r} is in {named}, but the asset of {whose} is {code}")
    else:
        kept = fraction.rstrip("0")
        if len(kept) > scale:
            raise OperatorError(f"{text!r} is finer than a smallest unit: {code} has scale {scale}")
        units = int(whole + kept.ljust(scale, "0"))
    if units > limits.AMOUNT_MAX:
        raise OperatorError(f"{text!r} is above the largest amount, {limits.AMOUNT_MAX} units")
    return units


def in_asset(units: int, code: str, scale: int) -> str:
    """An amount in its asset, exact: `1,000.25 USD`; with all zeros left out: `1 USD`."""
    return f"{'-' if units < 0 else ''}{exact(abs(units), scale)} {code}"
