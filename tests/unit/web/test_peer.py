"""The terms of a peer, for readers: what is agreed, and no secret."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from connector import PeerSettings
from connector.web.models import PeerTerms
from tests.support.daemons import RunningNodes

SECRETS = ("of-bob-and-us", "token-of-http", "token-of-the-engine", "in-the-url")


async def test_a_reader_sees_the_terms_and_no_secret(tmp_path: Path) -> None:
    bob = PeerSettings(
        id="bob",
        secret="of-bob-and-us",
        url="ws://127.0.0.1:7/in-the-url",
        http_url="https://bob.example/accounts/in-the-url/ilp",
        http_token="token-of-http",
        settlement_engine_url="http://127.0.0.1:3000/in-the-url",
        settlement_token="token-of-the-engine",
        credit_limit=5000,
        settle_threshold=700,
        fee_basis_points=30,
        routes=["g.bob"],
    )
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", [bob, PeerSettings(id="carol", secret="of-carol")])
        url = f"http://127.0.0.1:{a.connector.http_port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as reader:
            answer = await reader.get("/api/peers/bob")
            carol = (await reader.get("/api/peers/carol")).json()
            unknown = await reader.get("/api/peers/nobody")
    assert not any(secret in answer.text for secret in SECRETS)
    shown = answer.json()
    assert set(shown) == {field.alias for field in PeerTerms.model_fields.values()}
    terms = PeerTerms.model_validate(shown, strict=True)
    assert (terms.credit_limit, terms.settle_threshold, terms.fee_basis_points) == (
        "5000",
        "700",
        30,
    )
    assert terms.url == "ws://127.0.0.1:7"
    assert terms.http_url == "https://bob.example"
    assert terms.settlement_engine_url == "http://127.0.0.1:3000"
    assert (carol["url"], carol["settlementEngineUrl"], carol["maxPayable"]) == (None, None, None)
    assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("url", "shown"),
    [("manual", "manual"), (None, None), ("ws://[::1]:8/x?y", "ws://[::1]:8"), ("user@host", "")],
)
def test_of_a_url_only_the_way_there_is_shown(url: str | None, shown: str | None) -> None:
    from connector.web.peer import _host_of

    assert _host_of(url) == shown
