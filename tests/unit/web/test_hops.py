"""One packet over all nodes: other nodes may answer what they like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector.peering.model import Asset
from connector.telemetry.bus import EventBus
from connector.telemetry.events import PacketReceived
from connector.web import bounds
from connector.web.hops import Hops
from connector.web.models import HopsEverywhere
from connector.web.network import Neighbourhood
from tests.support.ledgers import ManualClock
from tests.support.outside_http import FakeNetwork
from tests.unit.telemetry.test_store import StoreSetup

CONDITION = "ab" * 32
HOP: dict[str, Any] = {
    "packetId": "01" * 16, "status": "fulfilled", "peerId": "a", "nextHop": None, "destination": "g.b",
    "amount": "5", "amountOut": None, "fee": None, "assetIn": {"code": "USD", "scale": 9},
    "assetOut": None, "expiresAt": None, "receivedAt": "2026-01-01T00:00:00.000Z",
    "durationMs": 1.5, "reservedMs": 0.5, "forwardedMs": None, "answeredMs": None,
    "postedMs": 1.4, "code": None, "message": None, "triggeredBy": None, "ways": [],
}  # fmt: skip


def here(clock: ManualClock, **change: Any) -> dict[str, Any]:
    from connector.telemetry.events import iso

    return {
        "nodeId": "b", "ilpAddress": "g.b", "now": iso(clock.now_ms() + 2500), "items": [HOP],
        "more": False, **change,
    }  # fmt: skip


class Own:
    """This node."""

    def status(self) -> dict[str, Any]:
        return {"nodeId": "a", "ilpAddress": "g.a"}

    def accounts_view(self) -> list[dict[str, Any]]:
        return []

    def peers_view(self) -> list[dict[str, Any]]:
        return []


class Setup:
    """This node with one packet, and others behind `handler`."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = ManualClock()
        self.answer: Any = None
        self.asked: list[str] = []
        self.store = StoreSetup(tmp_path / "events.sqlite", self.clock)
        others = Neighbourhood(
            own=Own(), urls=["http://b"], key="shared", clock=self.clock,
            transport=FakeNetwork(self._handle),
        )  # fmt: skip
        self.hops = Hops(
            own=Own(), bus=EventBus(node_id="a", clock=self.clock), store=self.store.store,
            asset_of=lambda peer_id: Asset("USD", 9) if peer_id == "alice" else None,
            others=others, clock=self.clock,
        )  # fmt: skip

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        assert request.headers["authorization"] == "Bearer shared"
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, int):
            return httpx.Response(self.answer, json={"error": "no"})
        return httpx.Response(200, content=json.dumps(self.answer).encode())

    async def open(self) -> None:
        await self.store.store.open()
        await self.store.tell(
            PacketReceived(
                packet_id=7 << 8, peer_id="alice", destination="g.b", amount=5, expires_at=0,
                execution_condition=bytes.fromhex(CONDITION),
            )
        )  # fmt: skip

    async def found(self, at_ms: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        answer = await self.hops.everywhere(CONDITION, at_ms)
        HopsEverywhere.model_validate(answer, strict=True)
        own, other = answer["nodes"]
        return own, other


async def test_the_others_are_asked_with_their_key_and_their_clock_is_compared(
    tmp_path: Path,
) -> None:
    setup = Setup(tmp_path)
    await setup.open()
    setup.answer = here(setup.clock)
    own, other = await setup.found(at_ms=1234)
    assert setup.asked == [f"http://b/api/v1/conditions/{CONDITION}?at=1234"]
    assert own["items"][0]["assetIn"] == {"code": "USD", "scale": 9}
    assert own["items"][0]["status"] == "pending"
    assert (other["nodeId"], other["items"]) == ("b", [HOP])
    assert (other["clockOffsetMs"], other["clockErrorMs"]) == (2500.0, 1.0)
    await setup.store.store.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.ConnectError("refused"), "cannot be reached: refused"),
        (404, "of a version that cannot be asked"),
        (401, "it answered 401 (its key in"),
        (500, "it answered 500"),
        ([], "not that of a connector"),
        ({"items": []}, "not that of a connector"),
    ],
)
async def test_a_node_that_does_not_tell_says_why_with_its_last_name(
    tmp_path: Path, answer: Any, why: str
) -> None:
    setup = Setup(tmp_path)
    await setup.open()
    setup.answer = here(setup.clock)
    await setup.found()
    setup.answer = answer
    _, other = await setup.found()
    assert why in other["error"]
    assert (other["nodeId"], other["ilpAddress"]) == ("b", "g.b")
    assert (other["items"], other["clockOffsetMs"]) == ([], None)
    await setup.store.store.close()


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "1e9"}, {"amount": 5}, {"amount": "9" * 41}, {"status": "paid"}, {"packetId": "x" * 32},
        {"durationMs": -1.0}, {"durationMs": 1e11}, {"message": "x" * 10_000}, {"receivedAt": "now"},
        {"receivedAt": "2026-01-01T00:00:00.000Z<script>"}, {"destination": "g." + "x" * 2000},
        {"assetIn": {"code": "USD", "scale": 4000}}, {"ways": ["x"] * 101}, {"nextHop": "x" * 101},
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_not_shown(tmp_path: Path, change: dict[str, Any]) -> None:
    setup = Setup(tmp_path)
    await setup.open()
    setup.answer = here(setup.clock, items=[{**HOP, **change}])
    _, other = await setup.found()
    assert other["error"] == "its answer is not that of a connector"
    setup.answer = here(setup.clock, items=[HOP] * (bounds.HOPS_SHOWN_MAX + 1))
    _, other = await setup.found()
    assert other["items"] == []
    await setup.store.store.close()


async def test_a_time_that_is_no_time_is_its_fault(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    await setup.open()
    setup.answer = here(setup.clock, now="2026-19-39T29:59:59.000Z")
    _, other = await setup.found()
    assert other["error"] == "its answer is not that of a connector"
    await setup.store.store.close()
