"""Routes that neighbours have announced, on disk for the next process of this node.

A process that begins knows no learned routes until its neighbours are connected and have told theirs. Packets would get F02 meanwhile, which
ends payments. So it begins with those of the process before: last resorts, until their neighbour is there and has told its table, or for the hold-down time. They are
written when they have changed, seldom, and at a stop. A fault of the file costs nothing but them: it is logged once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from connector.base.clock import Clock
from connector.base.disk import Database
from connector.base.errors import DecodeError
from connector.base.log import Log
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.node import bounds
from connector.peering.routing import Route
from connector.routing import codec
from connector.routing.codec import NO_TABLE, Announcement, RouteUpdate
from connector.routing.router import Router

FILE_NAME: Final = "routes.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS learned (peer TEXT NOT NULL, address TEXT NOT NULL, octets BLOB NOT NULL);
"""
_FAULTS: Final = (sqlite3.Error, OSError)

_Row = tuple[str, str, bytes]
"""A peer, the own address for which it has announced them, and some routes as an update."""


class RouteMemory:
    """See the module. One per node."""

    def __init__(
        self,
        *,
        database: Database | None,
        router: Router,
        clock: Clock,
        log: Log,
        no_room: Callable[[], str] = lambda: "",
    ) -> None:
        """Nothing is opened yet.

        Args:
            database: None where nothing is kept, as with a ledger in memory.
            router: what it knows is kept.
            clock: for the pace of writes.
            log: for one line when the disk fails.
            no_room: why nothing is to be written at the moment; empty: write.
        """
        self._no_room = no_room
        self._database = database
        self._router = router
        self._clock = clock
        self._log = log
        self._is_open = False
        self._written = 0
        """The count of changes of what is on disk."""
        self._not_before_s = 0.0
        self._has_failed = False

    async def open(self) -> None:
        """Hand what the process before has left to the router; nothing is opened where no routes are taken."""
        router, database = self._router, self._database
        takes = any(one.terms.receives for one in router.neighbours.values())
        if database is None or not takes:
            return
        try:
            await database.open(_SCHEMA)
            self._is_open = True
            rows = await database.run(_read)
        except _FAULTS as error:
            self._failed(error)
            return
        now_ms, wall_ms = int(self._clock.monotonic_s() * 1000), self._clock.now_ms()
        found: dict[str, list[Announcement]] = {}
        for peer_id, address, octets in rows:
            try:
                if address == router.address:
                    found.setdefault(peer_id, []).extend(codec.decode_update(octets).new)
            except DecodeError:
                continue  # of another version, or damaged: it is told again soon
        for peer_id, routes in found.items():
            router.restore(peer_id, routes, now_ms, wall_ms)
        self._written = router.changes

    async def tick(self) -> None:
        """Write what has changed, less often if that takes long; called about once a second."""
        if self._clock.monotonic_s() >= self._not_before_s:
            await self._write()

    async def close(self) -> None:
        """Write what has changed, and close the file. Safe to call twice."""
        await self._write()
        if self._is_open and self._database is not None:
            self._is_open = False
            await self._database.close()

    async def _write(self) -> None:
        router, database = self._router, self._database
        if not self._is_open or database is None or self._written == router.changes:
            return
        if self._no_room():
            return  # the room on the disk is for packets
        self._written, began_s = router.changes, self._clock.monotonic_s()
        rows = await _rows(router)
        try:
            await database.run(lambda connection: _replace(connection, rows))
        except _FAULTS as error:
            self._failed(error)
        now_s = self._clock.monotonic_s()
        self._not_before_s = now_s + bounds.ROUTES_REST_TIMES * (now_s - began_s)

    def _failed(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._log.warning("learned_routes_not_kept", reason=words_of(error))


async def _rows(router: Router) -> list[_Row]:
    """The first of the routes of each neighbour, some at a time: of a hundred thousand it takes a second."""
    rows: list[_Row] = []
    for peer_id, one in list(islice(router.neighbours.items(), bounds.ROUTES_KEPT_PEERS_MAX)):
        routes = list(islice(one.receiver.routes.values(), bounds.ROUTES_KEPT_PER_PEER_MAX))
        for at in range(0, len(routes), bounds.ROUTES_KEPT_PER_ROW):
            await asyncio.sleep(0)
            rows.append(
                (
                    peer_id,
                    router.address,
                    _octets(router.address, routes[at : at + bounds.ROUTES_KEPT_PER_ROW]),
                )
            )
    return rows


def _octets(address: str, routes: Sequence[Route]) -> bytes:
    """These routes, as an update."""
    new = tuple(
        Announcement(
            prefix=route.prefix,
            path=route.learned.path,
            auth=route.learned.auth,
            properties=route.learned.properties,
        )
        for route in routes
        if route.learned is not None
    )
    return codec.encode_update(
        RouteUpdate(
            table_id=NO_TABLE,
            current_epoch=0,
            from_epoch=0,
            to_epoch=0,
            hold_down_ms=0,
            speaker=address,
            new=new,
            withdrawn=(),
        )
    )


def _read(connection: sqlite3.Connection) -> list[_Row]:
    limit = bounds.ROUTES_KEPT_PEERS_MAX * bounds.ROUTES_KEPT_PER_PEER_MAX
    query = "SELECT peer, address, octets FROM learned LIMIT ?"
    found = connection.execute(query, (limit // bounds.ROUTES_KEPT_PER_ROW,)).fetchall()
    return [
        (peer_id, address, bytes(octets))
        for peer_id, address, octets in found
        if isinstance(octets, bytes)
    ]


def _replace(connection: sqlite3.Connection, rows: list[_Row]) -> None:
    def work(inner: sqlite3.Connection) -> None:
        inner.execute("DELETE FROM learned")
        inner.executemany("INSERT INTO learned VALUES (?, ?, ?)", rows)

    in_transaction(connection, work)
