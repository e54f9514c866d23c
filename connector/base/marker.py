"""The number of the last acknowledged request, noted beside a journal.

It betrays a journal that has lost its end.

SQLite opens a database whose write-ahead log is missing or cut short without a word: it takes the
last whole commit for the end. A ledger that went on from there would take packets for new that it
has paid. So the number of the last acknowledged request stands in a small file of its own as well.

It is written after the commit, in place, and synced about once a second: after a `kill -9` it is
exact, after a power cut it may be a little older than the journal, and never newer.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Final, Protocol

SUFFIX: Final = ".acknowledged"
_MAGIC: Final = b"ilp-seq1"
_SLOT: Final = struct.Struct("<8sQI")
_SLOT_BYTES: Final = 512
"""A slot a sector: a write that is torn spoils one of the two, and the other is the one before."""


class Marker(Protocol):
    """The highest request number that was acknowledged; zero: none."""

    def open(self) -> int:
        """Make the file where it is missing, and read the number."""

    def write(self, seq: int) -> None:
        """Note it, so that it survives this process."""

    def sync(self) -> None:
        """Make what was noted survive a power cut."""

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""


class FileMarker:
    """A marker in a file of two slots that take turns."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._file: int | None = None
        self._dirty = False

    def open(self) -> int:
        """See `Marker`.

        Raises:
            OSError: the file cannot be made or read.
        """
        self.close()
        if self._read_only:
            return _newest(self._path.read_bytes()) if self._path.exists() else 0
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        octets = os.pread(self._file, 2 * _SLOT_BYTES, 0)
        if len(octets) < 2 * _SLOT_BYTES:
            # All of its room is taken now: a full disk must not stand in the way later.
            os.pwrite(self._file, bytes(2 * _SLOT_BYTES - len(octets)), len(octets))
            os.fsync(self._file)
        return _newest(octets)

    def write(self, seq: int) -> None:
        """See `Marker`.

        Raises:
            OSError: the disk refuses.
        """
        assert self._file is not None
        head = _MAGIC + seq.to_bytes(8, "little")
        slot = _SLOT.pack(_MAGIC, seq, zlib.crc32(head))
        os.pwrite(self._file, slot, seq % 2 * _SLOT_BYTES)
        self._dirty = True

    def sync(self) -> None:
        """See `Marker`."""
        if self._dirty and self._file is not None:
            self._dirty = False
            os.fsync(self._file)

    def close(self) -> None:
        """See `Marker`."""
        if self._file is not None:
            self.sync()
            os.close(self._file)
            self._file = None


def _newest(octets: bytes) -> int:
    """The highest number of the slots that are whole."""
    highest = 0
    for at in range(0, len(octets) - _SLOT.size + 1, _SLOT_BYTES):
        magic, seq, check = _SLOT.unpack_from(octets, at)
        if magic == _MAGIC and check == zlib.crc32(octets[at : at + 16]):
            highest = max(highest, seq)
    return highest
