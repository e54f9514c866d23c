"""The HTTP surface of whole nodes: TLS, keys, and requests without a key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import Collector
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from connector import Connector, PeerSettings, Settings
from connector.base.errors import ConfigError
from connector.telemetry import bounds as telemetry_bounds
from connector.telemetry import metrics
from tests.support.certificates import certificate
from tests.support.daemons import EventLog, RunningNodes
from tests.support.patience import PATIENCE_SECONDS

__all__ = ["certificate"]

KEY = "key-of-the-admin"


async def test_health_api_and_login_over_tls(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a", [], http_host="0.0.0.0", admin_api_key=KEY, http_tls_cert=cert, http_tls_key=key
        )
        base = f"https://127.0.0.1:{a.connector.http_port}"
        trusted = ssl.create_default_context(cafile=str(cert))
        async with httpx.AsyncClient(base_url=base, verify=trusted, trust_env=False) as client:
            assert (await client.get("/health/ready")).status_code == 200
            assert (await client.get("/api/status")).status_code == 401
            cookie = (await client.post("/login", json={"key": KEY})).headers["set-cookie"]
            assert cookie.endswith("; Secure")
            keys = (await client.get("/api/keys")).json()
            assert keys["httpTls"]["enabled"]
            assert len(keys["httpTls"]["fingerprint"]) == 64
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            with pytest.raises(httpx.HTTPError):
                await client.get(base.replace("https", "http") + "/health")


def test_a_certificate_that_cannot_be_used_is_a_fault_that_is_named(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, _ = certificate

    async def start() -> None:
        settings = Settings(
            data_dir=tmp_path, btp_server_port=0, http_port=0, http_tls_cert=cert, http_tls_key=cert
        )
        async with Connector(settings, log=EventLog()):
            raise AssertionError("it must not start")

    import asyncio

    with pytest.raises(ConfigError, match=f"HTTP_TLS_KEY={cert} holds no private key"):
        asyncio.run(start())


def test_exposed_without_a_key_it_refuses_to_start() -> None:
    with pytest.raises(
        ValueError, match=r"HTTP_HOST=0\.0\.0\.0 is not loopback: set ADMIN_API_KEY"
    ):
        Settings(http_host="0.0.0.0")


async def test_keys_are_told_apart_and_never_shown(tmp_path: Path) -> None:
    secrets = {"bob": "hunter2-of-bob", "carol": "hunter2-of-carol"}
    peers = [PeerSettings(id=name, secret=secret) for name, secret in secrets.items()]
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", peers, admin_api_key=KEY)

        async def keys() -> dict[str, dict[str, str]]:
            port = network.daemons["a"].connector.http_port
            async with httpx.AsyncClient(trust_env=False, verify=False) as client:
                answer = await client.get(f"http://127.0.0.1:{port}/api/keys")
            assert "hunter2" not in answer.text
            assert KEY not in answer.text
            body = answer.json()
            assert (body["ilpAddress"], body["adminKeySet"]) == ("g.a", True)
            return {item["peerId"]: item for item in body["items"]}

        first = await keys()
        assert len({item["secretFingerprint"] for item in first.values()}) == 2
        changed = [PeerSettings(id="bob", secret="another-one"), peers[1]]
        a.settings = a.settings.model_copy(update={"peers": changed})
        await network.restart("a")
        second = await keys()
        assert second["carol"] == {
            **first["carol"],
            "secretAgeSeconds": second["carol"]["secretAgeSeconds"],
        }
        assert second["bob"]["secretFingerprint"] != first["bob"]["secretFingerprint"]
        assert second["bob"]["secretSince"] > first["bob"]["secretSince"]
    known = tmp_path / "a" / "known_peers.json"
    assert known.stat().st_mode & 0o077 == 0
    assert "hunter2" not in known.read_text()


async def test_a_damaged_memory_of_peers_keeps_nobody_from_starting(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "known_peers.json").write_text('{"salt": 5')
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", [PeerSettings(id="bob", secret="s")])
        assert a.log.count("known_peers_unreadable") == 1


async def test_without_the_key_no_route_of_a_whole_node_does_anything(tmp_path: Path) -> None:
    """All routes that its document names, with every method; a new one is covered when it is added."""
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", [], admin_api_key=KEY, http_host="0.0.0.0")
        base = f"http://127.0.0.1:{a.connector.http_port}"
        async with httpx.AsyncClient(base_url=base, trust_env=False, verify=False) as client:
            bearer = {"authorization": f"Bearer {KEY}"}
            document = (await client.get("/api/openapi.json", headers=bearer)).json()
            open_ones = set()
            for path, operations in document["paths"].items():
                for method in (*operations, "head", "options", "patch", "trace"):
                    where = path.replace("{", "").replace("}", "")
                    answer = await client.request(method.upper(), where)
                    if answer.status_code not in (401, 403):
                        open_ones.add(path)
            assert open_ones == {
                "/health", "/health/live", "/health/ready", "/metrics", "/login", "/logout",
            }  # fmt: skip
            for path in ("/", "/ws", "/assets/app.js", "/nowhere"):
                assert (await client.get(path)).status_code == 401


async def test_metrics_of_a_whole_node_show_balances_to_its_keys_only(tmp_path: Path) -> None:
    metrics_key = "key-of-prometheus"
    peers = [PeerSettings(id="bob", secret="of-bob-and-long-enough")]
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a", peers, admin_api_key=KEY, metrics_key=metrics_key, http_host="0.0.0.0"
        )
        url = f"http://127.0.0.1:{a.connector.http_port}/metrics"
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:

            async def lines(key: str | None) -> list[str]:
                headers = {} if key is None else {"authorization": f"Bearer {key}"}
                answer = await client.get(url, headers=headers)
                assert answer.status_code == 200
                return answer.text.splitlines()

            without = await lines(None)
            assert 'ilp_peer_connected{peer="bob"} 0.0' in without
            assert not [one for one in without if "balance" in one or "ilp_amount" in one]
            for key in (metrics_key, KEY):
                shown = await lines(key)
                assert 'ilp_account_balance{asset="USD/9",kind="net",peer="bob"} 0.0' in shown
                assert 'ilp_amount_total{asset="USD/9",direction="in",peer="bob"} 0.0' in shown
            wrong = await client.get(url, headers={"authorization": "Bearer hunter2"})
            assert wrong.status_code == 401


async def test_however_many_ask_for_metrics_they_are_rendered_once_a_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[Collector] = []

    def render(collector: Collector) -> bytes:
        rendered.append(collector)
        return generate_latest(collector)

    monkeypatch.setattr(metrics, "render", render)
    monkeypatch.setattr(telemetry_bounds, "METRICS_TEXT_SECONDS_MIN", 3600.0)
    monkeypatch.setattr(telemetry_bounds, "METRICS_TEXT_SECONDS_MAX", 3600.0)
    peers = [PeerSettings(id=f"p{n}", secret=f"long-and-random-{n}") for n in range(50)]
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", peers, admin_api_key=KEY, http_host="0.0.0.0")
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            for number in range(60):
                headers = {"authorization": f"Bearer {KEY}"} if number % 2 else {}
                url = f"http://127.0.0.1:{a.connector.http_port}/metrics"
                answer = await client.get(url, headers=headers)
                assert ("ilp_account_balance{" in answer.text) is bool(number % 2)
    assert len(rendered) == len(set(rendered)) == 2, "balances, and all else"


async def test_a_whole_node_behind_a_proxy_that_it_trusts(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a", [], admin_api_key=KEY, trusted_proxies=["127.0.0.1"],
            http_allowed_hosts=["node.example"],
        )  # fmt: skip
        port = a.connector.http_port
        said = {
            "x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https",
            "x-forwarded-host": "node.example", "x-forwarded-prefix": "/nodes/a",
            "origin": "https://node.example",
        }  # fmt: skip
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, headers=said
        ) as client:
            assert (await client.get("/api/status")).status_code == 401, "although on loopback"
            form = await client.get("/", headers={"accept": "text/html"})
            assert '<base href="/nodes/a/">' in form.text
            wrong = await client.post("/login", json={"key": "hunter2"})
            assert wrong.status_code == 401
            assert a.log.count("http_authentication_failed", remote="203.0.113.9") == 1
            answer = await client.post("/login", json={"key": KEY})
            cookie = answer.headers["set-cookie"]
            assert "; Path=/nodes/a;" in cookie
            assert cookie.endswith("; Secure")
            shown = {"cookie": cookie.partition(";")[0]}
            assert (await client.get("/api/status", headers=shown)).status_code == 200
            elsewhere = await client.get("/health", headers={"x-forwarded-host": "evil.example"})
            assert elsewhere.status_code == 421
            for headers in ({name: "\x7f,;" * 9 for name in said if name.startswith("x-")}, {}):
                odd = await client.get("/health", headers=headers)
                assert odd.status_code == 200
        url = f"ws://127.0.0.1:{port}/ws"
        through = {name: text for name, text in said.items() if name != "origin"} | shown
        origin = Origin("https://node.example")
        async with connect(url, origin=origin, additional_headers=through, proxy=None) as feed:
            assert b'"snapshot"' in (await feed.recv(decode=False))
        other = Origin("http://node.example")
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, origin=other, additional_headers=through, proxy=None)
        assert refused.value.response.status_code == 403


async def test_the_key_of_readers_reads_a_whole_node_and_changes_nothing(tmp_path: Path) -> None:
    """All operations that its document names; a new one is covered when it is added."""
    reader = "key-of-the-reader"
    peers = [PeerSettings(id="bob", secret="long-and-random-of-bob")]
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a", peers, admin_api_key=KEY, read_api_key=reader, http_host="0.0.0.0"
        )
        port = a.connector.http_port
        bearer = {"authorization": f"Bearer {reader}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, headers=bearer
        ) as client:
            document = (await client.get("/api/openapi.json")).json()
            changing = 0
            for path, operations in document["paths"].items():
                where = path.replace("{peer_id}", "bob").replace("{peer}", "bob")
                if path in ("/login", "/logout") or path.startswith("/settlement/"):
                    continue
                for method, operation in operations.items():
                    answer = await client.request(method.upper(), where)
                    if method == "get":
                        assert answer.status_code not in (401, 403), path
                        named = operation.get("security", [{"readKey": []}])
                    else:
                        assert answer.status_code == 403, (method, path)
                        assert "READ_API_KEY only reads" in answer.json()["error"]
                        changing += 1
                        named = [] if "readKey" in str(operation["security"]) else [{"readKey": []}]
                    assert {"readKey": []} in named, (method, path)
            assert changing >= 9
            assert (await client.get("/admin/peers")).json()["items"][0]["id"] == "bob"
            keys = (await client.get("/api/keys")).json()
            assert (keys["adminKeySet"], keys["readKeySet"]) == (True, True)
            assert "ilp_account_balance{" in (await client.get("/metrics")).text
            answer = await client.post("/login", json={"key": reader})
        shown = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
        async with httpx.AsyncClient(trust_env=False, verify=False, headers=shown) as page:
            assert (await page.get(f"http://127.0.0.1:{port}/api/peers")).status_code == 200
        url = f"ws://127.0.0.1:{port}/ws"
        async with connect(url, additional_headers=shown, proxy=None) as feed:
            assert b'"snapshot"' in (await feed.recv(decode=False))
        assert [peer.id for peer in a.connector.settings.peers] == ["bob"]


async def test_nodes_of_the_network_are_read_with_the_read_only_key_of_each(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        others = {
            name: await network.add(
                name, [], admin_api_key=KEY, read_api_key=f"key-of-readers-of-{name}",
                http_host="0.0.0.0",
            )
            for name in ("b", "c", "d")
        }  # fmt: skip
        urls = {name: f"http://127.0.0.1:{one.connector.http_port}" for name, one in others.items()}
        keys = {urls[name]: f"key-of-readers-of-{name}" for name in ("b", "c")}
        a = await network.add(
            "a", [], explorer_nodes=list(urls.values()), explorer_node_keys=keys,
            explorer_nodes_key="key-of-readers-of-nobody",
        )  # fmt: skip
        found: dict[str, Any] = {}
        async with (
            httpx.AsyncClient(trust_env=False, verify=False) as client,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            # On a busy machine a node may not answer in time.
            while not all(found.get(url, {}).get("nodeId") for url in keys):
                answer = await client.get(f"http://127.0.0.1:{a.connector.http_port}/api/network")
                found = {node["url"]: node for node in answer.json()["nodes"]}
        assert [found[urls[name]]["nodeId"] for name in ("b", "c")] == ["b", "c"]
        assert "EXPLORER_NODE_KEYS" in found[urls["d"]]["error"]
        assert "key-of-readers" not in answer.text
        for name in ("b", "c"):
            assert others[name].log.count("http_authentication_failed") == 0
        assert others["d"].log.count("http_authentication_failed") > 0


async def test_strangers_at_the_sockets_of_a_whole_node(tmp_path: Path) -> None:
    """What a browser sends for a page of another origin, and bodies that do not end."""
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", [], admin_api_key=KEY)
        port = a.connector.http_port
        url = f"ws://127.0.0.1:{port}/ws"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, origin=Origin("http://evil.example"), proxy=None)
        assert refused.value.response.status_code == 403
        async with connect(url, origin=Origin(f"http://127.0.0.1:{port}"), proxy=None) as feed:
            assert b'"snapshot"' in (await feed.recv(decode=False))

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b"x" * 65_536

        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False
        ) as client:
            rebound = await client.get("/api/accounts", headers={"host": "evil.example"})
            assert rebound.status_code == 421
            bearer = {"authorization": f"Bearer {KEY}"}
            crossed = await client.post(
                "/admin/packets", headers={**bearer, "origin": "http://evil.example"}
            )
            assert crossed.status_code == 403
            too_much = await client.post("/admin/peers", headers=bearer, content=endless())
            assert too_much.status_code == 413
            for content in (b"{", b"\xff", b"[" * 100_000, b'{"id": 1e999}'):
                headers = {**bearer, "content-type": "application/json"}
                broken = await client.post("/admin/peers", headers=headers, content=content)
                assert broken.status_code in (400, 422)
            assert (await client.get("/health/ready")).status_code == 200
