"""Room on the disk of DATA_DIR: a reserve is kept for what is promised already.

When the disk is nearly full, events stop first, then new packets are refused. What resolves packets
in flight, and the ledger's own writes, always go on: the reserve is for them. The room is measured
off the packet path, and everything goes on by itself when there is room again. The table is pure.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from connector.base.log import Log


class Level(StrEnum):
    """How much room there is."""

    AMPLE = "ample"
    LOW = "low"
    """Events are not kept."""
    FULL = "full"
    """New packets are refused, too."""


class Reading(StrEnum):
    """Free octets, compared with the reserve."""

    BELOW_RESERVE = "below the reserve"
    JUST_ABOVE = "just above the reserve"
    """Less than an eighth above it: enough to go on, too little to begin again."""
    LITTLE = "less than twice the reserve"
    JUST_ENOUGH = "just twice the reserve"
    """Less than an eighth above that."""
    ENOUGH = "enough"


TRANSITIONS: Final[dict[tuple[Level, Reading], Level]] = {
    (Level.AMPLE, Reading.BELOW_RESERVE): Level.FULL,
    (Level.AMPLE, Reading.JUST_ABOVE): Level.LOW,
    (Level.AMPLE, Reading.LITTLE): Level.LOW,
    (Level.AMPLE, Reading.JUST_ENOUGH): Level.AMPLE,
    (Level.AMPLE, Reading.ENOUGH): Level.AMPLE,
    (Level.LOW, Reading.BELOW_RESERVE): Level.FULL,
    (Level.LOW, Reading.JUST_ABOVE): Level.LOW,
    (Level.LOW, Reading.LITTLE): Level.LOW,
    (Level.LOW, Reading.JUST_ENOUGH): Level.LOW,
    (Level.LOW, Reading.ENOUGH): Level.AMPLE,
    (Level.FULL, Reading.BELOW_RESERVE): Level.FULL,
    (Level.FULL, Reading.JUST_ABOVE): Level.FULL,
    (Level.FULL, Reading.LITTLE): Level.LOW,
    (Level.FULL, Reading.JUST_ENOUGH): Level.LOW,
    (Level.FULL, Reading.ENOUGH): Level.AMPLE,
}
"""Down at a bound, up an eighth above it: at the bound itself nothing goes to and fro."""
assert TRANSITIONS.keys() == {(level, reading) for level in Level for reading in Reading}


def reading_of(free_bytes: int, reserve_bytes: int) -> Reading:
    """What a measurement means."""
    assert free_bytes >= 0, free_bytes
    assert reserve_bytes > 0, reserve_bytes
    if free_bytes < reserve_bytes:
        return Reading.BELOW_RESERVE
    if 8 * free_bytes < 9 * reserve_bytes:
        return Reading.JUST_ABOVE
    if free_bytes < 2 * reserve_bytes:
        return Reading.LITTLE
    return Reading.JUST_ENOUGH if 8 * free_bytes < 18 * reserve_bytes else Reading.ENOUGH


class Measured(Protocol):
    """The part of a disk that is used here."""

    async def free_bytes(self, path: Path) -> int:
        """Octets that may still be written on the disk of a file or folder, which need not exist.

        Raises:
            OSError: it cannot be measured.
        """


class DiskRoom:
    """Watches the room on one disk. One per node."""

    def __init__(
        self,
        *,
        disk: Measured,
        path: Path,
        reserve_bytes: int,
        log: Log,
        on_level: Callable[[Level], None],
    ) -> None:
        """Nothing is measured yet.

        Args:
            disk: measures.
            path: the folder whose disk it is.
            reserve_bytes: the reserve; 0: none is kept, and nothing is measured.
            log: a line for each change of the level.
            on_level: called with each new level; must not block.
        """
        self.level = Level.AMPLE
        self._disk = disk
        self._path = path
        self._reserve_bytes = reserve_bytes
        self._log = log
        self._on_level = on_level
        self._is_measured = True

    @property
    def reason(self) -> str:
        """What is wrong, and what does not happen therefore; empty: there is room."""
        match self.level:
            case Level.AMPLE:
                return ""
            case Level.LOW:
                return "the disk of DATA_DIR is nearly full: events are not kept"
            case Level.FULL:
                return "the disk of DATA_DIR is nearly full: new packets are refused"

    async def look(self) -> None:
        """Measure; called about once a second. A disk that cannot be measured keeps its level."""
        if not self._reserve_bytes:
            return
        try:
            free_bytes = await self._disk.free_bytes(self._path)
        except OSError as error:
            if self._is_measured:
                self._log.warning("disk_not_measured", path=str(self._path), reason=str(error))
            self._is_measured = False
            return
        self._is_measured = True
        level = TRANSITIONS[self.level, reading_of(free_bytes, self._reserve_bytes)]
        if level is self.level:
            return
        self.level = level
        self._on_level(level)
        fields = {
            "path": str(self._path),
            "free_bytes": free_bytes,
            "reserve_bytes": self._reserve_bytes,
        }
        if level is Level.AMPLE:
            self._log.info("disk_has_room", **fields)
        else:
            self._log.warning("disk_nearly_full", level=level.value, detail=self.reason, **fields)
