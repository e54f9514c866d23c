"""`conformance` against the JS connector (ilp-connector 23.0.2, unchanged): its known defects are found."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from connector.base.clock import SystemClock
from connector.base.errors import KeyRefusedError
from connector.tools import conformance_btp, conformance_ilp
from connector.tools.conformance import Account, Target, Verdict, run_checks
from connector.tools.plain_btp import NoPeerError
from tests.interop.harness import HERE, install_node_modules
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_ports

pytestmark = [pytest.mark.interop, pytest.mark.asyncio]

LIMIT = 50_000
KNOWN = {
    "log-in-time": "still open",
    "unknown-primary": "a Response",
    "duplicate-names": "as if there were one",
    "bad-time": "F02",
    "large-data": "F02",
    "malformed-answer": "F00",
    "prepare-answer": "F00",
    "empty-answer": "F00",
    "error-answer": "F02",
    "paid-is-paid": "has fulfilled",
}
"""Checks that it fails, and a word of the detail of each."""


def account(port: int, secret: str, **balance: str) -> dict[str, Any]:
    return {
        "relation": "child", "plugin": "ilp-plugin-btp", "assetCode": "USD", "assetScale": 9,
        "balance": {"maximum": "1000000000", **balance},
        "options": {"listener": {"port": port, "secret": secret}},
    }  # fmt: skip


async def reachable(target: Target) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                async with target.pair():
                    return
            except (NoPeerError, KeyRefusedError):
                await asyncio.sleep(0.1)


async def test_the_known_defects_of_the_js_connector_are_found(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("interop") if cache is not None else tmp_path
    modules = install_node_modules(folder, HERE / "connector")
    one, two = free_ports(2)
    accounts = {
        "a": account(one, "of-a"),
        "b": account(two, "of-b", minimum=str(-LIMIT)),
    }
    environment = {
        **os.environ, "NODE_PATH": str(modules), "DEBUG": "",
        "CONNECTOR_ENV": "test", "CONNECTOR_ILP_ADDRESS": "test.conn", "CONNECTOR_SPREAD": "0",
        "CONNECTOR_BACKEND": "one-to-one", "CONNECTOR_STORE": "ilp-store-memory",
        "CONNECTOR_ADMIN_API": "false", "CONNECTOR_LOG_LEVEL": "error",
        "CONNECTOR_ACCOUNTS": json.dumps(accounts),
    }  # fmt: skip
    target = Target(
        account=Account(url=f"ws://127.0.0.1:{one}", username="a", token="of-a"),
        next_hop=Account(url=f"ws://127.0.0.1:{two}", username="b", token="of-b"),
        next_address="test.conn.b",
        next_limit=LIMIT,
        clock=SystemClock(),
    )
    process = await asyncio.create_subprocess_exec(
        "node", str(modules / "ilp-connector" / "dist" / "index.js"), cwd=tmp_path, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await reachable(target)
        checks = [*conformance_btp.CHECKS.all, *conformance_ilp.CHECKS.all]
        results = await run_checks(checks, target, stopped=asyncio.Event())
    finally:
        process.terminate()
        await process.wait()
    failed = {one.check.name: one.detail for one in results if one.verdict is Verdict.FAIL}
    assert failed.keys() == KNOWN.keys(), failed
    for name, word in KNOWN.items():
        assert word in failed[name], (name, failed[name])
    passed = [one for one in results if one.verdict is Verdict.PASS]
    assert len(passed) == len(checks) - len(KNOWN)
