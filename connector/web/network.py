"""The network as several nodes tell it: this one, and those that `EXPLORER_NODES` names.

The page may only ask its own node (CSP), so the node asks the others: their status and accounts,
with a deadline and a bound, once a second at most however many look on. What they say is shown as
theirs; nothing here trusts it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

import httpx
from fastapi import APIRouter

from connector.base.clock import Clock
from connector.web import bounds

_ACCOUNT_FIELDS: Final = (
    "peerId", "assetCode", "assetScale", "debitBalance", "creditBalance", "netBalance",
    "pendingDebits", "pendingCredits", "creditLimit", "availableCredit", "settlementThreshold",
    "settlementState",
)  # fmt: skip


class OwnView(Protocol):
    """What is asked of this node itself."""

    def status(self) -> dict[str, Any]:
        """The node at a glance."""

    def accounts_view(self) -> list[dict[str, Any]]:
        """One item a peer account."""


class Neighbourhood:
    """Asks the other nodes."""

    def __init__(
        self,
        *,
        own: OwnView,
        urls: Sequence[str],
        key: str | None,
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Build it; nothing is asked yet.

        Args:
            own: this node.
            urls: where the pages of the others are; this node may be among them.
            key: their admin key, where they want one.
            clock: for how old an answer is.
            transport: instead of the network, for tests.
        """
        self._own = own
        self._urls = [url.rstrip("/") for url in dict.fromkeys(urls)]
        self._key = key
        self._clock = clock
        self._transport = transport
        self._answer: list[dict[str, Any]] = []
        self._asked_s: float | None = None
        self._asking = asyncio.Lock()

    @property
    def configured(self) -> bool:
        """Whether there is anyone to ask."""
        return bool(self._urls)

    async def nodes(self) -> list[dict[str, Any]]:
        """This node first, then the others as they are configured."""
        # Whoever comes while others are being asked gets their answer.
        async with self._asking:
            now_s = self._clock.monotonic_s()
            if self._asked_s is None or now_s - self._asked_s >= bounds.NETWORK_ANSWER_SECONDS:
                self._answer = await self._ask_all()
                self._asked_s = self._clock.monotonic_s()
        own = _node("", self._own.status(), self._own.accounts_view())
        return [own, *(one for one in self._answer if one["nodeId"] != own["nodeId"])]

    async def _ask_all(self) -> list[dict[str, Any]]:
        headers = {"accept": "application/json"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        async with httpx.AsyncClient(
            timeout=bounds.NETWORK_SECONDS_MAX,
            headers=headers,
            transport=self._transport,
            trust_env=False,
            # A key is for the node that was named, not for where that one points.
            follow_redirects=False,
        ) as client:
            places = asyncio.Semaphore(bounds.NETWORK_REQUESTS_AT_ONCE_MAX)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_ask(client, places, url)) for url in self._urls]
        return [task.result() for task in tasks]


async def _ask(client: httpx.AsyncClient, places: asyncio.Semaphore, url: str) -> dict[str, Any]:
    try:
        async with places, asyncio.timeout(bounds.NETWORK_SECONDS_MAX):
            status = await _get(client, f"{url}/api/status")
            accounts = await _get(client, f"{url}/api/accounts")
        if not isinstance(status.get("nodeId"), str) or not isinstance(accounts["items"], list):
            return _silent(url, "its answer is not that of a connector")
        return _node(url, status, accounts["items"])
    except TimeoutError:
        return _silent(url, f"no answer within {bounds.NETWORK_SECONDS_MAX:g} s")
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        hint = " (EXPLORER_NODES_KEY is missing or wrong)" if code == 401 else ""
        return _silent(url, f"it answered {code}{hint}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _silent(url, f"cannot be reached: {str(error) or type(error).__name__}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _silent(url, "its answer is not that of a connector")


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url) as response:
        if response.status_code != 200:
            raise httpx.HTTPStatusError("", request=response.request, response=response)
        octets = bytearray()
        async for part in response.aiter_bytes():
            octets += part
            if len(octets) > bounds.NETWORK_ANSWER_BYTES_MAX:
                raise ValueError("too long")
    found: dict[str, Any] = json.loads(octets)
    return found


def _node(url: str, status: dict[str, Any], accounts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "url": url,
        "error": "",
        "nodeId": status["nodeId"],
        "ilpAddress": str(status.get("ilpAddress", "")),
        "status": str(status.get("status", "")),
        "accountingState": str(status.get("accounting", {}).get("state", "")),
        "accounts": [{name: item[name] for name in _ACCOUNT_FIELDS} for item in accounts],
    }


def _silent(url: str, reason: str) -> dict[str, Any]:
    return {
        "url": url,
        "error": reason,
        "nodeId": None,
        "ilpAddress": None,
        "status": None,
        "accountingState": None,
        "accounts": [],
    }


def network_router(neighbourhood: Neighbourhood) -> APIRouter:
    """`/api/network`."""
    router = APIRouter(tags=["read"])

    @router.get("/api/network")
    async def network() -> dict[str, Any]:
        """This node and those of EXPLORER_NODES: status and accounts of each, or why not."""
        if not neighbourhood.configured:
            return {"configured": False, "nodes": []}
        return {"configured": True, "nodes": await neighbourhood.nodes()}

    return router
