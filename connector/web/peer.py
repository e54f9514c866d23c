"""`/api/peers/{id}`: the terms of one peer, for those who only read.

Only the fields of `models.PeerTerms` are shown, so nothing that is added to the settings gets out by
itself. Of URLs scheme, host and port are: the rest may hold a token.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Protocol
from urllib.parse import urlsplit

from fastapi import APIRouter, Path

from connector.settings.model import PeerSettings
from connector.web import models

_URLS: Final = ("url", "httpUrl", "settlementEngineUrl")
_SHOWN: Final = tuple(str(field.alias) for field in models.PeerTerms.model_fields.values())


class PeerSource(Protocol):
    """The settings in effect."""

    def peer(self, peer_id: str) -> PeerSettings:
        """Those of a peer.

        Raises:
            UnknownNameError: there is no such peer.
        """

    def peer_view(self, peer: PeerSettings) -> dict[str, Any]:
        """Those of a peer in JSON, without its secrets."""


def peer_router(source: PeerSource) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/api", tags=["read"])

    @router.get(
        "/peers/{peer_id}",
        summary="The terms of one peer, without its secrets",
        response_model=None,
        responses={200: {"model": models.PeerTerms}},
    )
    async def terms(peer_id: Annotated[str, Path(max_length=64)]) -> dict[str, Any]:
        view = source.peer_view(source.peer(peer_id))
        shown = {name: view[name] for name in _SHOWN}
        return shown | {name: _host_of(view[name]) for name in _URLS}

    return router


def _host_of(url: Any) -> str | None:
    """Scheme, host and port of a URL; what has none (`manual`) stays as it is."""
    if url is None:
        return None
    parts = urlsplit(str(url))
    if not parts.hostname:
        return str(url) if "/" not in str(url) and "@" not in str(url) else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
