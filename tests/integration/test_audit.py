"""Checks of the books of a running node, by its API."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill
from tests.support.admin import KEY, Operator
from tests.support.commands import Done, command
from tests.support.daemons import RunningNodes
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[RunningNodes]:
    async with RunningNodes(tmp_path) as network:
        yield network


async def audited(a: Operator, *options: str, key: str = KEY) -> Done:
    url = f"http://127.0.0.1:{a.daemon.connector.http_port}"
    return await asyncio.to_thread(command, "audit", "--url", url, "--key", key, *options)


async def ended(a: Operator) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (seen := await a.get("/admin/audit"))["state"] == "running":
            await asyncio.sleep(0.02)
    return dict(seen)


async def test_a_node_checks_its_books_while_packets_go_on(network: RunningNodes) -> None:
    a, b = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    operator = Operator(a)
    assert (await operator.get("/admin/audit"))["state"] == "none"
    await operator.ask("PUT", "/admin/peers/b/limits", {"creditLimit": "5000"})
    begun = await operator.ask("POST", "/admin/audit")
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    for _ in range(20):
        assert isinstance(await b.connector.send("g.a", 7), Fulfill)
    again = await operator.ask("POST", "/admin/audit")
    assert again.json()["beganAt"] == begun.json()["beganAt"], "one at a time"
    seen = await ended(operator)
    assert (seen["state"], seen["report"]["ok"], seen["error"]) == ("done", True, None)
    assert "granted 5000, configured 5000" in str(seen["report"]["checks"]), "with what was changed"
    done = await audited(operator)
    assert done.code == 0, done.err
    assert "audit: ok" in done.out
    report = (await audited(operator, "--json")).json
    (peer,) = report["peers"]
    assert (peer["peerId"], peer["netBalance"]) == ("b", "140")
    events = await operator.events("BOOKS_CHECKED", count=3)
    assert [one["ok"] for one in events] == [True] * 3
    said = [one["said"] for one in (await operator.get("/api/v1/log?type=books,operator"))["items"]]
    assert f"the books are right: {len(report['checks'])} rules hold" in said
    assert "audit.begin books, by key 127.0.0.1" in said


async def test_books_that_are_wrong_are_found_and_kept_in_the_log(network: RunningNodes) -> None:
    a, b = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    operator = Operator(a)
    paid = await operator.ask(
        "POST", "/admin/accounts/b/settlements", {"direction": "outgoing", "amount": "20"}
    )
    assert paid.status_code == 201, paid.text
    with sqlite3.connect(network.folder / "a" / "settlements.db") as file:
        file.execute("DELETE FROM settlement")
    done = await audited(operator)
    assert done.code == 1
    assert "FAIL peer b: settlements in the ledger = settlements noted" in done.out
    (found,) = await operator.events("BOOKS_CHECKED")
    assert (found["ok"], found["failed"]) == (
        False, "peer b: settlements in the ledger = settlements noted",
    )  # fmt: skip
    assert a.log.count("books_checked", ok=False) == 1
    assert isinstance(await b.connector.send("g.a", 7), Fulfill)


async def test_who_may_not_and_what_cannot(network: RunningNodes) -> None:
    a = Operator(
        await network.add(
            "a", [], admin_api_key=KEY, read_api_key="key-that-reads", ledger="memory"
        )
    )
    assert (await audited(a, key="wrong")).code == 2
    assert (await a.ask("POST", "/admin/audit", key="key-that-reads")).status_code == 403
    assert (await a.ask("GET", "/admin/audit", key="key-that-reads")).status_code == 200
    refused = await audited(a)
    assert refused.code == 2
    assert "LEDGER=memory" in refused.err
    assert (await audited(a, "--nodes", "b")).code == 2


async def test_a_stop_ends_an_audit(network: RunningNodes) -> None:
    a = Operator(await network.add("a", [], admin_api_key=KEY))
    assert (await a.ask("POST", "/admin/audit")).status_code == 202
    a = Operator(await network.restart("a"))
    assert (await a.get("/admin/audit"))["state"] == "none"


async def test_an_audit_that_cannot_be_made_says_why(
    network: RunningNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = Operator(await network.add("a", [], admin_api_key=KEY))
    monkeypatch.setattr("connector.node.auditor._MODULE", "connector.tools.nothing_there")
    done = await audited(a)
    assert done.code == 1
    assert "could not check its books: its process ended with 1" in done.err
    (network.folder / "a" / "changes.json").write_text("not JSON")
    monkeypatch.undo()
    done = await audited(a)
    assert done.code == 1
    assert "is not JSON" in done.err
    (network.folder / "a" / "changes.json").unlink()
