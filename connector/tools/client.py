"""Client of a node's HTTP API, for commands; blocks until the answer is complete."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit

from connector.base.errors import (
    ConnectorError,
    EnvironmentFault,
    HttpAnswerError,
    HttpError,
    HttpTimeoutError,
    HttpUnreachableError,
    KeyRefusedError,
    OperatorError,
    UnknownNameError,
)
from connector.base.http import HttpAnswer, HttpClient, Transport
from connector.tools import bounds

_UPGRADE_REQUIRED: Final = 426


class NodeClient:
    """Queries one node. Every fault has a message for the operator."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        verify: bool = True,
        transport: Transport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: the base URL of the node, such as http://127.0.0.1:8080.
            key: ADMIN_API_KEY, if the node requires it.
            verify: whether the node's certificate is checked.
            transport: replaces the network in tests.

        Raises:
            OperatorError: the URL is none.
        """
        check_url(url)
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._verify = verify
        self._transport = transport

    def get(self, path: str) -> dict[str, Any]:
        """The JSON answer of the node for `path`.

        Raises:
            EnvironmentFault: it does not answer, or is not a connector.
            KeyRefusedError: it requires a key, or another one.
            OperatorError: it refuses what was asked.
        """
        try:
            answer = self._ask("GET", path, bounds.NODE_SECONDS_MAX)
        except HttpError as error:
            raise self._silent(error, "; is the node running?") from None
        if answer.status == 401:
            raise KeyRefusedError(f"{self._url} {key_hint(is_given=bool(self._headers))}")
        body = _object(answer)
        if body is None:
            raise self._no_connector(path, answer)
        if path.startswith("/health"):
            return body  # 503 if it is not ready; the body says why
        if 400 <= answer.status < 500 and answer.status != 404 and "error" in body:
            raise _refusal(answer.status, f"{self._url} refuses: {body['error']}")
        # Every answer that commands read has one of these; another server's JSON has not.
        if answer.status != 200 or not body.keys() & {"items", "nodeId"}:
            raise self._no_connector(path, answer)
        return body

    def admin(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Call the admin API; an answer without a body is `{}`. With an idempotency key the request is repeated once if its answer is lost.

        Raises:
            EnvironmentFault: it does not answer, or cannot do it now; with its reason.
            KeyRefusedError: it requires a key, or another one.
            UnknownNameError: it has no such peer or settlement.
            OperatorError: what was asked is not valid; with every fault.
        """
        headers = {}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        content = b""
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        attempts = 2 if idempotency_key is not None else 1
        for attempt in range(1, attempts + 1):
            try:
                answer = self._ask(
                    method, path, bounds.NODE_ADMIN_SECONDS_MAX, content=content, headers=headers
                )
                break
            except HttpError as error:
                if attempt == attempts:
                    again = (
                        "; if it may have been done, repeat it with --idempotency-key "
                        f"{idempotency_key}"
                        if idempotency_key is not None
                        else ""
                    )
                    refused = isinstance(error, HttpUnreachableError) and not again
                    hint = "; is the node running?" if refused else again
                    raise self._silent(error, hint) from None
        if answer.status == 204:
            return {}
        said = _object(answer)
        if said is None:
            raise self._no_connector(path, answer)
        if answer.status >= 400:
            if answer.status == 401:
                raise KeyRefusedError(f"{self._url} {key_hint(is_given=bool(self._headers))}")
            if not isinstance(said.get("error"), str):
                raise self._no_connector(path, answer)
            if answer.status == 404:
                raise UnknownNameError(said["error"])
            raise _refusal(answer.status, said["error"], said.get("code"))
        return said

    def _ask(
        self,
        method: str,
        path: str,
        seconds_max: float,
        *,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> HttpAnswer:
        return self._request(
            method,
            self._url.rstrip("/") + path,
            seconds_max,
            content=content,
            headers={**self._headers, **(headers or {})},
            verify=self._verify,
        )

    def _request(
        self,
        method: str,
        url: str,
        seconds_max: float,
        *,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        verify: bool,
    ) -> HttpAnswer:
        async def ask() -> HttpAnswer:
            async with HttpClient(
                seconds_max=seconds_max,
                answer_bytes_max=bounds.NODE_ANSWER_BYTES_MAX,
                connections_max=1,
                verify=verify,
                transport=self._transport,
            ) as client:
                return await client.ask(method, url, content=content, headers=headers)

        return asyncio.run(ask())

    def _silent(self, error: HttpError, hint: str) -> EnvironmentFault:
        if isinstance(error, HttpTimeoutError):
            return EnvironmentFault(f"{self._url} does not answer: timed out{hint}")
        other = self._other_scheme()
        if other is not None:
            return EnvironmentFault(
                f"{self._url} does not answer, {other} does: pass --url {other}"
            )
        return EnvironmentFault(f"{self._url} does not answer: {error}{hint}")

    def _other_scheme(self) -> str | None:
        """The URL with https for http or the reverse, if something answers there.

        Asked without the key: it is not for whoever listens there.
        """
        scheme, _, rest = self._url.partition("://")
        other = f"{'http' if scheme.lower() == 'https' else 'https'}://{rest}"
        try:
            path = other.rstrip("/") + "/health/live"
            self._request("GET", path, bounds.NODE_KNOCK_SECONDS_MAX, verify=False)
        except HttpError:
            return None
        return other

    def _no_connector(self, path: str, answer: HttpAnswer) -> EnvironmentFault:
        if answer.status == _UPGRADE_REQUIRED:
            return EnvironmentFault(
                f"{self._url} speaks WebSocket only: that is a node's BTP port, BTP_SERVER_PORT. "
                "Its HTTP port is HTTP_PORT, 8080 unless it is set"
            )
        hint = ""
        if urlsplit(self._url).path.strip("/"):
            hint = " --url has a path: right only where a proxy adds it"
        return EnvironmentFault(
            f"{self._url}{path} answered HTTP {answer.status}: not a connector?{hint}"
        )


def _refusal(status: int, message: str, code: object = None) -> ConnectorError:
    """What a node refuses: whether the same request may be taken the next time."""
    if code == "key_reused":
        return OperatorError(message)
    if status == 403:
        return KeyRefusedError(message)
    return OperatorError(message) if status in (400, 422) else EnvironmentFault(message)


def key_hint(*, is_given: bool) -> str:
    """What a node does that answers 401, and what to do."""
    does = "refuses this key" if is_given else "asks for a key"
    return f"{does}: pass --key with the node's ADMIN_API_KEY"


def check_url(url: str) -> None:
    """Refuse what is no base URL of a node.

    Raises:
        OperatorError: it is none.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise OperatorError(f"{url} is not the URL of a node, such as http://127.0.0.1:8080")


def _object(answer: HttpAnswer) -> dict[str, Any] | None:
    """The answer as a JSON object; None: it is not one."""
    try:
        body = answer.json()
    except HttpAnswerError:
        return None
    return body if isinstance(body, dict) else None
