"""The live feed of a node for a command: events one by one, across lost connections and restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from connector.base.errors import EnvironmentFault, KeyRefusedError
from connector.base.words import words_of
from connector.tools import bounds
from connector.tools.client import key_hint

AGAIN_SECONDS: Final = 1.0
"""Wait before reconnecting, in seconds."""


def follow(url: str, key: str | None, wait: Callable[[float], None]) -> Iterator[dict[str, Any]]:
    """Events as they arrive, starting with the last packets. Never ends by itself.

    Args:
        url: the base URL of the node.
        key: ADMIN_API_KEY, if it requires one.
        wait: sleeps for a number of seconds.

    Raises:
        EnvironmentFault: it does not answer at first, or is not a connector.
        KeyRefusedError: it requires a key, or another one.
    """
    since: int | None = None
    while True:
        try:
            with _connect(url, key, since) as link:
                for text in link:
                    since, events = _read(url, text)
                    yield from events
        except (OSError, ConnectionClosed, TimeoutError) as error:
            if since is None:
                raise EnvironmentFault(
                    f"{url} does not answer: {words_of(error)}; is the node running?"
                ) from error
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise KeyRefusedError(f"{url} {key_hint(is_given=bool(key))}") from error
            if since is None:
                raise EnvironmentFault(
                    f"{url}/ws answered HTTP {status}: not a connector?"
                ) from error
        except InvalidURI as error:
            raise EnvironmentFault(
                f"{url} is not an address such as http://127.0.0.1:8080"
            ) from error
        wait(AGAIN_SECONDS)


def _read(url: str, text: str | bytes) -> tuple[int, list[dict[str, Any]]]:
    """The number of a message, and the events in it."""
    try:
        message = json.loads(text)
        # After a gap the snapshot repeats earlier events.
        first = [] if message.get("gap") else message.get("packets", [])
        events = [*first, *message.get("events", [])]
        if not all(isinstance(event, dict) and "type" in event for event in events):
            raise ValueError("not events")
        return int(message["seq"]), events
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise EnvironmentFault(f"{url}/ws sends no events: not a connector?") from None


def _connect(url: str, key: str | None, since: int | None) -> ClientConnection:
    scheme, _, rest = url.rstrip("/").partition("://")
    where = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws"
    return connect(
        where if since is None else f"{where}?since={since}",
        additional_headers={"Authorization": f"Bearer {key}"} if key else None,
        proxy=None,
        max_size=bounds.FEED_MESSAGE_BYTES_MAX,
        open_timeout=5,
    )
