"""Packets for this node: ping, and packets made with its secret."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from connector.ilp.packet import Fulfill, Prepare
from connector.switch import receiver

SECRET = b"s" * 32
DATA = b"invoice 7"


def prepare(condition: bytes, data: bytes = b"") -> Prepare:
    return Prepare(amount=1, expires_at_ms=0, condition=condition, destination="g.us", data=data)


def test_a_ping_is_answered_with_eight_times_ping() -> None:
    assert len(receiver.PING_FULFILLMENT) == 32
    expected = Fulfill(fulfillment=b"ping" * 8)
    condition = hashlib.sha256(b"ping" * 8).digest()
    assert receiver.answer(prepare(condition), None) == expected
    assert receiver.answer(prepare(condition, DATA), SECRET) == expected


def test_the_fulfillment_is_the_hmac_of_the_data() -> None:
    expected = hmac.new(SECRET, DATA, hashlib.sha256).digest()
    assert receiver.fulfillment_for(SECRET, DATA) == expected


@pytest.mark.parametrize("data", [b"", DATA, bytes(32_767)])
def test_a_packet_made_with_the_secret_is_fulfilled(data: bytes) -> None:
    fulfillment = hmac.digest(SECRET, data, "sha256")
    condition = hashlib.sha256(fulfillment).digest()
    assert receiver.answer(prepare(condition, data), SECRET) == Fulfill(fulfillment=fulfillment)


def test_a_packet_made_with_another_secret_or_for_other_data_is_not() -> None:
    condition = hashlib.sha256(receiver.fulfillment_for(SECRET, DATA)).digest()
    assert receiver.answer(prepare(condition, DATA), b"another") is None
    assert receiver.answer(prepare(condition, DATA + b"!"), SECRET) is None
    assert receiver.answer(prepare(condition, DATA), None) is None
    assert receiver.answer(prepare(bytes(32), DATA), SECRET) is None
