"""PostgreSQL: each event is a row of a table; a row that is there is not written again.

The key of a row is the node and the number of the event, so a batch that comes twice is there once. A table that is
missing is made; where there is no right to, `table_statement` is what an administrator has to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from connector.base.log import Log
from connector.sinks import bounds
from connector.sinks.port import Record, Refused, SinkError, fault_text

_INSERT: Final = """
INSERT INTO {table} (node_id, seq, type, at, event)
SELECT $1, seq, type, to_timestamp(at_ms / 1000.0), event::jsonb
FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::text[]) AS given (seq, type, at_ms, event)
ON CONFLICT (node_id, seq) DO NOTHING
"""
_NO_TEXT: Final = re.compile("[\\x00\\ud800-\\udfff]")
_OF_THE_ROW: Final = ("22", "23", "54")
"""Classes of errors that are of a row, not of the database: data, constraints, limits."""


def table_statement(table: str) -> str:
    """What makes the table; it must be run once, by someone who may."""
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (\n"
        "    node_id text NOT NULL,\n"
        "    seq bigint NOT NULL,\n"
        "    type text NOT NULL,\n"
        "    at timestamptz NOT NULL,\n"
        "    peer_id text GENERATED ALWAYS AS (event ->> 'peerId') STORED,\n"
        "    event jsonb NOT NULL,\n"
        "    PRIMARY KEY (node_id, seq)\n"
        ");\n"
        f"CREATE INDEX IF NOT EXISTS {table.rpartition('.')[2]}_at ON {table} (at);\n"
    )


class PostgresSink:
    """See the module."""

    name = "postgres"

    def __init__(self, url: str, *, table: str, node_id: str, log: Log) -> None:
        """No connection is made yet; needs the library `asyncpg`.

        Args:
            url: `postgresql://user:password@host:5432/database?sslmode=verify-full`.
            table: its name, perhaps with a schema; a plain identifier.
            node_id: of the events.
            log: for a table that had to be made.
        """
        parts = urlsplit(url)
        self.place = f"{parts.netloc.rpartition('@')[2]}{parts.path} {table}"
        self._secrets: Final = [parts.password, unquote(parts.password)] if parts.password else []
        self._url: Final = url
        self._table: Final = table
        self._node_id: Final = node_id
        self._log: Final = log
        self._connection: Any = None

    async def close(self) -> None:
        """See `Sink`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(bounds.CLOSE_SECONDS_MAX):
                    await connection.close()
            with contextlib.suppress(Exception):
                connection.terminate()

    async def deliver(self, records: Sequence[Record]) -> Sequence[Refused]:
        """See `Sink`."""
        try:
            async with asyncio.timeout(bounds.CONNECT_SECONDS_MAX + bounds.DELIVER_SECONDS_MAX):
                if self._connection is None or self._connection.is_closed():
                    await self._connect()
                return await self._insert(records)
        except SinkError:
            await self._drop()
            raise
        except TimeoutError:
            await self._drop()
            raise SinkError("no answer in time") from None
        except asyncio.CancelledError:
            await self._drop()
            raise
        except Exception as error:
            # Also of a table that has gone: it is made again with the next connection.
            await self._drop()
            raise SinkError(self._words(error)) from error

    async def _drop(self) -> None:
        """Give the connection up, without a word: after a failure there may be nobody to hear it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()

    def _words(self, error: BaseException) -> str:
        return fault_text(str(error) or type(error).__name__, self._secrets)

    async def _connect(self) -> None:
        # In a thread: packets do not wait for a library to be read.
        asyncpg: Any = await asyncio.to_thread(importlib.import_module, "asyncpg")
        self._connection = await asyncpg.connect(
            self._url,
            timeout=bounds.CONNECT_SECONDS_MAX,
            command_timeout=bounds.DELIVER_SECONDS_MAX,
            statement_cache_size=0,  # a pool in front of the database may change the session
            server_settings={"application_name": f"ilp-connector {self._node_id}"},
        )
        # Not CREATE IF NOT EXISTS at once: that needs the right to make one although it is there.
        there = await self._connection.fetchval("SELECT to_regclass($1)::text", self._table)
        if there is None:
            try:
                await self._connection.execute(table_statement(self._table))
            except asyncpg.InsufficientPrivilegeError:
                raise SinkError(
                    f"the table {self._table} is missing and this user may not make it: "
                    "`sinks --sql` prints the statement"
                ) from None
            self._log.warning("sink_table_made", table=self._table)

    async def _insert(self, records: Sequence[Record]) -> list[Refused]:
        import asyncpg  # noqa: PLC0415 - an optional library

        try:
            await self._insert_rows(records)
            return []
        except asyncpg.PostgresError as error:
            if not _is_of_a_row(error):
                raise
        refused = []
        for record in records:
            try:
                await self._insert_rows([record])
            except asyncpg.PostgresError as error:
                if not _is_of_a_row(error):
                    raise
                refused.append(Refused(record, self._words(error)))
        return refused

    async def _insert_rows(self, records: Sequence[Record]) -> None:
        columns: list[list[Any]] = [
            [one.seq for one in records],
            [one.type for one in records],
            [one.at_ms for one in records],
            [as_jsonb(one.text) for one in records],
        ]
        await self._connection.execute(_INSERT.format(table=self._table), self._node_id, *columns)


def _is_of_a_row(error: Any) -> bool:
    state = getattr(error, "sqlstate", None) or ""
    return state[:2] in _OF_THE_ROW


def as_jsonb(text: str) -> str:
    """JSON as PostgreSQL takes it: of texts, U+0000 and halves of surrogate pairs become U+FFFD.

    A peer may put these into what it sends, such as the message of a Reject.
    """
    if "\\u0000" not in text and "\\ud" not in text and "\\uD" not in text:
        return text
    return json.dumps(_replaced(json.loads(text)), separators=(",", ":"), ensure_ascii=False)


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return _NO_TEXT.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_replaced(key): _replaced(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one) for one in value]
    return value
