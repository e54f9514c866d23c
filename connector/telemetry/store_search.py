"""Search for text in the stored packets; runs in the reader's thread.

No index has every part of a destination or a message, so events are read one after the other, newest
first, at most `SEARCH_EVENTS_MAX` for an answer. Where more are left the answer says where to go on,
also when nothing was found so far: nothing has been looked at only when there is no next page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from connector.telemetry import bounds

_FIELDS = ("destination", "message", "triggeredBy", "peerId", "nextHop", "code")
_TEXT = " OR ".join(
    ["hex(packet) LIKE :id ESCAPE '!'", "json_extract(body, '$.amount') = :text"]
    + [f"instr(lower(json_extract(body, '$.{name}')), :text) > 0" for name in _FIELDS]
)


@dataclass(slots=True, frozen=True, kw_only=True)
class Wanted:
    """What is searched for."""

    text: str = ""
    """In lower case: a part of destination, message, code or peer, the beginning of the packet id, or
    the amount in smallest units."""
    code: str = ""
    """Of a Reject, or its beginning: `F02`, `T`."""
    anywhere: bool = False
    """Whether `text` may stand anywhere in the event, names of its fields included."""


class Found(NamedTuple):
    """Numbers and JSON texts, newest first, and from which number on to go on; None: all was looked at."""

    rows: list[tuple[int, str]]
    before: int | None


def search(
    connection: sqlite3.Connection,
    wanted: Wanted,
    *,
    codes: Sequence[int],
    peer: str | None,
    low: int,
    high: int,
    count: int,
) -> Found:
    """Events of these types between two numbers (`low` left out) that fit.

    Args:
        connection: of the store.
        wanted: what fits.
        codes: numbers of the types.
        peer: as sender or next hop; None: any.
        low: the number below the first.
        high: the last number.
        count: how many at most.
    """
    kinds = f"type IN ({','.join(map(str, codes))})"
    bounds_of: dict[str, Any] = {
        "low": low, "high": high, "count": count, "most": bounds.SEARCH_EVENTS_MAX,
        "text": wanted.text, "id": f"{_escaped(wanted.text)}%", "code": f"{_escaped(wanted.code)}%",
        "peer": peer,
    }  # fmt: skip
    edge = connection.execute(
        "SELECT min(seq) FROM (SELECT seq FROM events WHERE seq > :low AND seq <= :high "
        "ORDER BY seq DESC LIMIT :most)",
        bounds_of,
    ).fetchone()[0]
    if edge is None:
        return Found([], None)
    conditions = [kinds, "seq >= :edge", "seq <= :high"]
    if peer is not None:
        conditions.append(":peer IN (peer, hop)")
    if wanted.code:
        conditions.append("json_extract(body, '$.code') LIKE :code ESCAPE '!'")
    if wanted.text:
        conditions.append("instr(lower(body), :text) > 0" if wanted.anywhere else f"({_TEXT})")
    # The unary plus keeps SQLite from the index by type, whose rows it would have to sort.
    where = " AND ".join(conditions).replace("type IN", "+type IN", 1)
    rows = connection.execute(
        f"SELECT seq, body FROM events WHERE {where} ORDER BY seq DESC LIMIT :count",
        {**bounds_of, "edge": edge},
    ).fetchall()
    if len(rows) == count:
        return Found(rows, rows[-1][0])
    older = connection.execute(
        "SELECT 1 FROM events WHERE seq > ? AND seq < ? LIMIT 1", (low, edge)
    ).fetchone()
    return Found(rows, None if older is None else edge)


def _escaped(text: str) -> str:
    """For LIKE, with `!` as the escape."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
