"""Live rates on running nodes: a source over HTTP, packets between three currencies, every fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from connector import Fulfill, Reject
from connector.web.rates import RatesView
from tests.support.admin import Operator
from tests.support.daemons import RunningNodes, until


class Source:
    """An HTTP server on loopback with one answer; None: it never answers."""

    def __init__(self) -> None:
        self.body: bytes | None = b""
        self.status = 200
        self.asked = 0
        self._server: asyncio.Server

    def price(self, **rates: object) -> None:
        self.body = json.dumps({"base": "USD", "rates": rates}).encode()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1?key=of-the-source"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.body is None:
                await reader.read()  # until the client gives up
                return
            head = f"HTTP/1.1 {self.status} x\r\nContent-Length: {len(self.body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + self.body)
            await writer.drain()
        finally:
            writer.close()

    def stop(self) -> None:
        self._server.close()


@pytest_asyncio.fixture
async def source() -> AsyncIterator[Source]:
    one = Source()
    yield one
    one.stop()


async def test_packets_are_priced_by_live_rates_and_never_by_old_ones(
    tmp_path: Path, source: Source
) -> None:
    """a sends USD over b to c, who has EUR: with a rate, without, with a bad one, with an old one."""
    url = await source.start()
    source.price(EUR="0.5")
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain(
            "a", "b", "c",
            peer={"b-c": {"asset_code": "EUR"}, "c-b": {"asset_code": "EUR"}},
            node={"b": {"rates_url": url, "rates_max_age_seconds": 3, "spread_basis_points": 100}},
        )  # fmt: skip
        live = b.connector.core.live_rates
        assert live is not None
        await b.log.seen("rates_in_use", currencies=2)
        assert isinstance(await a.connector.send("g.c", 1001), Fulfill)
        # 1001 * 0.5 * 0.99 = 495.495, rounded down.
        await until(lambda: b.net("c") == -495)
        assert (b.net("a"), c.net("b")) == (1001, 495)
        too_small = await a.connector.send("g.c", 2)
        assert isinstance(too_small, Reject)
        assert too_small.code == "R01"
        shown = await Operator(b).get("/api/rates")
        assert shown["items"] == [{"from": "USD", "to": "EUR", "rate": "0.5", "source": "live"}]
        assert (shown["state"], shown["maxAgeSeconds"]) == ("fresh", 3)
        assert shown["spreadBasisPoints"] == 100
        assert "of-the-source" not in json.dumps(shown)
        # One bad price: no rate for that currency, at once, although an older one was good.
        source.price(EUR=-1, XRP=1)
        await b.log.seen("rates_refused", reason="negative")
        await b.log.seen("rates_refused", reason="negative", currencies="EUR")
        refused = await a.connector.send("g.c", 1001)
        assert isinstance(refused, Reject)
        assert (refused.code, refused.message) == ("T00", "no exchange rate")
        # Good again, then a source that never answers: what is too old is not used.
        source.price(EUR="0.25")
        await until(lambda: live.prices is not None and "EUR" in live.prices.by_code)
        source.body = None
        await b.log.seen("rates_too_old")
        await b.log.seen("rates_failed", reason="slow")
        refused = await a.connector.send("g.c", 1000)
        assert isinstance(refused, Reject)
        assert refused.code == "T00"
        assert b.net("a") == 1001
        status = await Operator(b).get("/api/status")
        assert status["rates"]["state"] == "stale"
        assert status["status"] == "healthy"
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            metrics = (await client.get(f"http://127.0.0.1:{b.connector.http_port}/metrics")).text
        assert "ilp_rates_fresh 0.0" in metrics
        assert 'ilp_rates_answers_total{result="slow"}' in metrics
        assert 'ilp_rates_refused_total{reason="negative"}' in metrics
        told = json.dumps(list(b.log.events), default=str)
        assert "of-the-source" not in told
        # Packets in one currency never cared.
        assert isinstance(await a.connector.send("g.b", 5), Fulfill)


async def test_a_source_that_is_down_at_the_start_stops_no_node(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        b = await network.add("b", [], rates_url="http://127.0.0.1:9/rates")
        await b.log.seen("rates_failed", reason="unreachable")
        view = RatesView(lambda: b.settings, b.connector.core.live_rates)
        assert view.summary()["state"] == "stale"
        assert (await Operator(b).get("/api/rates"))["items"] == []


async def test_without_a_source_nothing_is_asked_and_static_rates_are_shown(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        b = await network.add("b", [], rates={"USD/EUR": "12/13"})
        assert b.connector.core.live_rates is None
        shown = await Operator(b).get("/api/rates")
        assert shown["state"] == "off"
        assert shown["items"] == [{"from": "USD", "to": "EUR", "rate": "12/13", "source": "config"}]
