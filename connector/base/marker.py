"""The number of the last acknowledged request, stored beside a journal.

It detects a journal that has lost its latest rows.

SQLite opens a database whose write-ahead log is missing or truncated without an error: it treats the
last complete commit as the end. A ledger that continued from there would treat packets as new that
it has already paid. So the number of the last acknowledged request is also kept in a separate file.

It is written after the commit, in place, and synced about once a second: after a `kill -9` it is
exact, after a power cut it may be slightly older than the journal, never newer. It is written through
a mapping: a system call would change the file's times, and with them what every commit has to sync.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final, Protocol

SUFFIX: Final = ".acknowledged"
_MAGIC: Final = b"ilp-seq1"
_SLOT: Final = struct.Struct("<8sQI")
_SLOT_BYTES: Final = 512
"""One slot per sector: a torn write damages one slot, and the other holds the previous number."""


class Marker(Protocol):
    """The highest request number that was acknowledged; zero: none."""

    def open(self) -> int:
        """Create the file if it is missing, and read the number."""

    def write(self, seq: int) -> None:
        """Store `seq`, so that it survives the end of this process. It never falls, but by `lower`."""

    def lower(self, seq: int) -> None:
        """Store `seq`, although a higher number is stored."""

    def sync(self) -> None:
        """Make the stored number survive a power cut."""

    def close(self) -> None:
        """Close the file. Safe to call twice."""


class FileMarker:
    """A marker in a file with two slots, written alternately."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._file: int | None = None
        self._map: mmap.mmap | None = None
        self._dirty = False

    def open(self) -> int:
        """See `Marker`.

        Raises:
            OSError: the file cannot be created or read.
        """
        self.close()
        if self._read_only:
            return _newest(self._path.read_bytes()) if self._path.exists() else 0
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        octets = os.pread(self._file, 2 * _SLOT_BYTES, 0)
        if len(octets) < 2 * _SLOT_BYTES:
            # Allocate the whole file now: a full disk must not make a later write fail.
            os.pwrite(self._file, bytes(2 * _SLOT_BYTES - len(octets)), len(octets))
            os.fsync(self._file)
        self._map = mmap.mmap(self._file, 2 * _SLOT_BYTES)
        return _newest(octets)

    def write(self, seq: int) -> None:
        """See `Marker`. The room on the disk was taken by `open`."""
        assert self._map is not None
        head = _MAGIC + seq.to_bytes(8, "little")
        slot = _SLOT.pack(_MAGIC, seq, zlib.crc32(head))
        at = seq % 2 * _SLOT_BYTES
        self._map[at : at + _SLOT.size] = slot
        self._dirty = True

    def lower(self, seq: int) -> None:
        """See `Marker`. The other slot has a higher number: it is emptied after this one is there."""
        self.write(seq)
        assert self._map is not None
        at = (seq + 1) % 2 * _SLOT_BYTES
        self._map[at : at + _SLOT.size] = bytes(_SLOT.size)

    def sync(self) -> None:
        """See `Marker`."""
        if self._dirty and self._file is not None:
            self._dirty = False
            # It writes pages that were changed through a mapping too, and does not hold the interpreter.
            os.fsync(self._file)

    def close(self) -> None:
        """See `Marker`."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._file is not None:
            self.sync()
            os.close(self._file)
            self._file = None


def _newest(octets: bytes) -> int:
    """The highest number in an intact slot."""
    highest = 0
    for at in range(0, len(octets) - _SLOT.size + 1, _SLOT_BYTES):
        magic, seq, check = _SLOT.unpack_from(octets, at)
        if magic == _MAGIC and check == zlib.crc32(octets[at : at + 16]):
            highest = max(highest, seq)
    return highest
