"""A payment is found under any key that it can be begun with."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from connector.web.payments import PaymentMaker, payments_router


class Maker:
    """Begins payments, and finds them."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    async def start_payment(self, *_: Any, key: str, **_more: Any) -> dict[str, Any]:
        self.begun.append(key)
        return {"state": "running"}

    async def payment(self, key: str) -> dict[str, Any]:
        return {"key": key, "known": key in self.begun}

    async def cancel_payment(self, key: str) -> dict[str, Any]:
        return {"key": key, "known": key in self.begun, "state": "failed"}


@pytest.mark.parametrize("key", ["one", "2026/11", "a/b/c", "50 %", "a?b#c", "\u00e4", "/"])
async def test_a_payment_is_found_under_its_key(key: str) -> None:
    """Begun and not found, it would be paid while its caller thinks that it was not."""
    app = FastAPI()
    app.include_router(payments_router(cast(PaymentMaker, Maker())))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        order = {"target": "$host", "amount": "5", "key": key}
        assert (await client.post("/admin/payments", json=order)).status_code == 202
        found = await client.get(f"/admin/payments/{quote(key, safe='')}")
        assert found.json() == {"key": key, "known": True}
        cancelled = await client.delete(f"/admin/payments/{quote(key, safe='')}")
        assert cancelled.json() == {"key": key, "known": True, "state": "failed"}
