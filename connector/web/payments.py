"""Payments in the admin API: begin one, see how far it is, cancel it."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from connector.base import limits
from connector.settings.types import SLIPPAGE_PATTERN, Amount
from connector.web import models
from connector.web.faults import known_query

SLIPPAGE: Final = "0.01"
_SLIPPAGE: Final = re.compile(SLIPPAGE_PATTERN)


def _slippage(text: str) -> str:
    if not _SLIPPAGE.fullmatch(text):
        raise ValueError('must be a text with a number from 0 to 1, such as "0.01"')
    return text


class Payment(BaseModel):
    """A payment to be made by this node."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    target: Annotated[str, Field(min_length=1, max_length=2000)]
    """A payment pointer (`$host/path`), or the URL that it stands for."""
    amount: Amount
    """To be sent, in units of the node's own asset; at least 1."""
    max_slippage: Annotated[
        str,
        AfterValidator(_slippage),
        WithJsonSchema({"type": "string", "pattern": f"^({_SLIPPAGE.pattern})$"}),
    ] = SLIPPAGE
    """By which part the rate may become worse than quoted, and the quote be worse than our own, 0 to 1."""
    min_delivered: Amount = 0
    """The least that the receiver must get of all, in units of its asset; 0: no such bound."""
    timeout_seconds: Annotated[int | None, Field(ge=1, le=7 * 86_400)] = None
    """How long it may take in all. Default: an hour."""
    key: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """Under the same key it is not made a second time. Default: a new one."""


class PaymentMaker(Protocol):
    """Makes payments. Raises `ConnectorError`s, see `node.payments`."""

    async def start_payment(
        self,
        target: str,
        amount: int,
        *,
        slippage: Fraction,
        key: str | None,
        min_delivered: int,
        timeout_s: int | None,
    ) -> dict[str, Any]:
        """Begin one, or go on with it; its state at once."""

    async def payment(self, key: str) -> dict[str, Any]:
        """One as it is now."""

    async def recent(self, cursor: str, count: int) -> tuple[list[dict[str, Any]], str | None]:
        """The latest, latest first, and where the next page begins."""

    async def cancel_payment(self, key: str) -> dict[str, Any]:
        """Send nothing more for one; its state when nothing is under way, or after a bounded wait."""


def payments_router(maker: PaymentMaker) -> APIRouter:
    """Routes of `/admin/payments`, and `/api/payments`."""
    router = APIRouter(dependencies=[Depends(known_query)])

    @router.get(
        "/api/payments",
        tags=["read"],
        summary="Payments of this node, latest first",
        response_model=None,
        responses={200: {"model": models.PaymentAnswers}},
    )
    async def payments(
        cursor: Annotated[str, Query(max_length=20)] = "",
        limit: Annotated[int, Query(description="1 to 1000")] = 50,
    ) -> dict[str, Any]:
        count = max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX))
        items, following = await maker.recent(cursor, count)
        return {"items": items, "next": following}

    @router.post(
        "/admin/payments",
        tags=["admin"],
        summary="Pay a payment pointer or URL from this node",
        status_code=202,
        response_model=None,
        responses={
            200: {"model": models.PaymentAnswer, "description": "It has ended before"},
            202: {"model": models.PaymentAnswer, "description": "It is under way"},
        },
    )
    async def pay(wanted: Payment) -> Response:
        body = await maker.start_payment(
            wanted.target,
            wanted.amount,
            slippage=Fraction(wanted.max_slippage),
            key=wanted.key,
            min_delivered=wanted.min_delivered,
            timeout_s=wanted.timeout_seconds,
        )
        return JSONResponse(body, 202 if body["state"] == "running" else 200)

    @router.get(
        "/admin/payments/{key:path}",  # a key may have a slash
        tags=["admin"],
        summary="A payment as it is now",
        response_model=None,
        responses={200: {"model": models.PaymentAnswer}},
    )
    async def payment(key: Annotated[str, Path(max_length=100)]) -> dict[str, Any]:
        return await maker.payment(key)

    @router.delete(
        "/admin/payments/{key:path}",
        tags=["admin"],
        summary="Send nothing more for a payment",
        response_model=None,
        responses={
            200: {"model": models.PaymentAnswer, "description": "Nothing is under way any more"},
            202: {"model": models.PaymentAnswer, "description": "Packets are still under way"},
        },
    )
    async def cancel(key: Annotated[str, Path(max_length=100)]) -> Response:
        body = await maker.cancel_payment(key)
        return JSONResponse(body, 202 if body["state"] == "running" else 200)

    return router
