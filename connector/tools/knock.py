"""What listens where a BTP listener was expected, when one cannot be connected to."""

from __future__ import annotations

from connector.base.errors import HttpAnswerError, HttpError
from connector.base.http import HttpAnswer, HttpClient
from connector.tools import bounds


async def what_is_there(url: str) -> str:
    """What to pass instead of `url`, ws:// or wss://, in words; empty: that cannot be told.

    Asked without user name and token: they are not for whoever listens there.
    """
    scheme, _, rest = url.removeprefix("btp+").partition("://")
    is_secure = scheme == "wss"
    where = rest.split("/", 1)[0]
    live = await _asked(f"{'https' if is_secure else 'http'}://{where}/health/live")
    if live is not None and _is_alive(live):
        return (
            f"{url} is the HTTP port of a node, HTTP_PORT. Its BTP port is BTP_SERVER_PORT, 3000 unless "
            "it is set"
        )
    if live is None and await _asked(f"{'http' if is_secure else 'https'}://{where}/") is not None:
        other = f"{'ws' if is_secure else 'wss'}://{rest}"
        speaks = "no TLS" if is_secure else "TLS only"
        return f"{url} does not answer, since it speaks {speaks}: pass --url {other}"
    return ""


async def _asked(url: str) -> HttpAnswer | None:
    try:
        async with HttpClient(
            seconds_max=bounds.NODE_KNOCK_SECONDS_MAX,
            answer_bytes_max=bounds.NODE_ANSWER_BYTES_MAX,
            connections_max=1,
            verify=False,
        ) as client:
            return await client.ask("GET", url)
    except HttpError:
        return None


def _is_alive(answer: HttpAnswer) -> bool:
    try:
        return bool(answer.json() == {"status": "alive"})
    except HttpAnswerError:
        return False
