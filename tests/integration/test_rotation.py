"""Secrets of peers that change while the link stays up: both orders, the end of the time, and what is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill
from connector.node import bounds
from connector.settings.overlay import FILE_NAME
from tests.support.admin import KEY, Operator
from tests.support.commands import Done, command
from tests.support.daemons import RunningNodes, secret_of, until

OLD = secret_of("a", "b")
NEW = "another-secret-of-both"
PATH = "/admin/peers/{}/rotate-secret"


@pytest.fixture
async def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningNodes]:
    monkeypatch.setattr(bounds, "GRACE_LOOK_SECONDS", 0.05)
    async with RunningNodes(tmp_path) as network:
        yield network


async def pair(network: RunningNodes) -> tuple[Operator, Operator]:
    """a and b, linked: b dials."""
    keys = {"admin_api_key": KEY}
    a, b = await network.chain("a", "b", node={"a": keys, "b": keys})
    return Operator(a), Operator(b)


async def rotate(one: Operator, peer: str, secret: str = NEW, grace: int = 600) -> dict[str, Any]:
    body = {"secret": secret, "graceSeconds": grace}
    answer = await one.ask("POST", PATH.format(peer), body)
    assert answer.status_code == 200, answer.text
    assert secret not in answer.text
    return dict(answer.json())


async def peer_of(one: Operator) -> dict[str, Any]:
    (item,) = (await one.get("/api/peers"))["items"]
    return dict(item)


async def relinked(one: Operator, peer: str, times: int) -> None:
    """Close its link, and wait until it is connected so many times in all."""
    answer = await one.ask("POST", f"/admin/peers/{peer}/reconnect")
    assert answer.status_code == 204, answer.text
    await one.daemon.linked(peer, times)


def links(one: Operator) -> int:
    return one.daemon.log.count("btp_connection_established")


async def pays(one: Operator, to: str) -> bool:
    return isinstance(await one.daemon.connector.send(to, 1), Fulfill)


@pytest.mark.parametrize("first_is_a", [True, False])
async def test_both_sides_change_one_after_the_other_and_the_link_stays_up(
    network: RunningNodes, first_is_a: bool
) -> None:
    a, b = await pair(network)
    first, second = (a, b) if first_is_a else (b, a)
    name_of_first, name_of_second = ("a", "b") if first_is_a else ("b", "a")
    view = await rotate(first, name_of_second)
    assert view["secretFormerUntil"] is not None
    assert "secretFormer" not in view
    assert links(a) == links(b) == 1
    assert await pays(first, f"g.{name_of_second}")
    # A link that breaks meanwhile comes back: whoever dials, with the secret that the other one knows.
    await relinked(first, name_of_second, 2)
    await second.daemon.linked(name_of_first, 2)
    assert (await peer_of(first))["usesSecretFormer"]
    assert await pays(second, f"g.{name_of_first}")
    await rotate(second, name_of_first)
    assert links(a) == links(b) == 2
    await relinked(first, name_of_second, 3)
    await second.daemon.linked(name_of_first, 3)
    await until(lambda: first.daemon.connector.links.live.get(name_of_second) is not None)
    for _ in range(2):
        if not (await peer_of(first))["usesSecretFormer"]:
            break
        # The dialling side began with the secret that had worked before.
        await relinked(first, name_of_second, links(first) + 1)
    assert await pays(first, f"g.{name_of_second}")


async def test_the_former_secret_ends_by_itself_and_the_disk_forgets_it(
    network: RunningNodes,
) -> None:
    a, b = await pair(network)
    await rotate(a, "b", grace=5)
    assert OLD in (network.folder / "a" / FILE_NAME).read_text()
    assert (await a.get("/api/status"))["secretRotations"][0]["peerId"] == "b"
    # b never changes it: its link is closed at the end, and its log-ins are refused from then on.
    await a.daemon.log.seen("former_secret_over", peer_id="b")
    await b.daemon.log.seen("btp_connection_lost", peer_id="a")
    await a.daemon.log.seen("btp_authentication_failed")
    await until(lambda: OLD not in (network.folder / "a" / FILE_NAME).read_text())
    await until(lambda: a.daemon.connector.settings.peers[0].secret_former is None)
    assert (await a.get("/api/status"))["secretRotations"] == []
    item = await peer_of(a)
    assert (item["connected"], item["secretFormerUntil"]) == (False, None)
    actions = await a.events("ADMIN_ACTION", count=2)
    assert [(one["action"], one["via"]) for one in actions] == [
        ("peer.grace_over", "node"), ("peer.rotate", "key"),
    ]  # fmt: skip
    # Changed at b too, they are linked again.
    assert (await b.ask("PATCH", "/admin/peers/a", {"secret": NEW})).status_code == 200
    await a.daemon.linked("b", 2)


async def test_a_peer_that_has_changed_keeps_its_link_at_the_end(network: RunningNodes) -> None:
    a, b = await pair(network)
    await rotate(a, "b", grace=2)
    assert (await b.ask("PATCH", "/admin/peers/a", {"secret": NEW})).status_code == 200
    await a.daemon.linked("b", 2)
    assert not (await peer_of(a))["usesSecretFormer"]
    await a.daemon.log.seen("former_secret_over", peer_id="b")
    assert await pays(b, "g.a")
    assert links(a) == 2


async def test_it_lasts_over_a_restart_and_the_end_is_kept(network: RunningNodes) -> None:
    a, b = await pair(network)
    until_ = (await rotate(a, "b"))["secretFormerUntil"]
    a = Operator(await network.restart("a"))
    await a.daemon.linked("b")
    item = await peer_of(a)
    assert (item["usesSecretFormer"], item["secretFormerUntil"]) == (True, until_)
    # The same again changes the time only; none of it, and the former one is over.
    await rotate(a, "b", grace=0)
    await b.daemon.log.seen("btp_connection_lost", peer_id="a", times=2)
    assert (
        "secretFormer"
        not in json.loads((network.folder / "a" / FILE_NAME).read_text())["peers"]["b"]
    )


async def test_without_a_time_the_secret_before_ends_at_once(network: RunningNodes) -> None:
    a, b = await pair(network)
    await rotate(a, "b", grace=0)
    await b.daemon.log.seen("btp_connection_lost", peer_id="a")
    await a.daemon.log.seen("btp_authentication_failed")
    assert (await peer_of(a))["connected"] is False


async def test_a_third_secret_ends_the_first(network: RunningNodes) -> None:
    a, b = await pair(network)
    await rotate(a, "b")
    await rotate(a, "b", secret="a-third-secret-of-both")
    # What serves now is the second and the third: the link over the first is closed.
    await b.daemon.log.seen("btp_connection_lost", peer_id="a")
    assert (await b.ask("PATCH", "/admin/peers/a", {"secret": NEW})).status_code == 200
    await a.daemon.linked("b", 2)


async def test_of_the_configuration_it_serves_until_its_time(network: RunningNodes) -> None:
    peer = {
        "secret": NEW, "secret_former": OLD, "secret_former_until": "2999-01-01T00:00:00Z",
    }  # fmt: skip
    a, b = await network.chain("a", "b", peer={"a-b": peer})
    assert a.connector.links.uses_former("b")
    assert isinstance(await b.connector.send("g.a", 1), Fulfill)


async def test_the_command_and_what_it_shows(network: RunningNodes) -> None:
    a, _ = await pair(network)

    async def run(*arguments: str) -> Done:
        env = {
            "CONNECTOR_URL": f"http://127.0.0.1:{a.daemon.connector.http_port}",
            "ADMIN_API_KEY": KEY,
        }
        return await asyncio.to_thread(lambda: command(*arguments, env=env))

    preview = await run(
        "peers", "rotate-secret", "b", "--new-secret", "--grace", "24h", "--dry-run"
    )
    assert preview.code == 0
    words = " ".join(preview.out.split())
    assert "the secret before serves until secretFormerUntil" in words
    assert "the link with b stays up" in words
    assert "b must use the new secret by then" in words
    done = await run("peers", "rotate-secret", "b", "--new-secret", "--grace", "24h", "--yes")
    assert done.code == 0, done.err
    made = done.err.rsplit(": ", 1)[1].strip()
    assert made not in done.out
    assert links(a) == 1
    status = " ".join((await run("status")).out.split())
    assert "the former secret of b serves until 20" in status
    assert "its link still uses it" in status
    for wrong in ("soon", "1", "91d"):
        refused = await run(
            "peers", "rotate-secret", "b", "--new-secret", "--yes", "--grace", wrong
        )
        assert refused.code == 2, wrong
    secret = await run("peers", "edit", "b", "--set", "secretFormer=x", "--yes")
    assert (secret.code, "a secret is no argument" in " ".join(secret.err.split())) == (2, True)
    ended = await run("peers", "end-grace", "b", "--yes")
    assert ended.code == 0, ended.err
    assert "links logged in with it are closed" in " ".join(ended.out.split())
    assert (await a.get("/api/status"))["secretRotations"] == []
    again = await run("peers", "end-grace", "b", "--yes")
    assert (again.code, "nothing changes" in again.out) == (0, True)


@pytest.mark.parametrize(
    "body",
    [{}, {"secret": ""}, {"secret": "two words"}, {"secret": NEW, "graceSeconds": -1},
     {"secret": NEW, "graceSeconds": 10**9}, {"secret": NEW, "grace": 5}],
)  # fmt: skip
async def test_a_wrong_request_is_refused_and_repeats_no_secret(
    network: RunningNodes, body: dict[str, Any]
) -> None:
    a, _ = await pair(network)
    answer = await a.ask("POST", PATH.format("b"), body)
    assert answer.status_code == 422
    assert NEW not in answer.text
    assert (await a.ask("POST", PATH.format("nobody"), {"secret": NEW})).status_code == 404
    assert links(a) == 1


async def test_other_changes_leave_a_former_secret_alone_and_a_new_one_ends_it(
    network: RunningNodes,
) -> None:
    a, _ = await pair(network)
    until_ = (await rotate(a, "b"))["secretFormerUntil"]
    for method, path, body in (
        ("PATCH", "/admin/peers/b", {"creditLimit": "5000"}),
        ("PUT", "/admin/peers/b/limits", {"creditLimit": "6000"}),
        ("PATCH", "/admin/peers/b", {"enabled": False}),
        ("PATCH", "/admin/peers/b", {"enabled": True}),
        ("PUT", "/admin/peers/b", {"routes": ["g.b"]}),
    ):
        answer = await a.ask(method, path, body)
        assert (answer.status_code, answer.json()["secretFormerUntil"]) == (200, until_), (
            answer.text
        )
    assert links(a) == 1
    assert (await peer_of(a))["usesSecretFormer"]
    answer = await a.ask("PATCH", "/admin/peers/b", {"secret": "a-third-secret-of-both"})
    assert (answer.status_code, answer.json()["secretFormerUntil"]) == (200, None)
    await a.daemon.log.seen("btp_connection_lost", peer_id="b")
