"""Keys, encryption and fulfillments of a STREAM connection (RFC 29, section 4).

Encrypted data is the IV (12 octets), the tag (16 octets), then the ciphertext of AES-256-GCM.

The IV is not random: it is a MAC of what is encrypted, under a key of its own. Two different packets
have the same one with a probability of 2**-96, as with random ones; and the same packet is always the
same octets. So what was sent before a crash can be made again from what is remembered of it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES: Final = 32
IV_BYTES: Final = 12
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = IV_BYTES + TAG_BYTES
_CIPHERTEXT_AT: Final = OVERHEAD_BYTES


class Keys:
    """What both ends derive from their shared secret."""

    __slots__ = ("_cipher", "_fulfillment", "_iv")

    def __init__(self, secret: bytes) -> None:
        """`secret`: 32 octets."""
        assert len(secret) == SECRET_BYTES, len(secret)
        self._cipher = AESGCM(hmac.digest(secret, b"ilp_stream_encryption", "sha256"))
        self._fulfillment = hmac.digest(secret, b"ilp_stream_fulfillment", "sha256")
        self._iv = hmac.digest(secret, b"connector_stream_iv", "sha256")

    def seal(self, plain: bytes) -> bytes:
        """`plain`, encrypted: 28 octets longer."""
        iv = hmac.digest(self._iv, plain, "sha256")[:IV_BYTES]
        sealed = self._cipher.encrypt(iv, plain, None)
        return iv + sealed[-TAG_BYTES:] + sealed[:-TAG_BYTES]

    def open(self, data: bytes) -> bytes | None:
        """What was encrypted; None: it was not encrypted with this key, or was changed since."""
        if len(data) < OVERHEAD_BYTES:
            return None
        try:
            return self._cipher.decrypt(
                data[:IV_BYTES], data[_CIPHERTEXT_AT:] + data[IV_BYTES:_CIPHERTEXT_AT], None
            )
        except InvalidTag:
            return None

    def fulfillment(self, data: bytes) -> bytes:
        """The fulfillment, 32 octets, of a packet with this encrypted data."""
        return hmac.digest(self._fulfillment, data, "sha256")

    def condition(self, data: bytes) -> bytes:
        """The condition that only a holder of the secret can fulfill."""
        return hashlib.sha256(self.fulfillment(data)).digest()
