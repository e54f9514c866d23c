"""Asks the admin API of a daemon."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.support.daemons import Daemon
from tests.support.patience import PATIENCE_SECONDS

KEY = "key-of-the-admin"


class Operator:
    """Has the key of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEY
    ) -> httpx.Response:
        """The answer to one request."""
        async with self.client(key=key) as client:
            return await client.request(method, path, json=body)

    def client(self, *, key: str | None = KEY) -> httpx.AsyncClient:
        """For requests of any kind."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        base = f"http://127.0.0.1:{self.daemon.connector.http_port}"
        return httpx.AsyncClient(base_url=base, trust_env=False, verify=False, headers=headers)

    async def get(self, path: str) -> Any:
        """What a path shows."""
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def account(self, peer_id: str) -> dict[str, Any] | None:
        """An account, as long as it is shown."""
        items = (await self.get("/admin/accounts"))["items"]
        return next((item for item in items if item["peerId"] == peer_id), None)

    async def events(self, kind: str, *, count: int = 1) -> list[dict[str, Any]]:
        """Stored events of a type, newest first, when there are so many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                items = (await self.get(f"/api/events?type={kind}"))["items"]
                if len(items) >= count:
                    return list(items)
                await asyncio.sleep(0.05)
