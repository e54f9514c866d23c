"""`conformance` against our own connector: every check passes, and one that must fail does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from connector import PeerSettings
from connector.base.clock import SystemClock
from connector.base.errors import DecodeError
from connector.btp.packet import RESPONSE, BtpPacket, decode, encode
from connector.tools import conformance, conformance_btp, conformance_ilp
from connector.tools.conformance import Account, Check, Target, Verdict, run_check
from tests.support.commands import command
from tests.support.daemons import Daemon, RunningNodes

SLOW = frozenset(("log-in-time", "large-message"))
"""Checks that wait for what this peer never does."""
ALL: list[Check] = [*conformance_btp.CHECKS.all, *conformance_ilp.CHECKS.all]


async def peer(network: RunningNodes, **settings: object) -> Daemon:
    return await network.add(
        "x",
        [
            PeerSettings(id="tester", secret="of-the-tester", credit_limit=10**9),
            PeerSettings(id="next", secret="of-the-next", routes=["g.next"], max_payable=50_000),
        ],
        **settings,
    )


async def test_our_connector_passes_every_check(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        x = await peer(network)
        done = await asyncio.to_thread(
            command, "conformance", "--url", network.url_of("x"), "--auth", "tester:of-the-tester",
            "--next-auth", "next:of-the-next", "--next-address", "g.next",
            "--next-limit", "50000", "--json",
        )  # fmt: skip
        said = json.loads(done.out)
        others = [one for one in said["checks"] if one["verdict"] != "pass"]
        assert others == []
        assert (done.code, said["pass"], said["fail"], said["skip"]) == (0, len(ALL), 0, 0)
        assert x.net("tester") == -x.net("next") > 25_000


async def test_without_a_second_account_what_is_forwarded_is_skipped(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        await peer(network)
        options = ["--url", network.url_of("x"), "--auth", "tester:of-the-tester"]
        only = ["--only", "no-route", "--only", "forward", "--only", "paid-is-paid"]
        done = await asyncio.to_thread(command, "conformance", *options, *only)
        assert done.code == 0, done.out
        assert "1 pass, 0 fail, 2 skip of 3" in done.out
        assert "needs a second account" in done.out


async def test_a_peer_that_breaks_a_rule_fails_its_check(tmp_path: Path) -> None:
    """A default route, so that nothing is unreachable; and one second that is not enough to look at."""
    async with RunningNodes(tmp_path) as network:
        x = await network.add(
            "x",
            [
                PeerSettings(id="tester", secret="of-the-tester"),
                PeerSettings(id="next", secret="of-the-next", routes=[""]),
            ],
        )
        account = Account(url=network.url_of("x"), username="tester", token="of-the-tester")
        target = Target(account=account, clock=SystemClock())
        (no_route,) = [one for one in ALL if one.name == "no-route"]
        result = await run_check(no_route, target)
        assert result.verdict is Verdict.FAIL
        assert "T01" in result.detail
        done = await asyncio.to_thread(
            command, "conformance", "--url", account.url, "--auth", "tester:of-the-tester",
            "--only", "no-route", "--json",
        )  # fmt: skip
        assert done.code == 1
        assert json.loads(done.out)["checks"][0]["verdict"] == "fail"
        assert x.connector.node.in_flight == 0


async def test_a_check_has_a_verdict_in_its_time(tmp_path: Path) -> None:
    async def never(_target: Target) -> None:
        await asyncio.Event().wait()

    check = Check(
        name="never", requirements=(1,), level=conformance.Level.MUST, rule="", run=never,
        seconds_max=0.01,
    )  # fmt: skip
    account = Account(url="ws://127.0.0.1:1", username="a", token="b")
    result = await run_check(check, Target(account=account, clock=SystemClock()))
    assert result.verdict is Verdict.FAIL
    assert "not decided" in result.detail


@pytest.mark.parametrize("breaks_off", [True, False])
async def test_a_peer_that_is_none_gets_a_verdict_for_every_check(breaks_off: bool) -> None:
    """After the log-in it closes, or answers with nothing."""

    async def answer(websocket: ServerConnection) -> None:
        is_logged_in = False
        async for message in websocket:
            try:
                packet = decode(bytes(message))  # type: ignore[arg-type]
            except (DecodeError, TypeError):
                continue
            if is_logged_in and breaks_off:
                return
            is_logged_in = True
            await websocket.send(encode(BtpPacket(kind=RESPONSE, request_id=packet.request_id)))

    async with serve(answer, "127.0.0.1", 0) as server:
        (socket,) = server.sockets
        account = Account(url=f"ws://127.0.0.1:{socket.getsockname()[1]}", username="a", token="b")
        target = Target(
            account=account, clock=SystemClock(), next_hop=account, next_address="g.next",
            next_limit=5,
        )  # fmt: skip
        # At once: most of them wait for an answer until their time is over.
        checks = [one for one in ALL if one.name not in SLOW]
        results = await asyncio.gather(*(run_check(one, target) for one in checks))
    failed = {one.check.name for one in results if one.verdict is Verdict.FAIL}
    assert {"request-ids", "other-protocols", "forward", "no-route"} <= failed


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--url", "ws://127.0.0.1:1", "--auth", "a:b"], 1, "cannot connect"),
        (["--url", "http://127.0.0.1:1", "--auth", "a:b"], 2, "must be ws://"),
        (["--url", "ws://127.0.0.1:1", "--auth", "ab"], 2, "USER:TOKEN"),
        (
            ["--url", "ws://127.0.0.1:1", "--auth", "a:b", "--only", "all"],
            2,
            "no such check: all; there are: ",
        ),
        (
            ["--url", "ws://127.0.0.1:1", "--auth", "a:b", "--next-address", "g..x"],
            2,
            "ILP address",
        ),
    ],
)
def test_what_cannot_be_checked_is_said(options: list[str], code: int, says: str) -> None:
    done = command("conformance", *options)
    assert done.code == code
    assert says in done.err


def test_every_check_has_a_name_of_its_own_and_requirements_of_the_table() -> None:
    names = [one.name for one in ALL]
    assert len(set(names)) == len(names)
    assert all(one.requirements and set(one.requirements) <= set(range(1, 86)) for one in ALL)
