"""The admin API: peers, routes, limits, accounts, and packets of this node itself.

The guard has checked the key before (web/guard.py). `NodeAdmin` (`node.changes`) makes and stores
the changes.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from connector.base import limits
from connector.base.errors import ConfigError
from connector.ilp.packet import Answer, Fulfill
from connector.settings.model import PeerSettings, RouteSettings
from connector.settings.types import (
    Amount,
    IlpAddress,
    PeerId,
    Prefix,
    RateLimit,
    Throughput,
    ThroughputWindow,
)
from connector.web import models
from connector.web.faults import known_query

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_ADDED_PEER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": models.AdminPeer, "description": "It was there"},
    201: {"model": models.AdminPeer, "description": "It is new"},
}
_ADDED_ROUTE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": models.AdminRoute, "description": "It was there"},
    201: {"model": models.AdminRoute, "description": "It is new"},
}
PeerPath = Annotated[
    PeerId,
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"}),
    Path(),
]


def _32_octets(text: str) -> str:
    if not _HEX.fullmatch(text):
        raise ValueError("must be 64 hex digits, for 32 octets")
    return text


Octets32 = Annotated[
    str,
    AfterValidator(_32_octets),
    WithJsonSchema({"type": "string", "pattern": f"^{_HEX.pattern}$"}),
]


class LeftBehind(Protocol):
    """Packets that were sent to a peer and had no answer when it was removed."""

    @property
    def packets(self) -> int:
        """How many."""

    @property
    def amount(self) -> int:
        """Of all together, in its asset."""


class NodeAdmin(Protocol):
    """What the admin API uses of a node. All raise `ConnectorError`s, see `node.changes`."""

    def peers_view(self) -> list[dict[str, Any]]:
        """All peers, without their secrets."""

    def peer_view(self, peer: PeerSettings) -> dict[str, Any]:
        """One peer, without its secret."""

    def peer(self, peer_id: str) -> PeerSettings:
        """The settings of a peer."""

    def routes_view(self) -> list[dict[str, Any]]:
        """The static routes."""

    async def create_peer(self, wanted: PeerSettings) -> bool:
        """Add a peer; whether it is new."""

    async def put_peer(self, peer_id: str, fields: dict[str, Any]) -> bool:
        """Add or replace a peer; whether it is new."""

    async def set_limits(self, peer_id: str, limits: dict[str, Any]) -> bool:
        """Change limits of a peer; whether anything changed."""

    async def delete_peer(self, peer_id: str, *, force: bool = False) -> LeftBehind:
        """Remove a peer once it is drained, or by force; returns packets without an answer."""

    async def add_route(self, route: RouteSettings) -> bool:
        """Add a static route; whether it is new."""

    async def delete_route(self, route: RouteSettings) -> bool:
        """Remove a static route; whether it was there."""

    def note(self, action: str, target: str, outcome: str = "ok") -> None:
        """Report an action with the admin key as an event."""


class NodeShown(Protocol):
    """What the admin API shows besides."""

    def accounts_view(self) -> list[dict[str, Any]]:
        """One item a peer account."""

    def explain_view(self, destination: str) -> dict[str, Any]:
        """Why packets for an address go where they go."""


class PacketSender(Protocol):
    """Sends packets of this node."""

    async def send(
        self,
        destination: str,
        amount: int,
        *,
        data: bytes = b"",
        fulfillment: bytes | None = None,
        condition: bytes | None = None,
        expiry_s: float = 30.0,
    ) -> Answer:
        """Send one and wait for its answer."""


class PeerReplacement(PeerSettings):
    """A peer; its id stands in the path, its secrets are given only if they are to be other ones."""

    id: str | None = None  # type: ignore[assignment]
    secret: SecretStr | None = None  # type: ignore[assignment]

    @model_validator(mode="after")
    def _check_whole(self) -> PeerReplacement:
        # Checked later, with the secret that the peer will have (`node.changes`).
        return self


class Limits(BaseModel):
    """What is changed of a peer's limits; what is left out stays, null is the default."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    credit_limit: Amount | None = None
    """What it may owe us. Default: CREDIT_LIMIT."""
    max_payable: Amount | None = None
    """What we may owe it. Default: no bound."""
    max_in_flight_value: Amount | None = None
    """What may be held at a time for packets from it, and for packets to it. Default: no bound."""
    max_packet_amount: Amount | None = None
    """The largest packet taken from it. Default: no bound."""
    rate_limit: RateLimit | None = None
    """Packets per second taken from it. Default: no bound."""
    throughput_in: Throughput | None = None
    """Value taken from it per window. Default: no bound."""
    throughput_out: Throughput | None = None
    """Value sent to it per window. Default: no bound."""
    throughput_window_seconds: ThroughputWindow = 60
    """The window of both."""
    settle_threshold: Amount | None = None
    """When we owe it more than this, settle. Default: never."""
    settle_to: Amount = 0
    """What we go on owing it after a settlement."""
    max_prepaid: Amount | None = None
    """What its settlement engine can make us owe it without an operator. Default: its credit limit."""


class Packet(BaseModel):
    """A packet to be sent from this node; without `condition` and `fulfillment` a ping."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    destination: IlpAddress
    amount: Amount = 0
    """In units of the node's own asset."""
    data: Annotated[str, Field(max_length=44_000)] = ""
    """For the receiver, in base64; at most 32767 octets."""
    condition: Octets32 | None = None
    """Hex of 32 octets, where the fulfillment is not known here."""
    fulfillment: Octets32 | None = None
    """Hex of 32 octets; the condition is its SHA-256."""
    expiry_seconds: Annotated[float, Field(gt=0, le=limits.HOLD_MS_MAX / 1000)] = 30.0
    """Until the offer runs out."""

    @field_validator("data")
    @classmethod
    def _is_base64(cls, text: str) -> str:
        try:
            octets = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("must be base64") from None
        if len(octets) > limits.PACKET_DATA_BYTES_MAX:
            raise ValueError(f"has at most {limits.PACKET_DATA_BYTES_MAX} octets")
        return text

    @model_validator(mode="after")
    def _check_whole(self) -> Packet:
        if self.condition is not None and self.fulfillment is not None:
            raise ValueError("give either condition or fulfillment")
        return self


def admin_router(admin: NodeAdmin, shown: NodeShown, sender: PacketSender) -> APIRouter:
    """All routes of `/admin` except settlements."""
    router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(known_query)])

    def peer_answer(peer_id: str, status: int = 200) -> JSONResponse:
        return JSONResponse(admin.peer_view(admin.peer(peer_id)), status)

    @router.get(
        "/peers",
        summary="All peers, without their secrets",
        response_model=None,
        responses={200: {"model": models.AdminPeers}},
    )
    async def list_peers() -> dict[str, Any]:
        return {"items": admin.peers_view(), "next": None}

    @router.get(
        "/peers/{peer_id}",
        summary="One peer",
        response_model=None,
        responses={200: {"model": models.AdminPeer}},
    )
    async def get_peer(peer_id: PeerPath) -> Response:
        return peer_answer(peer_id)

    @router.post(
        "/peers", summary="Add a peer", status_code=201, response_model=None, responses=_ADDED_PEER
    )
    async def create_peer(wanted: PeerSettings) -> Response:
        return peer_answer(wanted.id, 201 if await admin.create_peer(wanted) else 200)

    @router.put(
        "/peers/{peer_id}",
        summary="Add a peer or replace its settings",
        response_model=None,
        responses=_ADDED_PEER,
    )
    async def put_peer(peer_id: PeerPath, wanted: PeerReplacement) -> Response:
        if wanted.id not in (None, peer_id):
            raise ConfigError(["id: is another one than in the path"])
        fields = {name: getattr(wanted, name) for name in wanted.model_fields_set if name != "id"}
        return peer_answer(peer_id, 201 if await admin.put_peer(peer_id, fields) else 200)

    @router.delete(
        "/peers/{peer_id}",
        summary="Remove a peer, when no packet of or to it is under way",
        status_code=204,
        response_model=None,
        responses={
            200: {"model": models.RemovedPeer, "description": "Some packets have no answer"}
        },
    )
    async def delete_peer(
        peer_id: PeerPath,
        force: Annotated[bool, Query(description="Do not wait for packets under way")] = False,
    ) -> Response:
        left = await admin.delete_peer(peer_id, force=force)
        if not left.packets:
            return Response(status_code=204)
        return JSONResponse(
            {"packetsUnanswered": left.packets, "amountUnanswered": str(left.amount)}
        )

    @router.put(
        "/peers/{peer_id}/limits",
        summary="Change limits of a peer",
        response_model=None,
        responses={200: {"model": models.AdminPeer}},
    )
    async def set_limits(peer_id: PeerPath, wanted: Limits) -> Response:
        fields = {name: getattr(wanted, name) for name in wanted.model_fields_set}
        await admin.set_limits(peer_id, fields)
        return peer_answer(peer_id)

    @router.get(
        "/routes",
        summary="The static routes",
        response_model=None,
        responses={200: {"model": models.AdminRoutes}},
    )
    async def list_routes() -> dict[str, Any]:
        return {"items": admin.routes_view(), "next": None}

    @router.post(
        "/routes",
        summary="Add a static route",
        status_code=201,
        response_model=None,
        responses=_ADDED_ROUTE,
    )
    @router.put(
        "/routes",
        summary="Add a static route",
        status_code=201,
        response_model=None,
        responses=_ADDED_ROUTE,
    )
    async def add_route(route: RouteSettings) -> Response:
        is_new = await admin.add_route(route)
        return JSONResponse(route.model_dump(by_alias=True), 201 if is_new else 200)

    @router.delete("/routes", summary="Remove a static route", status_code=204)
    async def delete_route(
        prefix: Annotated[Prefix, Query()], next_hop: Annotated[str, Query(alias="nextHop")]
    ) -> Response:
        await admin.delete_route(RouteSettings(prefix=prefix, next_hop=next_hop))
        return Response(status_code=204)

    @router.get(
        "/routes/explain",
        summary="Why packets for an address go where they go",
        response_model=None,
        responses={200: {"model": models.Explained}},
    )
    async def explain(destination: Annotated[IlpAddress, Query()]) -> dict[str, Any]:
        return shown.explain_view(destination)

    @router.get(
        "/accounts",
        summary="All accounts, as GET /api/accounts",
        response_model=None,
        responses={200: {"model": models.Accounts}},
    )
    async def accounts() -> dict[str, Any]:
        return {"items": shown.accounts_view(), "next": None}

    @router.post(
        "/packets",
        summary="Send a packet from this node",
        response_model=None,
        responses={200: {"model": models.PacketAnswer}},
    )
    async def send(packet: Packet) -> dict[str, Any]:
        # The time of a uvloop is in whole milliseconds.
        began_s = time.perf_counter()
        answer = await sender.send(
            packet.destination,
            packet.amount,
            data=base64.b64decode(packet.data),
            fulfillment=None if packet.fulfillment is None else bytes.fromhex(packet.fulfillment),
            condition=None if packet.condition is None else bytes.fromhex(packet.condition),
            expiry_s=packet.expiry_seconds,
        )
        said = {**_answer(answer), "durationMs": round((time.perf_counter() - began_s) * 1000, 3)}
        admin.note("packet.send", packet.destination, said["status"])
        return said

    return router


def _answer(answer: Answer) -> dict[str, Any]:
    """A Fulfill or a Reject in JSON; octets in base64, the fulfillment in hex."""
    data = base64.b64encode(answer.data).decode()
    if isinstance(answer, Fulfill):
        return {"status": "fulfilled", "fulfillment": answer.fulfillment.hex(), "data": data}
    return {
        "status": "rejected",
        "code": answer.code,
        "message": answer.message,
        "triggeredBy": answer.triggered_by,
        "data": data,
    }
