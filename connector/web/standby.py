"""What a standby answers over HTTP: that it lives, and that it is not ready.

Without a framework: it has to be there in milliseconds, and gives way to the node's own surface.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from connector.version import __version__
from connector.web.guard import HEADERS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def standby_app(node_id: str, reason: Callable[[], str]) -> Callable[..., Awaitable[None]]:
    """The application: `/health`, `/health/live`, `/health/ready`; 503 for everything else.

    `reason`: what it waits for.
    """

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        why = f"standby: {reason()}"
        status, body = 503, {"error": why}
        if scope["path"] == "/health/live":
            status, body = 200, {"status": "alive"}
        elif scope["path"] == "/health/ready":
            body = {"status": "not ready", "reason": why}
        elif scope["path"] == "/health":
            body = {
                "status": "unhealthy",
                "reason": why,
                "nodeId": node_id,
                "version": __version__,
            }
        octets = json.dumps(body).encode()
        headers = {
            **HEADERS,
            "content-type": "application/json",
            "content-length": str(len(octets)),
            "connection": "close",
        }
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (name.lower().encode(), value.encode()) for name, value in headers.items()
                ],
            }
        )
        await send({"type": "http.response.body", "body": octets})

    return app
