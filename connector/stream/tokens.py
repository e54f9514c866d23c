"""Addresses that carry a connection: the node keeps nothing, so a restart loses no payment.

The address given to a payer is our own, and one segment more: the *token*. It holds a nonce and the
name of the wallet, encrypted and authenticated with a key of the node. The shared secret of the
connection is a MAC of the token. So the node recognizes every address that it gave out, and knows its
wallet and secret, from the packet alone; and nobody on the way learns the name.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connector.stream import bounds

PAYER: Final = "~payer"
"""The last segment of the address that our payments name as theirs; no token has a `~`.

Receivers of the JS library send test packets to it as soon as they may receive, and end the connection
if those are refused for good. So this node answers them with a temporary error.
"""
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_BYTES_MAX: Final = NONCE_BYTES + bounds.WALLET_CHARACTERS_MAX + _TAG_BYTES
_CHARACTERS_MAX: Final = -(-_BYTES_MAX * 4 // 3)
_ASSOCIATED: Final = b"connector_stream_token"


class Tokens:
    """Makes and reads tokens."""

    def __init__(self, key: bytes) -> None:
        """`key`: 32 octets, of this node alone; with another one, no earlier token is recognized."""
        assert len(key) == KEY_BYTES, len(key)
        self._cipher = AESGCM(hmac.digest(key, b"connector_stream_token", "sha256"))
        self._secrets = hmac.digest(key, b"connector_stream_secret", "sha256")

    def make(self, wallet: str, nonce: bytes) -> tuple[str, bytes]:
        """A token for a payment to `wallet`, and its shared secret.

        Args:
            wallet: ASCII, at most 64 characters.
            nonce: 12 octets, never the same again.
        """
        assert len(nonce) == NONCE_BYTES, len(nonce)
        name = wallet.encode("ascii")
        assert 0 < len(name) <= bounds.WALLET_CHARACTERS_MAX, wallet
        octets = nonce + self._cipher.encrypt(nonce, name, _ASSOCIATED)
        return _text_of(octets), self._secret(octets)

    def read(self, token: str) -> tuple[str, bytes] | None:
        """The wallet and the shared secret of a token; None: it is none of ours."""
        if len(token) > _CHARACTERS_MAX:
            return None
        try:
            octets = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
            name = self._cipher.decrypt(octets[:NONCE_BYTES], octets[NONCE_BYTES:], _ASSOCIATED)
        except (binascii.Error, InvalidTag, ValueError):
            return None
        if _text_of(octets) != token:
            return None  # another spelling of a token would be another connection
        return name.decode("ascii"), self._secret(octets)

    def _secret(self, octets: bytes) -> bytes:
        return hmac.digest(self._secrets, octets, "sha256")


def _text_of(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
