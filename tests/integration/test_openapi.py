"""The OpenAPI document against a real node: complete, true, and no request brings it down."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from connector import PeerSettings
from connector.base import limits
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes


async def test_the_document_names_keys_and_refusals_of_every_route(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a = Operator(await network.add("a", [], admin_api_key=KEY))
        document = await a.get("/api/openapi.json")
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            fault = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert fault == {"$ref": "#/components/schemas/Fault"}
            secured = path not in ("/health", "/health/live", "/health/ready", "/metrics", "/login",
                                   "/logout")  # fmt: skip
            assert ("security" in operation) is secured, path
    assert {"/api/keys", "/admin/peers/{peer_id}/limits", "/api/events"} <= document["paths"].keys()
    secret = document["components"]["schemas"]["PeerSettings"]["properties"]["secret"]
    assert (secret["format"], secret["writeOnly"]) == ("password", True)


@pytest.mark.slow
async def test_no_request_that_schemathesis_thinks_of_is_answered_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It tries wrong keys at every operation, and expects 401: the throttle has tests of its own.
    monkeypatch.setattr(limits, "HTTP_WRONG_KEYS_MAX", 10_000)
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed: pip install -e '.[dev]'")
    async with RunningNodes(tmp_path) as network:
        peers = [PeerSettings(id="bob", secret="of-bob", routes=["g.bob"])]
        # Off loopback, where everything but health needs the key.
        a = await network.add(
            "a", peers, admin_api_key=KEY, settlement_token=KEY, http_host="0.0.0.0"
        )
        url = f"http://127.0.0.1:{a.connector.http_port}/api/openapi.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run", url,
            "--header", f"Authorization: Bearer {KEY}",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_schema_conformance,negative_data_rejection,ignored_auth",
            "--max-examples", "4", "--phases", "examples,coverage,fuzzing", "--seed", "1",
            "--request-timeout", "20", "--generation-database", "none", "--no-color",
            "--exclude-path", "/logout",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()[-12_000:]
