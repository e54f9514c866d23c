"""What payers are told (SPSP, RFC 9): one small application, on a listener of its own.

    GET /pay/<name>            an address and a fresh shared secret for a payment to a wallet
    GET /.well-known/pay       the same for the first wallet

It is public: no key, no cookie, nothing of the node but this. Every answer may be read by pages of
any site (CORS), and none may be kept by a cache, since its secret is for one payment.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

CONTENT_TYPE: Final = "application/spsp4+json"
WELL_KNOWN: Final = "/.well-known/pay"
PATH: Final = "/pay/"
_TAKEN: Final = frozenset(
    ("", "*/*", "application/*", "application/json", "application/spsp+json", CONTENT_TYPE)
)
_METHODS: Final = "GET, HEAD, OPTIONS"
_ACCEPT_BYTES_MAX: Final = 1024
"""Of an Accept header, as much as is read."""

Invite = Callable[[str], tuple[str, bytes] | None]
"""Gives the address and the shared secret for a payment to a wallet; None: not now."""

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class PayApp:
    """The ASGI application."""

    def __init__(self, wallets: Sequence[str], invite: Invite) -> None:
        """`wallets`: who can be paid, at least one; the first is also at `/.well-known/pay`."""
        self._first = wallets[0]
        self._wallets = frozenset(wallets)
        self._invite = invite

    async def __call__(self, scope: dict[str, Any], _receive: _Receive, send: _Send) -> None:
        """Answer one request; its body, if there is one, is not read."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        status, headers, body = self.answer(
            scope["method"], scope.get("path", ""), _accepted(scope.get("headers", ()))
        )
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        fields = {
            "access-control-allow-origin": "*",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "content-length": str(len(content)),
            **headers,
        }
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            }
        )
        await send(
            {
                "type": "http.response.body",
                "body": b"" if scope["method"] == "HEAD" else content,
            }
        )

    def answer(
        self, method: str, path: str, accepted: Sequence[str]
    ) -> tuple[int, Mapping[str, str], dict[str, Any] | None]:
        """Status, headers and JSON body for a request.

        Args:
            method: of HTTP, in upper case.
            path: decoded.
            accepted: the media types of the Accept header, in lower case; empty: there was none.
        """
        json_type = {"content-type": CONTENT_TYPE}
        if method == "OPTIONS":
            return (
                204,
                {
                    "allow": _METHODS,
                    "access-control-allow-methods": _METHODS,
                    "access-control-allow-headers": "*",
                    "access-control-max-age": "86400",
                },
                None,
            )
        if method not in ("GET", "HEAD"):
            return (
                405,
                {"allow": _METHODS, **json_type},
                _fault("MethodNotAllowedError", "GET only"),
            )
        name = self._first if path == WELL_KNOWN else path.removeprefix(PATH).lower()
        if (path != WELL_KNOWN and not path.startswith(PATH)) or name not in self._wallets:
            return 404, json_type, _fault("InvalidReceiverError", "Invalid receiver ID")
        if accepted and _TAKEN.isdisjoint(accepted):
            return 406, json_type, _fault("NotAcceptableError", f"only {CONTENT_TYPE} is given")
        invitation = self._invite(name)
        if invitation is None:
            return (
                503,
                {"retry-after": "5", **json_type},
                _fault("NotReadyError", "no address yet"),
            )
        address, secret = invitation
        return (
            200,
            json_type,
            {
                "destination_account": address,
                "shared_secret": base64.b64encode(secret).decode("ascii"),
                "receipts_enabled": False,
            },
        )


def _fault(id_: str, message: str) -> dict[str, Any]:
    return {"id": id_, "message": message}


def _accepted(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """The media types of the Accept header, without their parameters."""
    return [
        part.partition(";")[0].strip().lower()
        for name, value in headers
        if name == b"accept"
        for part in value[:_ACCEPT_BYTES_MAX].decode("latin-1").split(",")
    ]


def pay_url(configured: str | None, host: str, port: int) -> str:
    """The URL that payment pointers of this node resolve to, without a path."""
    if configured is not None:
        return configured.rstrip("/")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
