"""The live feed of a node for a command: events one by one, over lost connections and restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from connector.base import limits
from connector.base.errors import EnvironmentFault

AGAIN_SECONDS = 1.0
MESSAGE_BYTES_MAX = 2 * limits.VIEWER_BYTES_MAX


def follow(url: str, key: str | None, wait: Callable[[float], None]) -> Iterator[dict[str, Any]]:
    """Events as they come, beginning with the last packets. Never ends by itself.

    Args:
        url: where the node serves HTTP.
        key: ADMIN_API_KEY, where it asks for one.
        wait: sleeps so many seconds.

    Raises:
        EnvironmentFault: it does not answer the first time, or does not let us in.
    """
    since: int | None = None
    while True:
        try:
            with _connect(url, key, since) as link:
                for text in link:
                    message = json.loads(text)
                    since = message["seq"]
                    # After a gap the snapshot has again what was told before.
                    first = message.get("packets", []) if not message.get("gap") else []
                    yield from (*first, *message.get("events", []))
        except (OSError, ConnectionClosed, TimeoutError) as error:
            if since is None:
                raise EnvironmentFault(
                    f"{url} does not answer: {error}; is the node running?"
                ) from error
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise EnvironmentFault(f"{url} asks for a key: pass --key ADMIN_API_KEY") from error
            if since is None:
                raise EnvironmentFault(
                    f"{url}/ws answered HTTP {status}: not a connector?"
                ) from error
        except InvalidURI as error:
            raise EnvironmentFault(
                f"{url} is not an address such as http://127.0.0.1:8080"
            ) from error
        wait(AGAIN_SECONDS)


def _connect(url: str, key: str | None, since: int | None) -> ClientConnection:
    scheme, _, rest = url.rstrip("/").partition("://")
    where = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws"
    return connect(
        where if since is None else f"{where}?since={since}",
        additional_headers={"Authorization": f"Bearer {key}"} if key else None,
        proxy=None,
        max_size=MESSAGE_BYTES_MAX,
        open_timeout=5,
    )
