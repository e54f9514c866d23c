"""The admin API: peers, routes, limits, accounts, and packets of this node itself.

The guard has checked the key before (web/guard.py). `NodeAdmin` (`node.changes`) makes and stores
the changes.
"""

from __future__ import annotations

import base64
import time
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import SecretStr, WithJsonSchema

from connector.base.errors import ConfigError
from connector.ilp.packet import Answer, Fulfill
from connector.settings.model import PeerSettings, RouteSettings
from connector.settings.types import IlpAddress, PeerId, Prefix
from connector.web import models
from connector.web.bodies import Limits, NewSecret, Packet, PeerReplacement
from connector.web.faults import known_query

_ADDED_PEER: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": models.AdminPeer | models.ChangePreview,
        "description": "It was there, or the preview",
    },
    201: {"model": models.AdminPeer, "description": "It is new"},
}
_ADDED_ROUTE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": models.AdminRoute | models.ChangePreview,
        "description": "It was there, or the preview",
    },
    201: {"model": models.AdminRoute, "description": "It is new"},
}
PeerPath = Annotated[
    PeerId,
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"}),
    Path(),
]
_CHANGED_PEER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": models.AdminPeer | models.ChangePreview}
}
AsPreview = Annotated[
    bool, Query(description="Say what it would do, and whether it could be done; change nothing")
]
AsShown = Annotated[
    str | None,
    Query(
        max_length=64,
        description="`shown` of a preview: 409 where the same request would be shown otherwise now",
    ),
]


class LeftBehind(Protocol):
    """Packets that were sent to a peer and had no answer when it was removed."""

    @property
    def packets(self) -> int:
        """How many."""

    @property
    def amount(self) -> int:
        """Of all together, in its asset."""


class StepMaker(Protocol):
    """Makes what `NodeAdmin.preview` takes: changes that are not made."""

    def create_peer(self, wanted: PeerSettings) -> Any:
        """To add a peer."""

    def put_peer(self, peer_id: str, fields: dict[str, Any]) -> Any:
        """To add or replace a peer."""

    def edit_peer(self, peer_id: str, fields: dict[str, Any]) -> Any:
        """To change settings of a peer."""

    def set_limits(self, peer_id: str, limits: dict[str, Any]) -> Any:
        """To change limits of a peer."""

    def rotate_secret(self, peer_id: str, secret: SecretStr, until: str | None) -> Any:
        """To give a peer another secret."""

    def drain_peer(self, peer_id: str) -> Any:
        """To remove a peer."""

    def add_route(self, route: RouteSettings) -> Any:
        """To add a static route."""

    def delete_route(self, route: RouteSettings) -> Any:
        """To remove a static route."""


class NodeAdmin(Protocol):
    """What the admin API uses of a node. All raise `ConnectorError`s, see `node.changes`."""

    @property
    def steps(self) -> StepMaker:
        """For `preview`."""

    def preview(self, step: Any, *, force: bool = False) -> dict[str, Any]:
        """What a change would do; it is checked, not made."""

    def peers_view(self) -> list[dict[str, Any]]:
        """All peers, without their secrets."""

    def peer_view(self, peer: PeerSettings) -> dict[str, Any]:
        """One peer, without its secret."""

    def peer(self, peer_id: str) -> PeerSettings:
        """The settings of a peer."""

    def routes_view(self) -> list[dict[str, Any]]:
        """The static routes."""

    async def create_peer(self, wanted: PeerSettings, shown: str | None = None) -> bool:
        """Add a peer; whether it is new. `shown`: of the preview that it has to be; None: any."""

    async def put_peer(
        self, peer_id: str, fields: dict[str, Any], shown: str | None = None
    ) -> bool:
        """Add or replace a peer; whether it is new."""

    async def edit_peer(
        self, peer_id: str, fields: dict[str, Any], shown: str | None = None
    ) -> bool:
        """Change settings of a peer; whether anything changed."""

    async def reconnect(self, peer_id: str) -> None:
        """Give a peer a new link."""

    async def set_limits(
        self, peer_id: str, limits: dict[str, Any], shown: str | None = None
    ) -> bool:
        """Change limits of a peer; whether anything changed."""

    def grace_until(self, seconds: int) -> str | None:
        """The end of a time that begins now; None: there is no such time."""

    async def rotate_secret(
        self, peer_id: str, secret: SecretStr, until: str | None, shown: str | None = None
    ) -> None:
        """Give a peer another secret; the present one serves beside it until then."""

    async def delete_peer(
        self, peer_id: str, *, force: bool = False, shown: str | None = None
    ) -> LeftBehind:
        """Remove a peer once it is drained, or by force; returns packets without an answer."""

    async def add_route(self, route: RouteSettings, shown: str | None = None) -> bool:
        """Add a static route; whether it is new."""

    async def delete_route(self, route: RouteSettings, shown: str | None = None) -> bool:
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


def admin_router(admin: NodeAdmin, views: NodeShown, sender: PacketSender) -> APIRouter:
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
    async def create_peer(
        wanted: PeerSettings, preview: AsPreview = False, shown: AsShown = None
    ) -> Response:
        if preview:
            return JSONResponse(admin.preview(admin.steps.create_peer(wanted)))
        return peer_answer(wanted.id, 201 if await admin.create_peer(wanted, shown) else 200)

    @router.put(
        "/peers/{peer_id}",
        summary="Add a peer or replace its settings",
        response_model=None,
        responses=_ADDED_PEER,
    )
    async def put_peer(
        peer_id: PeerPath,
        wanted: PeerReplacement,
        preview: AsPreview = False,
        shown: AsShown = None,
    ) -> Response:
        fields = _given(peer_id, wanted)
        if preview:
            return JSONResponse(admin.preview(admin.steps.put_peer(peer_id, fields)))
        return peer_answer(peer_id, 201 if await admin.put_peer(peer_id, fields, shown) else 200)

    @router.patch(
        "/peers/{peer_id}",
        summary="Change settings of a peer; what is left out stays, null is the default",
        response_model=None,
        responses=_CHANGED_PEER,
    )
    async def edit_peer(
        peer_id: PeerPath,
        wanted: PeerReplacement,
        preview: AsPreview = False,
        shown: AsShown = None,
    ) -> Response:
        fields = _given(peer_id, wanted)
        if preview:
            return JSONResponse(admin.preview(admin.steps.edit_peer(peer_id, fields)))
        await admin.edit_peer(peer_id, fields, shown)
        return peer_answer(peer_id)

    @router.post(
        "/peers/{peer_id}/reconnect",
        summary="Close the link of a peer and dial it at once, where it has a URL",
        status_code=204,
    )
    async def reconnect(peer_id: PeerPath) -> Response:
        await admin.reconnect(peer_id)
        return Response(status_code=204)

    @router.delete(
        "/peers/{peer_id}",
        summary="Remove a peer, when no packet of or to it is under way",
        status_code=204,
        response_model=None,
        responses={
            200: {
                "model": models.RemovedPeer | models.ChangePreview,
                "description": "Some packets have no answer; or the preview",
            }
        },
    )
    async def delete_peer(
        peer_id: PeerPath,
        force: Annotated[bool, Query(description="Do not wait for packets under way")] = False,
        preview: AsPreview = False,
        shown: AsShown = None,
    ) -> Response:
        if preview:
            return JSONResponse(admin.preview(admin.steps.drain_peer(peer_id), force=force))
        left = await admin.delete_peer(peer_id, force=force, shown=shown)
        if not left.packets:
            return Response(status_code=204)
        return JSONResponse(
            {"packetsUnanswered": left.packets, "amountUnanswered": str(left.amount)}
        )

    @router.put(
        "/peers/{peer_id}/limits",
        summary="Change limits of a peer",
        response_model=None,
        responses=_CHANGED_PEER,
    )
    async def set_limits(
        peer_id: PeerPath, wanted: Limits, preview: AsPreview = False, shown: AsShown = None
    ) -> Response:
        fields = {name: getattr(wanted, name) for name in wanted.model_fields_set}
        if preview:
            return JSONResponse(admin.preview(admin.steps.set_limits(peer_id, fields)))
        await admin.set_limits(peer_id, fields, shown)
        return peer_answer(peer_id)

    @router.post(
        "/peers/{peer_id}/rotate-secret",
        summary="Give a peer another secret; the present one may serve beside it for a time",
        response_model=None,
        responses=_CHANGED_PEER,
    )
    async def rotate_secret(
        peer_id: PeerPath, wanted: NewSecret, preview: AsPreview = False, shown: AsShown = None
    ) -> Response:
        until = admin.grace_until(wanted.grace_seconds)
        if preview:
            step = admin.steps.rotate_secret(peer_id, wanted.secret, until)
            return JSONResponse(admin.preview(step))
        await admin.rotate_secret(peer_id, wanted.secret, until, shown)
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
    async def add_route(
        route: RouteSettings, preview: AsPreview = False, shown: AsShown = None
    ) -> Response:
        if preview:
            return JSONResponse(admin.preview(admin.steps.add_route(route)))
        is_new = await admin.add_route(route, shown)
        return JSONResponse(route.model_dump(by_alias=True), 201 if is_new else 200)

    @router.delete(
        "/routes",
        summary="Remove a static route",
        status_code=204,
        response_model=None,
        responses={200: {"model": models.ChangePreview, "description": "The preview"}},
    )
    async def delete_route(
        prefix: Annotated[Prefix, Query()],
        next_hop: Annotated[str, Query(alias="nextHop")],
        preview: AsPreview = False,
        shown: AsShown = None,
    ) -> Response:
        route = RouteSettings(prefix=prefix, next_hop=next_hop)
        if preview:
            return JSONResponse(admin.preview(admin.steps.delete_route(route)))
        await admin.delete_route(route, shown)
        return Response(status_code=204)

    @router.get(
        "/routes/explain",
        summary="Why packets for an address go where they go",
        response_model=None,
        responses={200: {"model": models.Explained}},
    )
    async def explain(destination: Annotated[IlpAddress, Query()]) -> dict[str, Any]:
        return views.explain_view(destination)

    @router.get(
        "/accounts",
        summary="All accounts, as GET /api/accounts",
        response_model=None,
        responses={200: {"model": models.Accounts}},
    )
    async def accounts() -> dict[str, Any]:
        return {"items": views.accounts_view(), "next": None}

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


def _given(peer_id: str, wanted: PeerReplacement) -> dict[str, Any]:
    """The fields of a peer that a request names."""
    if wanted.id not in (None, peer_id):
        raise ConfigError(["id: is another one than in the path"])
    return {name: getattr(wanted, name) for name in wanted.model_fields_set if name != "id"}


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
