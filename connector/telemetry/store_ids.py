"""Packets by their condition, or by how their id begins; runs in the reader's thread.

A condition is the same at all nodes that a packet passes, so one packet can be followed over them. It is no
id: all pings have the same one, and a payment that is tried again may. Only what was kept whole is found: a packet
that was counted has no `PACKET_RECEIVED`, which alone has the condition.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from connector.telemetry.store_file import CODES, CONDITION
from connector.telemetry.store_query import seq_at

_RECEIVED: Final = CODES["PACKET_RECEIVED"]
_INDEXED: Final = 16
"""Hex digits of a condition in the index."""
_ID: Final = 32
_EVENTS_MAX: Final = 100
"""Of one packet."""
_SEQ_MAX: Final = (1 << 63) - 1


def with_condition(
    connection: sqlite3.Connection, condition: str, at_ms: int | None, count: int
) -> list[list[str]]:
    """The events of each packet with a condition, oldest packet first.

    Args:
        connection: of the store.
        condition: 64 lower-case hex digits.
        at_ms: where more than `count` have it, those received next to this time; None: the last ones.
        count: packets, at least 2.
    """
    assert len(condition) == 64
    middle = _SEQ_MAX if at_ms is None else seq_at(connection, at_ms, _SEQ_MAX)
    before = _packets(connection, condition, f"seq <= {middle} ", "DESC", count)
    after = _packets(connection, condition, f"seq > {middle} ", "ASC", count)
    # Half of them from each side, and more where the other has fewer.
    half = count // 2
    later = after[: max(half, count - len(before))]
    earlier = before[: count - len(later)]
    return [_events(connection, packet) for packet in dict.fromkeys([*earlier[::-1], *later])]


def _packets(
    connection: sqlite3.Connection, condition: str, part: str, order: str, count: int
) -> list[bytes]:
    rows = connection.execute(
        f"SELECT packet FROM events WHERE type = {_RECEIVED} AND {CONDITION} = ? AND {part}"
        f"AND instr(body, ?) > 0 ORDER BY seq {order} LIMIT ?",
        (condition[:_INDEXED], _field(condition), count),
    )
    return [row[0] for row in rows]


def beginning(connection: sqlite3.Connection, digits: str, count: int) -> list[list[str]]:
    """The events of each packet whose id or condition begins with some digits, at most `count` of each.

    Args:
        connection: of the store.
        digits: lower-case hex, 1 to 64.
        count: packets.
    """
    found: list[bytes] = []
    if len(digits) <= _ID:
        low, high = (bytes.fromhex(digits.ljust(_ID, end)) for end in "0f")
        rows = connection.execute(
            "SELECT DISTINCT packet FROM events WHERE packet >= ? AND packet <= ? LIMIT ?",
            (low, high, count),
        )
        found += [row[0] for row in rows]
    low_text, high_text = (digits[:_INDEXED].ljust(_INDEXED, end) for end in "0f")
    rows = connection.execute(
        f"SELECT packet FROM events WHERE type = {_RECEIVED} AND {CONDITION} >= ? "
        f"AND {CONDITION} <= ? AND instr(body, ?) > 0 LIMIT ?",
        (low_text, high_text, _field(digits).rstrip('"'), count),
    )
    found += [row[0] for row in rows]
    return [_events(connection, packet) for packet in dict.fromkeys(found)]


def _field(condition: str) -> str:
    """As it stands in the event; a text of a peer has its quotes escaped there."""
    return f'"executionCondition":"{condition}"'


def _events(connection: sqlite3.Connection, packet: bytes) -> list[str]:
    rows = connection.execute(
        "SELECT body FROM events WHERE packet = ? ORDER BY seq LIMIT ?", (packet, _EVENTS_MAX)
    )
    return [row[0] for row in rows]
