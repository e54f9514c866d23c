"""What passed this node and its peers over time, for charts."""

from __future__ import annotations

from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Path, Query

from connector.base.errors import UnknownNameError
from connector.peering.model import PeerRegistry
from connector.telemetry.aggregates import Aggregates
from connector.telemetry.peer_minutes import PeerMinutes, PeerRow
from connector.web import bounds, models

RANGE_SECONDS_MAX: Final = 7 * 86_400

Range = Annotated[int, Query(alias="range", description="Seconds: 1 to 604800")]
Points = Annotated[int, Query(description="About as many at most: 1 to 1000")]
End = Annotated[
    int | None,
    Query(ge=0, le=10**15, description="ms since 1970: where the range ends; default: now"),
]


class Stored(Protocol):
    """Minutes on disk."""

    async def minutes_of_peer(self, peer: str, points: range) -> dict[int, PeerRow] | None:
        """What a peer had, by points; None: nothing is kept at the moment."""


def aggregates_router(
    aggregates: Aggregates, minutes: PeerMinutes, store: Stored, peers: PeerRegistry
) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api", tags=["read"])

    @router.get(
        "/aggregates",
        summary="Packets and value over time; what is not known is null, not zero",
        response_model=None,
        responses={200: {"model": models.AggregateList}},
    )
    async def listed(
        range_: Range = 300,
        points: Points = 300,
        after: Annotated[
            int, Query(ge=0, le=10**15, description="ms since 1970: only points after it")
        ] = 0,
        to: End = None,
    ) -> dict[str, Any]:
        return aggregates.view(_range(range_), _points(points), after, to)

    @router.get(
        "/activity",
        summary="Packets of each peer by the minute, in the last hour",
        response_model=None,
        responses={200: {"model": models.Activity}},
    )
    async def activity() -> dict[str, Any]:
        return minutes.activity()

    @router.get(
        "/peers/{peer_id}/aggregates",
        summary="Packets and value from and to a peer over time, by the minute or longer",
        response_model=None,
        responses={200: {"model": models.PeerAggregateList}},
    )
    async def of_peer(
        peer_id: Annotated[str, Path(max_length=64)],
        range_: Range = 3600,
        points: Points = 300,
        to: End = None,
    ) -> dict[str, Any]:
        while True:
            window = minutes.window(_range(range_), _points(points), to)
            begun = minutes.minute
            stored = await store.minutes_of_peer(peer_id, window)
            if minutes.minute == begun:
                break
            # A minute was over meanwhile: it is neither under way any more nor in what was read.
        if peer_id not in peers and not stored:
            raise UnknownNameError("no such peer")
        return minutes.view(peer_id, window, stored)

    return router


def _range(seconds: int) -> int:
    return max(1, min(seconds, RANGE_SECONDS_MAX))


def _points(count: int) -> int:
    return max(1, min(count, bounds.HISTORY_POINTS_MAX))
