"""`/api/v1/log`: what operators, links, settlements and the books did; pages of it, and exports.

`KeptFirst` has what an operator changes written to the log before it is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from json import JSONEncoder
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector.base import limits
from connector.telemetry.bus import EventBus
from connector.telemetry.event_log import (
    GROUPS,
    KEPT_TYPES,
    EventLog,
    csv_cells,
    csv_columns,
    csv_row,
    shown,
    types_of,
)
from connector.telemetry.store_query import EventQuery
from connector.web import bounds, models
from connector.web.faults import known_query
from connector.web.feed import Moment, Number, moment

_encode: Final = JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def log_router(log: EventLog, bus: EventBus) -> APIRouter:
    """The route.

    Args:
        log: what is kept.
        bus: flushed first, so that an answer has all that has happened.
    """
    router = APIRouter(prefix="/api/v1", tags=["log"], dependencies=[Depends(known_query)])

    @router.get(
        "/log",
        summary="What operators, links, settlements and the books did",
        response_model=None,
        responses={
            200: {
                "model": models.LogPage,
                "description": "A page, or an export",
                "content": {
                    "text/csv": {"schema": {"type": "string"}},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            },
            422: {"description": "a filter is wrong"},
        },
    )
    async def listed(
        type: Annotated[  # noqa: A002 - its name in the URL
            str | None,
            Query(
                max_length=400,
                description="Comma-separated: types of events, or groups of them: "
                + ", ".join(GROUPS),
            ),
        ] = None,
        peer: Annotated[str | None, Query(max_length=64)] = None,
        since: Moment = None,
        until: Moment = None,
        text: Annotated[
            str, Query(max_length=200, description="Only events with it; not with `after`")
        ] = "",
        cursor: Number = None,
        after: Annotated[Number, Query(description="Only events after this number")] = None,
        limit: Annotated[int, Query(description="1 to 1000; not of an export")] = 100,
        format: Annotated[  # noqa: A002 - its name in the URL
            Literal["json", "jsonl", "csv"],
            Query(description="`jsonl`, `csv`: all that fits, oldest first, in one answer"),
        ] = "json",
    ) -> Response:
        """Newest first; with `after`, those after it, oldest first. `next` is the `cursor` of the next page.

        With `text` a page may have few items, or none, and still a `next`.
        """
        if text and after is not None:
            raise HTTPException(422, "text goes not with after")
        query = EventQuery(
            types=_types(type),
            peer=peer,
            from_ms=moment("since", since),
            to_ms=moment("until", until),
            before=int(cursor) if cursor is not None and after is None else None,
            after=None if after is None else int(cursor or after),
            count=max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX)),
            text=text,
        )
        bus.flush()
        if format != "json":
            return _export(log, query, bus.seq, as_csv=format == "csv")
        last = bus.seq
        found = await log.page(query)
        items = [item for one in found.items if (item := shown(one)) is not None]
        body = {
            "items": items,
            "next": found.next,
            # Some may have come and been written while the page was read.
            "lastSeq": str(max([last, *(item["seq"] for item in items)])),
            "fault": log.store.fault,
            "notKept": log.store.dropped + log.passed_over,
        }
        return Response(_encode(body), media_type="application/json")

    return router


def _types(given: str | None) -> Sequence[str]:
    if given is None:
        return KEPT_TYPES
    try:
        found = types_of(name for name in given.split(",") if name)
    except KeyError:
        found = None
    if found is None:
        names = ", ".join((*GROUPS, *sorted(KEPT_TYPES)))
        raise HTTPException(422, f"not valid: type is one of {names}")
    return found


def _export(log: EventLog, query: EventQuery, last: int, *, as_csv: bool) -> Response:
    async def lines() -> AsyncIterator[str]:
        if as_csv:
            yield csv_row(csv_columns())
        async for items in log.export(query, last):
            events = [event for one in items if (event := shown(one)) is not None]
            if as_csv:
                yield "".join(csv_row(csv_cells(event)) for event in events)
            else:
                yield "".join(f"{_encode(event)}\n" for event in events)

    kind, name = ("text/csv", "log.csv") if as_csv else ("application/x-ndjson", "log.jsonl")
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines(), media_type=kind, headers=headers)


class KeptFirst:
    """An application around that of the node: the log has an action before its answer leaves.

    What only reads passes as it is. A disk that does not answer holds an answer up for a bounded time.
    """

    def __init__(self, app: ASGIApp, *, log: EventLog, bus: EventBus) -> None:
        self._app: Final = app
        self._log: Final = log
        self._bus: Final = bus

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return

        async def kept(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._bus.flush()
                if self._log.store.has_unwritten:
                    await self._write()
            await send(message)

        await self._app(scope, receive, kept)

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(bounds.LOG_WRITE_SECONDS_MAX):
                await self._log.store.write()
        except TimeoutError:
            pass  # it is written when the disk answers
