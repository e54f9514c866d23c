"""Fast path for plain WebSocket frames (RFC 6455): complete, unfragmented binary messages.

`websockets` implements the protocol: handshake, control frames, fragments, closing, limits. But
nearly every frame of a busy link is a small complete binary message, which needs none of that.
`Splitter` extracts these messages from a read and passes everything else on, in order and as
complete frames; `wrap` encodes them for a write. This halves the cost of the WebSocket layer per
packet (docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without its C extension
    from websockets.utils import apply_mask

_WHOLE_BINARY: Final = 0x82
_MASKED: Final = 0x80
# A name that cannot be bound again is no look-up for each frame.
_apply_mask: Final[Callable[[bytes, bytes], bytes]] = apply_mask


def _head(size: int, bit: int) -> bytes:
    """The first octets of the frame of a message of `size` octets, up to the key of its mask."""
    if size < 126:
        return bytes((_WHOLE_BINARY, bit | size))
    if size < 0x10000:
        return bytes((_WHOLE_BINARY, bit | 126, size >> 8, size & 0xFF))
    return bytes((_WHOLE_BINARY, bit | 127)) + size.to_bytes(8, "big")


# Nearly all messages are small.
_HEADS: Final = [_head(size, 0) for size in range(1024)]
_MASKED_HEADS: Final = [_head(size, _MASKED) for size in range(1024)]


class Splitter:
    """Cuts reads into frames."""

    def __init__(self, *, masked: bool, size_max: int) -> None:
        """`masked`: whether the other side must mask (it is the client). `size_max`: octets."""
        self._mask_bit = _MASKED if masked else 0
        self._size_max = size_max
        self._rest = b""
        self._passing = False

    def split(self, data: bytes) -> list[tuple[bool, bytes]]:
        """`(True, message)` for each plain message, `(False, octets)` for everything else.

        Other octets are passed on as complete frames, so plain frames after them are recognised.
        From the first frame that is too large or malformed, everything goes to `websockets`, which
        closes the connection.
        """
        if self._passing:
            return [(False, data)]
        frames: list[tuple[bool, bytes]] = []
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        at, size = 0, len(buffer)
        mask_bit, size_max = self._mask_bit, self._size_max
        while size - at >= 2:
            second = buffer[at + 1]
            length = second & 0x7F
            begin = at + 2
            if length == 126:
                begin += 2
                if begin > size:
                    break
                length = buffer[at + 2] << 8 | buffer[at + 3]
            elif length == 127:
                self._passing = True
                break
            if length > size_max or second & _MASKED != mask_bit:
                self._passing = True
                break
            key_at = begin
            if mask_bit:
                begin += 4
            end = begin + length
            if end > size:
                break
            if buffer[at] == _WHOLE_BINARY:
                payload = buffer[begin:end]
                if mask_bit:
                    payload = _apply_mask(payload, buffer[key_at:begin])
                frames.append((True, payload))
            else:
                frames.append((False, buffer[at:end]))
            at = end
        if at < size:
            if self._passing:
                frames.append((False, buffer[at:]))
            else:
                self._rest = buffer[at:]
        return frames


def wrap(messages: Iterable[bytes], random_octets: Callable[[int], bytes] | None) -> bytes:
    """The frames of binary messages, masked with keys from `random_octets`, if given."""
    parts: list[bytes] = []
    bit = 0 if random_octets is None else _MASKED
    heads = _MASKED_HEADS if bit else _HEADS
    for message in messages:
        size = len(message)
        parts.append(heads[size] if size < len(heads) else _head(size, bit))
        if random_octets is not None:
            key = random_octets(4)
            parts.append(key)
            message = _apply_mask(message, key)  # noqa: PLW2901 - what is sent is the masked one
        parts.append(message)
    return b"".join(parts)
