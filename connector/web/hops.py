"""One packet over all nodes: what each has of the packets with its condition.

`/api/v1/conditions/{condition}` is what this node has, `/api/v1/network/conditions/{condition}` what this node and
those of `EXPLORER_NODES` have, each asked for the former. A node tells times by its own clock only; so the one that
asks also says how the other's clock differs, as well as one request can tell. Which packet is the next
hop of which is left to the viewer: nodes know their neighbours, not the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from json import loads
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import HttpAnswerError
from connector.base.http import check_json, off_loop
from connector.peering.model import Asset
from connector.telemetry import bounds as telemetry_bounds
from connector.telemetry.bus import EventBus
from connector.telemetry.events import iso
from connector.telemetry.store import EventStore
from connector.telemetry.timeline import hop_of
from connector.web import bounds, models
from connector.web.faults import known_query
from connector.web.feed import Moment, moment
from connector.web.network import Ask, Figure, Neighbourhood, OwnView, SilentError, Told, Word

Condition = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="64 hex digits")]


class Hops:
    """Packets with a condition, of this node and of the others."""

    def __init__(
        self,
        *,
        own: OwnView,
        bus: EventBus,
        store: EventStore,
        asset_of: Callable[[str], Asset | None],
        others: Neighbourhood,
        clock: Clock,
    ) -> None:
        """Nothing is queried yet.

        Args:
            own: this node.
            bus: flushed first, so that an answer has all that has happened.
            store: stored events.
            asset_of: returns the asset of a peer, or of this node for the empty id; None: not known now.
            others: the nodes of EXPLORER_NODES.
            clock: of this node.
        """
        self._own = own
        self._bus = bus
        self._store = store
        self._asset_of = asset_of
        self._others = others
        self._clock = clock
        self._places = asyncio.Semaphore(bounds.HOPS_FOLLOWED_AT_ONCE_MAX)
        self._names: dict[str, tuple[str, str]] = {}
        """Of each URL that has answered: the node's id and address, for when it does not."""

    async def here(self, condition: str, at_ms: int | None) -> dict[str, Any]:
        """Packets of this node with a condition, oldest first; of too many, those next to a time."""
        count = bounds.HOPS_SHOWN_MAX
        self._bus.flush()
        found = await self._store.packets_with(condition, at_ms, count + 1)
        status = self._own.status()
        return {
            "nodeId": status["nodeId"],
            "ilpAddress": status["ilpAddress"],
            "now": iso(self._clock.now_ms()),
            "items": [self._hop(events) for events in found[:count]],
            "more": len(found) > count,
        }

    async def everywhere(self, condition: str, at_ms: int | None) -> dict[str, Any]:
        """This node first, then the others in the configured order."""
        async with self._places:
            here = await self.here(condition, at_ms)

            async def ask(node: Ask) -> dict[str, Any]:
                return await self._ask(node, condition, at_ms)

            others = await self._others.each(ask)
        own = {"url": "", "error": "", "clockOffsetMs": 0.0, "clockErrorMs": 0.0, **here}
        return {
            "condition": condition,
            "configured": self._others.configured,
            "nodes": [own, *(one for one in others if one["nodeId"] != own["nodeId"])],
        }

    async def _ask(self, node: Ask, condition: str, at_ms: int | None) -> dict[str, Any]:
        near = "" if at_ms is None else f"?at={at_ms}"
        try:
            async with node.turn():
                begun_ms, begun_s = self._clock.now_ms(), self._clock.monotonic_s()
                answer = await node.get(f"/api/v1/conditions/{condition}{near}")
                took_ms = (self._clock.monotonic_s() - begun_s) * 1000
                if answer.status == 404:
                    raise SilentError("it is of a version that cannot be asked for a condition")
                if answer.status != 200:
                    await node.good("/api/status")  # it says why, where it refuses everything
                    raise SilentError(f"it answered {answer.status}")
                told, now_ms = await off_loop(_read, answer.body)
        except SilentError as silent:
            name, address = self._names.get(node.url) or self._others.last_name(node.url)
            return {
                "url": node.url, "error": str(silent), "nodeId": name, "ilpAddress": address,
                "now": None, "clockOffsetMs": None, "clockErrorMs": None, "items": [], "more": False,
            }  # fmt: skip
        self._names[node.url] = told.node_id, told.ilp_address
        items = [one.model_dump(by_alias=True) for one in told.items[: bounds.HOPS_SHOWN_MAX]]
        return {
            "url": node.url,
            "error": "",
            "nodeId": told.node_id,
            "ilpAddress": told.ilp_address,
            "now": told.now,
            # It looked at its clock at some moment of the request.
            "clockOffsetMs": round(now_ms - begun_ms - took_ms / 2, 1),
            "clockErrorMs": round(took_ms / 2 + 1, 1),
            "items": items,
            "more": told.more,
        }

    async def beginning(self, digits: str) -> list[dict[str, Any]]:
        """Packets of this node whose id or condition begins with some digits."""
        count = bounds.BEGINNINGS_SHOWN_MAX
        self._bus.flush()
        found = await self._store.packets_beginning(digits, count)
        return [self._hop(events) for events in found]

    def _hop(self, events: Sequence[str]) -> dict[str, Any]:
        hop = hop_of([loads(text) for text in events])
        return {
            **hop,
            "assetIn": self._asset(hop["peerId"]),
            "assetOut": self._asset(hop["nextHop"]),
        }

    def _asset(self, peer_id: str | None) -> dict[str, Any] | None:
        asset = None if peer_id is None else self._asset_of(peer_id)
        return None if asset is None else {"code": asset.code, "scale": asset.scale}


# --- valid answers of another node; anything else is its fault

_Text = Annotated[str, Field(max_length=telemetry_bounds.EVENT_TEXT_CHARACTERS_MAX)]
_Address = Annotated[str, Field(max_length=limits.ADDRESS_CHARACTERS_MAX)]
_Moment = Annotated[
    str, Field(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9](:[0-5][0-9]){2}\.[0-9]{3}Z$")
]
_Ms = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]


class _Asset(Told):
    code: Word
    scale: Annotated[int, Field(ge=0, le=limits.ASSET_SCALE_DIGITS_MAX)]


class _Hop(Told):
    packet_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    status: Literal["pending", "fulfilled", "rejected"]
    peer_id: Word
    next_hop: Word | None
    destination: _Address
    amount: Figure
    amount_out: Figure | None
    fee: Figure | None
    asset_in: _Asset | None
    asset_out: _Asset | None
    expires_at: _Moment | None
    received_at: _Moment | None
    duration_ms: _Ms | None
    reserved_ms: _Ms | None
    forwarded_ms: _Ms | None
    answered_ms: _Ms | None
    posted_ms: _Ms | None
    code: Word | None
    message: _Text | None
    triggered_by: _Address | None
    ways: Annotated[list[Word], Field(max_length=100)]


class _Here(Told):
    node_id: Word
    ilp_address: _Address
    now: _Moment
    items: Annotated[list[_Hop], Field(max_length=bounds.HOPS_SHOWN_MAX)]
    more: bool


def _read(octets: bytes) -> tuple[_Here, float]:
    """An answer, and the milliseconds of its clock."""
    check_json(octets)
    told = _Here.model_validate_json(octets)
    try:
        return told, datetime.fromisoformat(told.now).timestamp() * 1000
    except (ValueError, OverflowError):
        raise HttpAnswerError("its time is none") from None


# --- routes

_AT: Final = "Where many packets have the condition, as all pings have: those next to this time"
At = Annotated[Moment, Query(description=_AT)]


def hops_router(hops: Hops) -> APIRouter:
    """`/api/v1/conditions/{condition}`, `/api/v1/network/conditions/{condition}`, `/api/v1/packet-ids`."""
    router = APIRouter(prefix="/api/v1", tags=["read"], dependencies=[Depends(known_query)])
    wrong: dict[int | str, dict[str, Any]] = {
        422: {"description": "the condition or a time is wrong"}
    }

    @router.get(
        "/conditions/{condition}",
        summary="Packets of this node with a condition",
        response_model=None,
        responses={200: {"model": models.HopsHere}, **wrong},
    )
    async def here(condition: Condition, at: At = None) -> dict[str, Any]:
        return await hops.here(condition, moment("at", at))

    @router.get(
        "/network/conditions/{condition}",
        summary="One packet over all nodes of EXPLORER_NODES",
        response_model=None,
        responses={200: {"model": models.HopsEverywhere}, **wrong},
    )
    async def everywhere(condition: Condition, at: At = None) -> dict[str, Any]:
        return await hops.everywhere(condition, moment("at", at))

    @router.get(
        "/packet-ids",
        summary="Packets of this node whose id or condition begins with some hex digits",
        response_model=None,
        responses={200: {"model": models.HopList}, **wrong},
    )
    async def beginning(
        prefix: Annotated[str, Query(pattern="^[0-9a-f]{4,64}$", description="4 to 64 hex digits")],
    ) -> dict[str, Any]:
        return {"items": await hops.beginning(prefix), "next": None}

    return router
