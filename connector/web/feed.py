"""Stored events, one packet, balances over time, and the live feed.

A viewer of the live feed gets a snapshot, then frames that are encoded once for all viewers. Frames
that it does not read in time are dropped, oldest first, and it is notified of the gap. A viewer that
does not read at all is disconnected. So is one of whoever has the most, where a place is needed for another
(`places`). The guard has checked access before.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from json import JSONEncoder, loads
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Query, Response, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from connector.accounting.history import LedgerHistory, PastBalance
from connector.base import limits
from connector.peering.model import Asset
from connector.telemetry.bus import EventBus, Viewer
from connector.telemetry.events import TYPES
from connector.telemetry.store import EventStore
from connector.telemetry.store_query import EventQuery, Point
from connector.telemetry.timeline import packet_timeline
from connector.web import bounds
from connector.web.guard import holder_of, may_go_on
from connector.web.places import Holder, place_for

HISTORY_RANGE_MS: Final = 3_600_000
CLOSE_REFUSED: Final = 1008
CLOSE_TRY_LATER: Final = 1013
"""Codes of RFC 6455."""

_encode: Final = JSONEncoder(separators=(",", ":")).encode
_TYPE_NAMES: Final = frozenset(TYPES.values())
_PACKET_ID: Final = re.compile(r"[0-9a-f]{32}")

Moment = Annotated[str | None, Query(max_length=40, description="ISO 8601, or ms since 1970")]
Number = Annotated[str | None, Query(max_length=20, pattern=r"^[0-9]{1,18}$")]


def feed_router(
    *,
    bus: EventBus,
    store: EventStore,
    snapshot: Callable[[], dict[str, Any]],
    asset_of: Callable[[str], Asset | None],
    past: LedgerHistory | None,
    now_ms: Callable[[], int],
) -> APIRouter:
    """The routes.

    Args:
        bus: source of the live feed.
        store: stored events and balances.
        snapshot: returns status, peers and accounts for a new viewer.
        asset_of: returns the asset of a peer; None: there is no such peer now.
        past: balances older than the stored ones; None: there are none.
        now_ms: returns the time.
    """
    router = APIRouter(tags=["events"])
    viewers: dict[Viewer, Holder] = {}  # the oldest first

    @router.get("/api/events", responses={422: {"description": "a filter is wrong"}})
    async def events(
        type: Annotated[str | None, Query(max_length=400)] = None,  # noqa: A002 - its name in the URL
        peer: Annotated[str | None, Query(max_length=64)] = None,
        packet: Annotated[str | None, Query(max_length=32)] = None,
        from_: Annotated[Moment, Query(alias="from")] = None,
        to: Moment = None,
        cursor: Number = None,
        after: Number = None,
        limit: Annotated[int, Query(description="1 to 1000")] = 100,
        text: Annotated[
            str,
            Query(
                max_length=200,
                description="Only packets with it in destination, message, code or peer, as the "
                "beginning of the id, or as the amount; not with `after` or `packet`",
            ),
        ] = "",
        code: Annotated[
            str, Query(max_length=3, description="Only Rejects with this code, or its beginning")
        ] = "",
    ) -> Response:
        """Stored events, newest first; with `after`, those after it, oldest first.

        With `text` or `code` a page may have few items, or none, and still a `next`: a bounded number of
        events is looked at each time. Only without a `next` all have been.
        """
        if (text or code) and (after is not None or packet is not None):
            raise HTTPException(422, "text and code go with neither after nor packet")
        query = EventQuery(
            types=_types(type),
            peer=peer,
            packet=None if packet is None else _packet_id(packet),
            from_ms=moment("from", from_),
            to_ms=moment("to", to),
            before=int(cursor) if cursor is not None and after is None else None,
            after=None if after is None else int(cursor or after),
            count=max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX)),
            text=text,
            code=code,
        )
        bus.flush()
        found = await store.events(query)
        return _json(f'{{"items":[{",".join(found.items)}],"next":{_encode(found.next)}}}')

    @router.get(
        "/api/packets/{packet_id}",
        responses={404: {"description": "not stored"}, 422: {"description": "not an id"}},
    )
    async def packet(packet_id: Annotated[str, Path(max_length=32)]) -> Response:
        """One packet: what became of it, when, and by which ledger transfers."""
        wanted = _packet_id(packet_id)
        bus.flush()
        found = await store.packet(wanted)
        if not found:
            raise HTTPException(
                404,
                "no such packet is stored: it was only counted (see TELEMETRY_PACKETS_PER_SECOND), "
                "or is older than what is kept",
            )
        return _json(_encode(packet_timeline([loads(text) for text in found])))

    @router.get(
        "/api/accounts/{peer}/history",
        responses={404: {"description": "no such peer"}, 422: {"description": "a time is wrong"}},
    )
    async def history(
        peer: Annotated[str, Path(max_length=64)],
        from_: Annotated[Moment, Query(alias="from")] = None,
        to: Moment = None,
        points: Annotated[int, Query(description="2 to 1000")] = 300,
        stored: Annotated[
            bool, Query(description="only what is stored here, nothing that the ledger remembers")
        ] = False,
    ) -> Response:
        """Balances over time, thinned to `points`."""
        bus.flush()
        asset = asset_of(peer) or await store.last_asset(peer)
        if asset is None:
            raise HTTPException(404, "no such peer")
        to_ms = moment("to", to)
        to_ms = now_ms() if to_ms is None else to_ms
        from_ms = moment("from", from_)
        from_ms = to_ms - HISTORY_RANGE_MS if from_ms is None else from_ms
        if from_ms > to_ms:
            raise HTTPException(422, "not valid: from lies after to")
        count = max(2, min(points, bounds.HISTORY_POINTS_MAX))
        resolution_ms, found = await store.history(peer, asset, from_ms, to_ms, count)
        if past is not None and not stored and (not found or found[0].at_ms > from_ms):
            until_ms = found[0].at_ms if found else to_ms + 1
            older = await past.balances(
                peer, asset, from_ms, until_ms, points_max=count, step_ms_min=resolution_ms
            )
            found = [*map(_point, older), *found]
        body = {
            "peerId": peer,
            "assetCode": asset.code,
            "assetScale": asset.scale,
            "resolutionMs": resolution_ms,
            "items": [point.as_json() for point in found],
            "next": None,
        }
        return _json(_encode(body))

    @router.websocket("/ws")
    async def watch(socket: WebSocket) -> None:
        """The live feed."""
        try:
            await _watch(socket)
        except* WebSocketDisconnect:
            pass  # it left while it was being let in, or closed

    async def _watch(socket: WebSocket) -> None:
        await socket.accept()
        holder = holder_of(socket.scope)
        if len(viewers) >= bounds.VIEWERS_MAX:
            at = place_for(holder, list(viewers.values()))
            if at is None:
                await socket.close(CLOSE_TRY_LATER, "too many viewers")
                return
            superfluous = list(viewers)[at]
            del viewers[superfluous]
            bus.leave(superfluous)
            superfluous.end()
        since = socket.query_params.get("since", "")
        resumes = bool(re.fullmatch(r"[0-9]{1,18}", since))
        viewer, missed = bus.join(int(since) if resumes else None)
        viewers[viewer] = holder
        assert len(viewers) <= bounds.VIEWERS_MAX, len(viewers)
        try:
            if missed is None:
                head = {"type": "snapshot", "seq": bus.seq, "gap": resumes, **snapshot()}
                packets = ",".join(bus.recent_packets())
                first = f'{_encode(head)[:-1]},"packets":[{packets}]}}'
            else:
                first = missed.text
            if await _serve(socket, viewer, first):
                bus.viewers_dropped += 1
        finally:
            viewers.pop(viewer, None)
            bus.leave(viewer)

    return router


async def _serve(socket: WebSocket, viewer: Viewer, first: str) -> bool:
    """Send until the viewer leaves; returns whether it was disconnected for not reading."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send_all(socket, viewer, first))
        try:
            await _read_all(socket)
        finally:
            has_ended = sending.done()
            sending.cancel()
    return has_ended and sending.result()


async def _send_all(socket: WebSocket, viewer: Viewer, first: str) -> bool:
    """Send until the viewer leaves; returns whether it was aborted for not reading."""
    message = first
    while True:
        if not message:
            await socket.close(CLOSE_TRY_LATER, "too many viewers: another one has this place")
            return False
        # Looked at with each message: the node's status is one every few seconds.
        if not may_go_on(socket.scope):
            await socket.close(CLOSE_REFUSED, "logged out")
            return False
        try:
            async with asyncio.timeout(bounds.VIEWER_SEND_SECONDS_MAX):
                await socket.send_text(message)
        except WebSocketDisconnect:
            return False
        except TimeoutError:
            # Its socket is full: a close frame would wait behind unread data.
            abort = socket.scope.get("state", {}).get("abort")
            if abort is not None:
                abort()
            return True
        message = await viewer.next()


async def _read_all(socket: WebSocket) -> None:
    """Discard viewer input until the viewer leaves; closes after VIEWER_MESSAGES_MAX."""
    for _ in range(bounds.VIEWER_MESSAGES_MAX):
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
    if socket.application_state is WebSocketState.CONNECTED:
        await socket.close(CLOSE_REFUSED, "this feed is for reading")


def _point(past: PastBalance) -> Point:
    return Point(
        past.at_ms,
        str(past.debit_balance - past.credit_balance),
        str(past.debit_balance),
        str(past.credit_balance),
        str(past.pending_debits),
        str(past.pending_credits),
    )


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _types(given: str | None) -> list[str] | None:
    if given is None:
        return None
    names = [name for name in given.split(",") if name]
    unknown = [name for name in names if name not in _TYPE_NAMES]
    if unknown or not names:
        raise HTTPException(422, f"not valid: type is one of {', '.join(sorted(_TYPE_NAMES))}")
    return list(dict.fromkeys(names))


def _packet_id(given: str) -> str:
    lower = given.lower()
    if not _PACKET_ID.fullmatch(lower):
        raise HTTPException(422, "not valid: a packet id has 32 hex digits")
    return lower


def moment(name: str, given: str | None) -> int | None:
    """A time as milliseconds since 1970.

    Raises:
        HTTPException: 422, it is none; `name` is that of the parameter.
    """
    if given is None:
        return None
    if re.fullmatch(r"[0-9]{1,15}", given):
        return int(given)
    try:
        # A + that was not percent-encoded has become a space.
        moment = datetime.fromisoformat(given.replace(" ", "+") if "T" in given else given)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0, round(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise HTTPException(
            422, f"not valid: {name} is a time such as 2026-01-31T12:00:00Z, or ms since 1970"
        ) from None
