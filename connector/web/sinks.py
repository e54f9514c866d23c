"""Sinks in the API and the metrics: how each is, its dead letters, and delivering these again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Path, Query
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from connector.base import limits
from connector.web import models
from connector.web.faults import known_query

_NAME = Path(max_length=32, description="webhook, nats or postgres")


class SinksView(Protocol):
    """Where events are delivered; see `sinks.sinks`. Raises `ConnectorError`s."""

    def view(self) -> list[dict[str, Any]]:
        """How each sink is."""

    async def dead_letters(
        self, name: str, cursor: str, count: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of dead letters, oldest first."""

    async def deliver_again(self, name: str, seq: int | None) -> int:
        """Have a dead letter, or all of a sink, delivered again."""


def sinks_router(sinks: SinksView, note: Callable[[str, str], None]) -> APIRouter:
    """The routes.

    Args:
        sinks: of the node.
        note: records an action of an operator.
    """
    router = APIRouter(dependencies=[Depends(known_query)])

    @router.get(
        "/api/v1/sinks",
        tags=["read"],
        response_model=None,
        responses={200: {"model": models.Sinks}},
    )
    async def shown() -> dict[str, Any]:
        return {"items": sinks.view(), "next": None}

    @router.get(
        "/api/v1/sinks/{sink}/dead",
        tags=["read"],
        summary="Events that a sink refused for good, oldest first",
        response_model=None,
        responses={200: {"model": models.DeadLetters}},
    )
    async def dead(
        sink: Annotated[str, _NAME],
        cursor: Annotated[str, Query(max_length=20)] = "",
        limit: Annotated[int, Query(description="1 to 1000")] = 50,
    ) -> dict[str, Any]:
        count = max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX))
        items, following = await sinks.dead_letters(sink, cursor, count)
        return {"items": items, "next": following}

    @router.post(
        "/admin/sinks/{sink}/deliver-again",
        tags=["admin"],
        summary="Deliver dead letters of a sink again: one, or all",
        status_code=202,
        response_model=None,
        responses={202: {"model": models.DeliveredAgain}},
    )
    async def again(
        sink: Annotated[str, _NAME],
        seq: Annotated[int | None, Query(ge=1, lt=1 << 63, description="of one event")] = None,
    ) -> dict[str, Any]:
        count = await sinks.deliver_again(sink, seq)
        note("sink.deliver-again", sink)
        return {"sink": sink, "letters": count}

    return router


def sink_metrics(sinks: SinksView) -> Iterator[Metric]:
    """Of every sink; without any, names without values."""
    items = sinks.view()
    for kind, name, text, field in (
        (
            CounterMetricFamily,
            "ilp_sink_delivered",
            "Events delivered since the start.",
            "delivered",
        ),
        (CounterMetricFamily, "ilp_sink_delivered_bytes", "Octets of these.", "deliveredBytes"),
        (CounterMetricFamily, "ilp_sink_retries", "Attempts to deliver that failed.", "retried"),
        (CounterMetricFamily, "ilp_sink_refused", "Events refused for good.", "refused"),
        (
            CounterMetricFamily,
            "ilp_sink_missed",
            "Events that were gone before they were delivered, of all starts.",
            "missed",
        ),
        (GaugeMetricFamily, "ilp_sink_lag_events", "Events that wait.", "lagEvents"),
        (GaugeMetricFamily, "ilp_sink_lag_seconds", "Age of the oldest of these.", "lagSeconds"),
        (GaugeMetricFamily, "ilp_sink_dead_letters", "Refused events on disk.", "deadLetters"),
        (GaugeMetricFamily, "ilp_sink_dead_letter_bytes", "Octets of these.", "deadLetterBytes"),
    ):
        family = kind(name, text, labels=("sink",))
        for item in items:
            family.add_metric((item["sink"],), item[field])
        yield family
    up = GaugeMetricFamily("ilp_sink_up", "0 while deliveries fail.", labels=("sink",))
    for item in items:
        up.add_metric((item["sink"],), int(item["state"] != "failing"))
    yield up
