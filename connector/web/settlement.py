"""Settlements over HTTP: routes for settlement engines (RFC 38), and for operators.

The connector URL of an engine is `http://<node>/settlement`. Engines must send the token of the peer
(BTP_PEER_<ID>_SETTLEMENT_TOKEN, else SETTLEMENT_TOKEN), as the bearer token or as the password of
their URL; a peer without one is served on loopback only. Operators use /admin, with the key of the
admin API (web/guard.py).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from connector.base import limits
from connector.base.errors import (
    EnvironmentFault,
    QuantityError,
    SettlementConflictError,
    SettlementError,
    SettlementKeyReusedError,
    SettlementUnknownError,
)
from connector.ilp.packet import Fulfill, Reject
from connector.settings.types import Scale
from connector.settlement.model import (
    Direction,
    Phase,
    Quantity,
    Settlement,
    read_amount,
    read_quantity,
)
from connector.web import models
from connector.web.engine_access import ENGINE_PREFIX
from connector.web.faults import KEY_REUSED, fault, known_query

Key = Annotated[
    str | None, Header(alias="Idempotency-Key", description="The same again is done once.")
]


class Settlements(Protocol):
    """The part of the `SettlementManager` that is used here."""

    async def receive(self, peer_id: str, key: str, quantity: Quantity) -> Settlement:
        """Credit a payment that our engine for a peer reports."""

    async def record(
        self, peer_id: str, direction: Direction, key: str, quantity: Quantity
    ) -> Settlement:
        """Book a payment that an operator reports."""

    async def pay(self, peer_id: str, key: str, amount: int | None) -> Settlement:
        """Pay a peer now."""

    async def confirm(self, peer_id: str, settlement_id: str) -> Settlement:
        """Complete a settlement that an operator has paid."""

    async def cancel(self, peer_id: str, settlement_id: str, *, force: bool) -> Settlement:
        """Cancel a settlement."""

    async def retry(self, peer_id: str, settlement_id: str) -> Settlement:
        """Try a settlement in progress again at once."""

    async def accept(self, peer_id: str, settlement_id: str) -> Settlement:
        """Credit a payment that waits for an operator."""

    async def decline(self, peer_id: str, settlement_id: str) -> Settlement:
        """End a payment that waits for an operator."""

    async def relay(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        """Send a message to the peer's engine."""

    async def view(
        self, peer_id: str | None, count: int, phase: Phase | None = None
    ) -> list[dict[str, Any]]:
        """The newest settlements, those in `phase` or all."""

    def as_json(self, one: Settlement) -> dict[str, Any]:
        """One settlement, for the API."""

    def scale_of(self, peer_id: str) -> int:
        """The scale of a peer's asset."""


def engine_router(settlements: Settlements) -> APIRouter:
    """Routes for engines. The guard has checked their token (web/guard.py)."""
    router = APIRouter(prefix=ENGINE_PREFIX, tags=["settlement engines"])

    @router.post("/accounts/{peer_id}/settlements", status_code=201)
    async def credit(request: Request, peer_id: str, idempotency_key: Key = None) -> Response:
        """Credit an incoming settlement (RFC 38), once for each key.

        202: it is more than the engine may vouch for, and waits for an operator.
        """
        if _kind(request) != "application/json":
            return _fault(415, "Content-Type must be application/json")
        if not idempotency_key:
            return _fault(400, "Idempotency-Key is needed")
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            return _fault(400, "not JSON")
        if not isinstance(body, dict):
            return _fault(422, 'not valid: must be {"amount": "254", "scale": 2}')

        async def work() -> Response:
            quantity = read_quantity(body.get("amount"), body.get("scale"))
            one = await settlements.receive(peer_id, idempotency_key, quantity)
            # The whole quantity: a remainder below one of our units is kept here.
            answer = {"amount": str(quantity.amount), "scale": quantity.scale}
            # 202: it is kept here, and an operator decides on it. The engine has nothing more to do.
            return JSONResponse(answer, 202 if one.phase is Phase.WAITING else 201)

        return await _answered(work)

    @router.post("/accounts/{peer_id}/messages", status_code=201)
    async def message(request: Request, peer_id: str) -> Response:
        """Bring a message to the peer's settlement engine; the body is what that one answers."""
        if _kind(request) != "application/octet-stream":
            return _fault(415, "Content-Type must be application/octet-stream")
        octets = await request.body()
        if len(octets) > limits.PACKET_DATA_BYTES_MAX:
            return _fault(413, f"a message has at most {limits.PACKET_DATA_BYTES_MAX} octets")

        async def work() -> Response:
            said = await settlements.relay(peer_id, octets)
            if isinstance(said, Fulfill):
                return Response(said.data, 201, media_type="application/octet-stream")
            # F: the peer's side refused. T and R: it could not, and a retry may succeed.
            status = 400 if said.code.startswith("F") else 502
            if said.data:
                return Response(said.data, status, media_type="application/octet-stream")
            return _fault(status, f"{said.code}: {said.message}")

        return await _answered(work)

    return router


def _amount(given: object) -> int | None:
    try:
        return None if given is None else read_amount(given)
    except QuantityError as error:
        raise ValueError(str(error).removeprefix("amount: ")) from None


Digits = Annotated[
    int,
    BeforeValidator(_amount),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}]}
    ),
]


class NewSettlement(BaseModel):
    """A settlement that an operator tells of, or asks for."""

    model_config = ConfigDict(extra="forbid")

    direction: Direction
    """`incoming`: the peer has paid us; `outgoing`: we pay, or have paid, the peer."""
    amount: Digits | None = None
    """In units of 10**-scale. Without it, only for `execute`: all that is owed above settleTo."""
    scale: Scale | None = None
    """Default: the scale of the peer's asset."""
    execute: bool = False
    """Whether the peer is to be paid by its engine now; else it has been paid already."""


class Cancel(BaseModel):
    """How a settlement is taken back."""

    model_config = ConfigDict(extra="forbid")

    force: bool = False
    """Also when a settlement engine was asked, which may have paid."""


Note = Callable[[str, str, str], None]
"""Records an action of an operator: what, of which peer, and its outcome (`NodeAdmin.note`)."""


def settlements_router(
    settlements: Settlements, new_key: Callable[[], str], note: Note
) -> APIRouter:
    """Routes for operators; `new_key` makes a key for requests without one."""
    router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(known_query)])

    async def recorded(
        action: str, peer_id: str, work: Callable[[], Awaitable[Settlement]], status: int = 200
    ) -> Response:
        """Do `work` and record it, also when it was refused."""

        async def done() -> Response:
            one = await work()
            amount = f"{one.amount} {one.asset.code}/{one.asset.scale}"
            note(f"settlement.{action}", peer_id, f"ok: {one.direction.value} {amount}")
            return JSONResponse(settlements.as_json(one), status)

        answer = await _answered(done)
        if answer.status_code >= 400:
            note(f"settlement.{action}", peer_id, f"refused: {_reason(answer)}")
        return answer

    @router.get("/settlements")
    async def all_of_them(limit: int = 100, phase: Phase | None = None) -> Response:
        return await _answered(lambda: listed(None, limit, phase))

    @router.get("/accounts/{peer_id}/settlements")
    async def of_a_peer(peer_id: str, limit: int = 100, phase: Phase | None = None) -> Response:
        return await _answered(lambda: listed(peer_id, limit, phase))

    async def listed(peer_id: str | None, limit: int, phase: Phase | None) -> Response:
        if peer_id is not None:
            settlements.scale_of(peer_id)
        count = max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX))
        return JSONResponse({"items": await settlements.view(peer_id, count, phase), "next": None})

    @router.post("/accounts/{peer_id}/settlements", status_code=201)
    async def add(peer_id: str, asked: NewSettlement, idempotency_key: Key = None) -> Response:
        """Record a settlement that was made, or (`execute`) have the peer paid now.

        The same `Idempotency-Key` again does nothing and is answered the same.
        """
        key = new_key() if idempotency_key is None else idempotency_key

        async def work() -> Settlement:
            if asked.execute:
                return await settlements.pay(peer_id, key, _whole(peer_id, asked))
            return await settlements.record(
                peer_id, asked.direction, key, _quantity(peer_id, asked)
            )

        return await recorded("pay" if asked.execute else "record", peer_id, work, 201)

    def _quantity(peer_id: str, asked: NewSettlement) -> Quantity:
        scale = settlements.scale_of(peer_id) if asked.scale is None else asked.scale
        return read_quantity(asked.amount, scale)

    def _whole(peer_id: str, asked: NewSettlement) -> int | None:
        if asked.direction is not Direction.OUTGOING:
            raise SettlementError("only an outgoing settlement can be executed")
        if asked.amount is None:
            return None
        if asked.scale not in (None, settlements.scale_of(peer_id)):
            raise SettlementError("execute takes the amount in the scale of the peer's asset")
        return _quantity(peer_id, asked).amount

    @router.post("/accounts/{peer_id}/settlements/{settlement_id}/confirm")
    async def confirm(peer_id: str, settlement_id: str) -> Response:
        """Say that a settlement in progress has been paid."""
        return await recorded(
            "confirm", peer_id, lambda: settlements.confirm(peer_id, settlement_id)
        )

    @router.post("/accounts/{peer_id}/settlements/{settlement_id}/cancel")
    async def cancel(peer_id: str, settlement_id: str, how: Cancel | None = None) -> Response:
        """Take a settlement in progress back: it will not be paid, and is booked back."""
        force = how is not None and how.force
        return await recorded(
            "cancel", peer_id, lambda: settlements.cancel(peer_id, settlement_id, force=force)
        )

    @router.post("/accounts/{peer_id}/settlements/{settlement_id}/retry")
    async def retry(peer_id: str, settlement_id: str) -> Response:
        """Ask the engine again now, instead of when the next attempt is due."""
        return await recorded("retry", peer_id, lambda: settlements.retry(peer_id, settlement_id))

    @router.post("/accounts/{peer_id}/settlements/{settlement_id}/accept")
    async def accept(peer_id: str, settlement_id: str) -> Response:
        """Credit a payment of the peer that waits: an engine reported more than it may vouch for."""
        return await recorded("accept", peer_id, lambda: settlements.accept(peer_id, settlement_id))

    @router.post("/accounts/{peer_id}/settlements/{settlement_id}/decline")
    async def decline(peer_id: str, settlement_id: str) -> Response:
        """End a payment of the peer that waits; it is not credited."""
        return await recorded(
            "decline", peer_id, lambda: settlements.decline(peer_id, settlement_id)
        )

    return router


def settlements_read_router(settlements: Settlements) -> APIRouter:
    """`/api/settlements`: what an operator may have to do, for those who only read too."""
    router = APIRouter(prefix="/api", tags=["read"])

    @router.get(
        "/settlements",
        summary="Settlements, newest first",
        response_model=None,
        responses={200: {"model": models.SettlementList}},
    )
    async def listed(
        peer: Annotated[str | None, Query(max_length=64)] = None,
        phase: Phase | None = None,
        limit: Annotated[int, Query(description="1 to 1000")] = 100,
    ) -> Response:
        async def work() -> Response:
            if peer is not None:
                settlements.scale_of(peer)
            count = max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX))
            items = await settlements.view(peer, count, phase)
            return JSONResponse({"items": items, "next": None})

        return await _answered(work)

    return router


async def _answered(work: Callable[[], Awaitable[Response]]) -> Response:
    """The answer of `work`, with its errors as HTTP statuses."""
    try:
        return await work()
    except SettlementUnknownError as error:
        return _fault(404, str(error))
    except SettlementKeyReusedError as error:
        return fault(409, str(error), code=KEY_REUSED)
    except SettlementConflictError as error:
        return _fault(409, str(error))
    except QuantityError as error:
        return _fault(422, f"not valid: {error}")
    except SettlementError as error:
        return _fault(400, str(error))
    except EnvironmentFault as error:
        # Not done, or not known to be done. The request may be repeated with the same key.
        return _fault(503, str(error))


def _reason(answer: Response) -> str:
    return str(json.loads(bytes(answer.body))["error"])


def _kind(request: Request) -> str:
    """The content type. Pages of other origins cannot send JSON without a preflight request."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _fault(status: int, message: str) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": message}, status, headers=headers)
