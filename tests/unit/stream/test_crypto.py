"""Encryption and fulfillments, with values computed by the algorithm of RFC 29 in other words."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from connector.stream.crypto import IV_BYTES, OVERHEAD_BYTES, Keys

SECRET = bytes(range(32))


def _decrypt(secret: bytes, data: bytes) -> bytes:
    key = hmac.new(secret, b"ilp_stream_encryption", hashlib.sha256).digest()
    mode = modes.GCM(data[:12], data[12:28])
    decryptor = Cipher(algorithms.AES(key), mode).decryptor()
    return decryptor.update(data[28:]) + decryptor.finalize()


@given(st.binary(max_size=300))
def test_the_iv_then_the_tag_then_the_ciphertext(plain: bytes) -> None:
    data = Keys(SECRET).seal(plain)
    assert len(data) == len(plain) + OVERHEAD_BYTES
    assert _decrypt(SECRET, data) == plain
    assert Keys(SECRET).open(data) == plain


def test_the_same_packet_is_the_same_octets_and_another_one_has_another_iv() -> None:
    keys = Keys(SECRET)
    assert keys.seal(b"one") == keys.seal(b"one")
    assert keys.seal(b"one")[:IV_BYTES] != keys.seal(b"two")[:IV_BYTES]


@pytest.mark.parametrize("at", [0, 12, 28, -1])
def test_what_was_changed_is_not_opened(at: int) -> None:
    data = bytearray(Keys(SECRET).seal(b"something"))
    data[at] ^= 1
    assert Keys(SECRET).open(bytes(data)) is None


@pytest.mark.parametrize("data", [b"", bytes(27), bytes(28), bytes(500)])
def test_what_was_never_encrypted_is_not_opened(data: bytes) -> None:
    assert Keys(SECRET).open(data) is None


def test_another_secret_opens_nothing() -> None:
    assert Keys(bytes(32)).open(Keys(SECRET).seal(b"x")) is None


def test_the_fulfillment_is_a_mac_of_the_encrypted_data() -> None:
    key = hmac.new(SECRET, b"ilp_stream_fulfillment", hashlib.sha256).digest()
    wanted = hmac.new(key, b"data", hashlib.sha256).digest()
    assert Keys(SECRET).fulfillment(b"data") == wanted
    assert Keys(SECRET).condition(b"data") == hashlib.sha256(wanted).digest()
