"""Payments that came in, in the API and the metrics; and telling the webhook again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, Path, Query
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from connector.base import limits
from connector.switch.asking import DataQuestions
from connector.web import models
from connector.web.faults import known_query


class IncomingView(Protocol):
    """What came in. Raises `ConnectorError`s, see `node.received`."""

    waiting: int
    """Payments that the webhook has yet to be told."""
    dead: int
    """Those that it could not be told."""

    async def recent(
        self, *, wallet: str | None, hook: str | None, cursor: str, count: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The latest payments, latest first, and where the next page begins."""

    async def tell_again(self, id_: str) -> None:
        """Tell the webhook of a payment again."""


def incoming_router(incoming: IncomingView | None) -> APIRouter:
    """Routes of incoming payments; None: this node has no wallets."""
    router = APIRouter(dependencies=[Depends(known_query)])

    @router.get(
        "/api/wallets/payments",
        tags=["read"],
        response_model=None,
        responses={200: {"model": models.IncomingPayments}},
    )
    async def payments(
        wallet: Annotated[str | None, Query(max_length=64)] = None,
        webhook: Literal["none", "waiting", "told", "dead"] | None = None,
        cursor: Annotated[str, Query(max_length=20)] = "",
        limit: Annotated[int, Query(description="1 to 1000")] = 50,
    ) -> dict[str, Any]:
        count = max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX))
        if incoming is None:
            return {"items": [], "next": None, "webhooksWaiting": 0, "webhooksDead": 0}
        items, following = await incoming.recent(
            wallet=wallet, hook=webhook, cursor=cursor, count=count
        )
        return {
            "items": items,
            "next": following,
            "webhooksWaiting": incoming.waiting,
            "webhooksDead": incoming.dead,
        }

    if incoming is not None:

        @router.post(
            "/admin/wallets/payments/{id_}/tell",
            tags=["admin"],
            summary="Tell the webhook of a payment that came in again",
            status_code=202,
            response_model=None,
            responses={202: {"model": models.Told}},
        )
        async def tell(id_: Annotated[str, Path(max_length=64)]) -> dict[str, Any]:
            await incoming.tell_again(id_)
            return {"id": id_, "webhook": "waiting"}

    return router


def incoming_metrics(incoming: IncomingView | None, questions: DataQuestions) -> Iterator[Metric]:
    """Nothing on a node without wallets."""
    if incoming is None:
        return
    hooks = GaugeMetricFamily(
        "ilp_webhooks", "Payments that the webhook has yet to be told, or could not be.", labels=("state",)
    )  # fmt: skip
    hooks.add_metric(("waiting",), incoming.waiting)
    hooks.add_metric(("dead",), incoming.dead)
    yield hooks
    asked = CounterMetricFamily(
        "ilp_payment_data",
        "Packets of payments with data, by what was decided.",
        labels=("result",),
    )
    for result, count in (
        ("accepted", questions.accepted),
        ("declined", questions.declined),
        ("failed", questions.failed),
    ):
        asked.add_metric((result,), count)
    yield asked
