"""`/api/aggregates`: what passed this node over time, for charts."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from connector.telemetry.aggregates import Aggregates
from connector.web import bounds, models

RANGE_SECONDS_MAX: Final = 7 * 86_400


def aggregates_router(aggregates: Aggregates) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/api", tags=["read"])

    @router.get(
        "/aggregates",
        summary="Packets and value over time; what is not known is null, not zero",
        response_model=None,
        responses={200: {"model": models.AggregateList}},
    )
    async def listed(
        range_: Annotated[int, Query(alias="range", description="Seconds back: 1 to 604800")] = 300,
        points: Annotated[int, Query(description="About as many at most: 1 to 1000")] = 300,
        after: Annotated[
            int, Query(ge=0, le=10**15, description="ms since 1970: only points after it")
        ] = 0,
    ) -> dict[str, Any]:
        return aggregates.view(
            max(1, min(range_, RANGE_SECONDS_MAX)),
            max(1, min(points, bounds.HISTORY_POINTS_MAX)),
            after,
        )

    return router
