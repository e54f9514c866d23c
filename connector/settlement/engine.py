"""The payer of settlements: the interface, and its two implementations.

`ManualEngine` is an operator, who pays by other means and then confirms it. `HttpEngine`
is a settlement engine of RFC 38: accounts, settlements and messages over HTTP. Requests to both may
be repeated under the same key any number of times.
"""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any, Final, Protocol
from urllib.parse import quote

from connector.base import limits
from connector.base.errors import EngineError, HttpError, HttpUnreachableError
from connector.base.http import HttpAnswer, HttpClient
from connector.settlement import bounds
from connector.settlement.model import Quantity


class Answer(Enum):
    """The answer of an engine to a payment request."""

    TAKEN = auto()
    """The engine has stored the request and will execute it (RFC 38): counts as paid."""
    WAITING = auto()
    """An operator has to confirm the payment."""


Reply = HttpAnswer
"""The HTTP answer of an engine; `ok`: it was accepted. To a message: that of the peer's engine."""


class SettlementEngine(Protocol):
    """Pays a peer, outside the ledger."""

    @property
    def kind(self) -> str:
        """For logs and views: `manual` or `http`."""

    async def settle(self, peer_id: str, key: str, quantity: Quantity) -> Answer:
        """Pay, once for each key.

        Raises:
            EngineError: it is not known whether it was accepted: retry under the same key.
        """

    async def message(self, peer_id: str, octets: bytes) -> Reply:
        """Pass a message of the peer's engine to it; returns its answer.

        Raises:
            EngineError: it does not answer.
        """

    async def add_account(self, peer_id: str) -> None:
        """Create the account of a peer; idempotent.

        Raises:
            EngineError: it does not answer, or refuses.
        """

    async def remove_account(self, peer_id: str) -> None:
        """Delete the account of a peer; idempotent.

        Raises:
            EngineError: it does not answer, or refuses.
        """


class ManualEngine:
    """An operator, who sees what is to be paid and confirms the payment (`settle --confirm`)."""

    kind: Final = "manual"

    async def settle(self, peer_id: str, key: str, quantity: Quantity) -> Answer:
        """See `SettlementEngine`."""
        return Answer.WAITING

    async def message(self, peer_id: str, octets: bytes) -> Reply:
        """Raises: there is no engine for messages."""
        raise EngineError("peers settle by hand here: there is no settlement engine")

    async def add_account(self, peer_id: str) -> None:
        """An operator knows."""

    async def remove_account(self, peer_id: str) -> None:
        """An operator knows."""


class HttpEngine:
    """A settlement engine of RFC 38 over HTTP."""

    kind: Final = "http"

    def __init__(self, url: str, *, client: HttpClient, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._known: set[str] = set()

    async def settle(self, peer_id: str, key: str, quantity: Quantity) -> Answer:
        """See `SettlementEngine`."""
        if peer_id not in self._known:
            await self.add_account(peer_id)
        body = {"amount": str(quantity.amount), "scale": quantity.scale}
        reply = await self._ask(
            "POST",
            f"/accounts/{_segment(peer_id)}/settlements",
            content=json.dumps(body).encode(),
            kind="application/json",
            headers={"Idempotency-Key": key},
        )
        if not reply.ok:
            if reply.status == 404:
                self._known.discard(
                    peer_id
                )  # it has lost the account, which is created again next time
            raise EngineError(f"HTTP {reply.status} to a settlement")
        return Answer.TAKEN

    async def message(self, peer_id: str, octets: bytes) -> Reply:
        """See `SettlementEngine`."""
        return await self._ask(
            "POST",
            f"/accounts/{_segment(peer_id)}/messages",
            content=octets,
            kind="application/octet-stream",
        )

    async def add_account(self, peer_id: str) -> None:
        """See `SettlementEngine`."""
        reply = await self._ask(
            "POST",
            "/accounts",
            content=json.dumps({"id": peer_id}).encode(),
            kind="application/json",
        )
        # RFC 38 does not define the answer for an existing account; 409 counts as success.
        if not reply.ok and reply.status != 409:
            raise EngineError(f"HTTP {reply.status} to a new account")
        self._known.add(peer_id)

    async def remove_account(self, peer_id: str) -> None:
        """See `SettlementEngine`."""
        reply = await self._ask("DELETE", f"/accounts/{_segment(peer_id)}")
        self._known.discard(peer_id)
        if not reply.ok and reply.status != 404:
            raise EngineError(f"HTTP {reply.status} to the end of an account")

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        kind: str = "",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        all_headers = {**self._headers, "Accept": kind or "*/*", **(headers or {})}
        if kind:
            all_headers["Content-Type"] = kind
        try:
            return await self._client.ask(
                method, self._url + path, content=content, headers=all_headers
            )
        except HttpUnreachableError as error:
            raise EngineError(_clean(error)) from error
        except HttpError as error:
            raise EngineError(str(error)) from error


def make_client(**options: Any) -> HttpClient:
    """The HTTP client that all engines of a node share."""
    return HttpClient(
        seconds_max=bounds.SETTLEMENT_ENGINE_SECONDS_MAX,
        answer_bytes_max=limits.PACKET_DATA_BYTES_MAX,
        connections_max=bounds.SETTLEMENT_ATTEMPTS_AT_A_TIME_MAX,
        **options,
    )


def _segment(peer_id: str) -> str:
    return quote(peer_id, safe="")


def _clean(error: HttpUnreachableError) -> str:
    """The text in one line."""
    return " ".join(f"{error.kind}: {error.detail}".split())[:200]
