"""The asset that a parent names is taken once, kept over restarts, and audited as such."""

from __future__ import annotations

from pathlib import Path

import httpx

from connector import Fulfill, PeerSettings
from connector.peering.model import Asset
from tests.support.daemons import RunningNodes, secret_of


async def test_it_is_kept_over_restarts_and_a_configured_one_is_a_fault(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        child = PeerSettings(id="kid", secret=secret_of("up", "kid"), relation="child")
        up = await network.add("up", [child], asset_code="XRP", asset_scale=6)
        parent = PeerSettings(
            id="up", secret=secret_of("up", "kid"), relation="parent", url=network.url_of("up")
        )
        kid = await network.add("kid", [parent], ilp_address=None)
        network._pairs.append(("up", "kid"))
        for amount in (5, 7):
            await network.daemons["kid"].log.seen("ilp_address_received")
            assert kid.connector.settings.asset_of(kid.connector.settings.peers[0]) == Asset(
                "XRP", 6
            )
            assert isinstance(await up.connector.send("g.up.kid", amount), Fulfill)
            if amount == 5:
                kid = await network.restart("kid")
                # Known before the parent is asked, so its balance is in sight at once.
                assert kid.net("up") == 5
                assert kid.log.count("ildcp_asset_taken") == 0
        assert (up.net("kid"), kid.net("up")) == (-12, 12)
        url = f"http://127.0.0.1:{kid.connector.http_port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
            assert (await client.get("/health")).json()["status"] == "healthy"
        assert kid.log.count("ildcp_asset_differs") == 0
        assert await network.stop() == []


async def test_a_configured_asset_that_differs_shows_in_the_health(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        child = PeerSettings(id="kid", secret=secret_of("up", "kid"), relation="child")
        await network.add("up", [child], asset_code="XRP", asset_scale=6)
        parent = PeerSettings(
            id="up", secret=secret_of("up", "kid"), relation="parent", url=network.url_of("up"),
            asset_code="EUR",
        )  # fmt: skip
        kid = await network.add("kid", [parent], ilp_address=None)
        await kid.log.seen("ildcp_asset_differs", parent="XRP/6", configured="EUR/9")
        url = f"http://127.0.0.1:{kid.connector.http_port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
            health = (await client.get("/health")).json()
        assert health["status"] == "degraded"
        assert "XRP/6" in health["reason"]
