"""The bounds: positive, with their units, and wide enough for what must pass."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import connector
from connector.base import limits
from connector.btp import bounds as btp_bounds
from connector.btp.packet import MESSAGE, RESPONSE, encode_ilp
from connector.ilp.packet import Prepare, Reject, encode

_BOUNDS = {name: value for name, value in vars(limits).items() if name.isupper()}
_PACKAGES = sorted(path.parent.name for path in Path(connector.__file__).parent.glob("*/bounds.py"))
_UNITS = (
    "_DAYS",
    "AMOUNT",
    "CHARACTERS",
    "BYTES",
    "SECONDS",
    "MS",
    "PROTOCOLS",
    "CONNECTIONS",
    "CONNECTIONS_NOT_LOGGED_IN",
    "IN_FLIGHT",
    "RECORDS",
    "LINES",
    "DELIVERIES",
    "PACKETS",
    "KEYS",
    "SOURCES",
    "ANSWERS",
    "ROUTES",
    "PEERS",
    "FILES",
    "NODES",
    "ENTRIES",
    "EVENTS",
    "VIEWERS",
    "FRAMES",
    "MESSAGES",
    "POINTS",
    "TRANSFERS",
    "RESERVATIONS",
    "ITEMS",
    "NODES",
    "REQUESTS_AT_ONCE",
    "SAMPLES",
    "DIGITS",
    "ATTEMPTS",
)


@pytest.mark.parametrize("name", _BOUNDS)
def test_a_bound_is_a_positive_number_with_its_unit_in_its_name(name: str) -> None:
    assert _BOUNDS[name] > 0
    assert any(unit in name for unit in _UNITS)


@pytest.mark.parametrize("package", _PACKAGES)
def test_the_bounds_of_a_package_are_positive_numbers(package: str) -> None:
    bounds = importlib.import_module(f"connector.{package}.bounds")
    found = {name: value for name, value in vars(bounds).items() if name.isupper()}
    assert found
    assert [name for name, value in found.items() if not value > 0] == []


def test_the_bounds_of_the_specifications_are_theirs() -> None:
    assert limits.AMOUNT_MAX == 2**64 - 1
    assert limits.ADDRESS_CHARACTERS_MAX == 1023
    assert limits.PACKET_DATA_BYTES_MAX == 32_767
    assert limits.REJECT_MESSAGE_BYTES_MAX == 8191
    assert btp_bounds.BTP_ERROR_DATA_BYTES_MAX == 8192


def test_the_largest_packets_fit_a_btp_message() -> None:
    destination = "g." + "a" * (limits.ADDRESS_CHARACTERS_MAX - 2)
    data = bytes(limits.PACKET_DATA_BYTES_MAX)
    prepare = Prepare(
        amount=0, expires_at_ms=0, condition=bytes(32), destination=destination, data=data
    )
    reject = Reject(
        code="F00",
        triggered_by=destination,
        message="m" * limits.REJECT_MESSAGE_BYTES_MAX,
        data=data,
    )
    for octets in (
        encode_ilp(MESSAGE, 1, encode(prepare), packet_id=1),
        encode_ilp(RESPONSE, 1, encode(reject)),
    ):
        assert len(octets) <= limits.BTP_MESSAGE_BYTES_MAX
