"""Peers and routes operated while nodes run: by the API, and by the commands in front of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill, Reject
from connector.settings.overlay import FILE_NAME
from tests.support.admin import KEY, Operator
from tests.support.commands import Done, command
from tests.support.daemons import RunningNodes, until


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[RunningNodes]:
    async with RunningNodes(tmp_path) as network:
        yield network


async def pair(network: RunningNodes, **peer: Any) -> tuple[Operator, Operator]:
    """a and b, linked; a has a key."""
    a, b = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}}, peer={"a-b": peer})
    return Operator(a), Operator(b)


async def run(a: Operator, *arguments: str) -> Done:
    """A command for node a."""
    env = {
        "CONNECTOR_URL": f"http://127.0.0.1:{a.daemon.connector.http_port}", "ADMIN_API_KEY": KEY,
    }  # fmt: skip
    return await asyncio.to_thread(lambda: command(*arguments, env=env))


async def test_a_disabled_peer_takes_part_in_no_new_packet_also_after_a_restart(
    network: RunningNodes,
) -> None:
    a, b = await pair(network)
    assert isinstance(await b.daemon.connector.send("g.a", 5), Fulfill)
    answer = await a.ask("PATCH", "/admin/peers/b", {"enabled": False})
    assert (answer.status_code, answer.json()["enabled"]) == (200, False)
    assert answer.json()["creditLimit"] == (await a.get("/admin/peers/b"))["creditLimit"]
    for _ in range(2):
        refused = await b.daemon.connector.send("g.a", 5)
        assert isinstance(refused, Reject)
        assert (refused.code, refused.message) == ("T03", "this peer is disabled")
        out = await a.daemon.connector.send("g.b", 5)
        assert isinstance(out, Reject)
        assert out.code == "F02", "nothing is routed to it"
        (item,) = (await a.get("/api/peers"))["items"]
        assert (item["enabled"], item["draining"], item["connected"]) == (False, False, True)
        a = Operator(await network.restart("a"))
        await until(lambda: "a" in b.daemon.connector.links.live)
    assert (await a.ask("PATCH", "/admin/peers/b", {"enabled": True})).status_code == 200
    assert isinstance(await b.daemon.connector.send("g.a", 5), Fulfill)
    assert json.loads((network.folder / "a" / FILE_NAME).read_text())["peers"] == {}
    actions = await a.events("ADMIN_ACTION", count=2)
    assert [one["action"] for one in actions] == ["peer.edit", "peer.edit"]


async def test_an_edit_changes_what_is_named_and_keeps_the_rest(network: RunningNodes) -> None:
    a, b = await pair(network, max_payable=900)
    before = await a.get("/admin/peers/b")
    answer = await a.ask("PATCH", "/admin/peers/b", {"creditLimit": "777", "maxPayable": None})
    after = answer.json()
    assert (after["creditLimit"], after["maxPayable"]) == ("777", None)
    changed = {"creditLimit", "maxPayable", "maxPrepaid", "changed"}
    assert {name for name in before if before[name] != after[name]} == changed
    assert a.daemon.log.count("btp_connection_established") == 1, "its link was not touched"
    assert (await a.ask("PATCH", "/admin/peers/b", {"nonsense": 1})).status_code == 422
    assert (await a.ask("PATCH", "/admin/peers/x", {"enabled": True})).status_code == 404
    elsewhere = await a.ask("PATCH", "/admin/peers/b", {"url": "ws://127.0.0.1:9"})
    assert (elsewhere.status_code, "give the secret again" in elsewhere.text) == (422, True)
    assert isinstance(await b.daemon.connector.send("g.a", 5), Fulfill)


async def test_a_preview_changes_nothing_and_is_refused_as_the_change_would_be(
    network: RunningNodes,
) -> None:
    a, b = await pair(network)
    assert isinstance(await b.daemon.connector.send("g.a", 40), Fulfill)
    shown = await a.ask("PATCH", "/admin/peers/b?preview=true", {"secret": "another-long-secret"})
    assert shown.status_code == 200
    assert "another-long-secret" not in shown.text
    assert shown.json()["changes"] == [
        {"target": "b", "field": "secret", "from": "(secret)", "to": "(secret)"}
    ]
    removal = (await a.ask("DELETE", "/admin/peers/b?preview=true")).json()
    assert any("it owes us 0.00000004 USD" in one for one in removal["effects"])
    refused = await a.ask("PUT", "/admin/peers/b/limits?preview=true", {"creditLimit": 39})
    assert (refused.status_code, "uses 40" in refused.text) == (409, True)
    assert not (network.folder / "a" / FILE_NAME).exists()
    assert await a.events("ADMIN_ACTION", count=0) == []
    assert isinstance(await b.daemon.connector.send("g.a", 5), Fulfill)


async def test_of_two_operators_none_does_what_was_not_shown_to_him(network: RunningNodes) -> None:
    a, b = await pair(network)
    edit, mine = "/admin/peers/b", {"routes": ["g.b", "g.mine"]}
    theirs = {"routes": ["g.b", "g.theirs"]}
    seen = (await a.ask("PATCH", f"{edit}?preview=true", mine)).json()
    gone = (await a.ask("DELETE", f"{edit}?preview=true&force=true")).json()
    # What packets change meanwhile is no other preview.
    assert isinstance(await b.daemon.connector.send("g.a", 40), Fulfill)
    assert (await a.ask("PATCH", edit, theirs)).status_code == 200
    late = await a.ask("PATCH", f"{edit}?shown={seen['shown']}", mine)
    assert (late.status_code, "look again" in late.text) == (409, True)
    assert (await a.get(edit))["routes"] == ["g.b", "g.theirs"]
    again = (await a.ask("PATCH", f"{edit}?preview=true", mine)).json()
    assert again["shown"] != seen["shown"]
    assert (await a.ask("PATCH", f"{edit}?shown={again['shown']}", mine)).status_code == 200
    # Done already by somebody else: that is what was wanted.
    assert (await a.ask("PATCH", f"{edit}?shown={again['shown']}", mine)).status_code == 200
    route = {"prefix": "g.x", "nextHop": "b"}
    shown = (await a.ask("POST", "/admin/routes?preview=true", route)).json()["shown"]
    assert (await a.ask("POST", "/admin/routes?shown=other", route)).status_code == 409
    assert (await a.ask("POST", f"/admin/routes?shown={shown}", route)).status_code == 201
    # Nor is its balance, which has changed since, what binds a removal.
    removed = await a.ask("DELETE", f"{edit}?force=true&shown={gone['shown']}")
    assert removed.status_code in (200, 204)


async def test_a_link_is_opened_anew_on_request(network: RunningNodes) -> None:
    a, b = await pair(network)
    assert (await a.ask("POST", "/admin/peers/b/reconnect")).status_code == 204
    await until(lambda: a.daemon.log.count("btp_connection_established") == 2)
    await until(lambda: "a" in b.daemon.connector.links.live)
    assert (await a.ask("POST", "/admin/peers/nobody/reconnect")).status_code == 404
    assert (await a.events("ADMIN_ACTION"))[0]["action"] == "peer.reconnect"


async def test_settling_by_hand_is_recorded_as_an_action(network: RunningNodes) -> None:
    a, _b = await pair(network)
    assert isinstance(await a.daemon.connector.send("g.b", 40), Fulfill)
    path = "/admin/accounts/b/settlements"
    paid = await a.ask("POST", path, {"direction": "outgoing", "amount": "40"})
    assert paid.status_code == 201, paid.text
    wrong = await a.ask("POST", f"{path}/{'0' * 32}/confirm")
    assert wrong.status_code == 404
    actions = await a.events("ADMIN_ACTION", count=2)
    assert [(one["action"], one["target"]) for one in actions] == [
        ("settlement.confirm", "b"), ("settlement.record", "b"),
    ]  # fmt: skip
    assert actions[0]["outcome"].startswith("refused: ")
    assert actions[1]["outcome"] == "ok: outgoing 40 USD/9"


async def test_the_commands_show_what_will_happen_and_ask(network: RunningNodes) -> None:
    a, _b = await pair(network)
    unasked = await run(a, "limits", "b", "--credit-limit", "2.5USD")
    assert unasked.code == 2, "nobody can be asked"
    assert "1 USD" in unasked.out
    assert "2.5 USD" in unasked.out
    assert "the link with b stays up" in unasked.out
    assert "--yes" in unasked.err
    assert (await a.get("/admin/peers/b"))["creditLimit"] == "1000000000"
    done = await run(a, "limits", "b", "--credit-limit", "2.5USD", "--yes")
    assert (done.code, "were changed" in done.out) == (0, True)
    assert (await a.get("/admin/peers/b"))["creditLimit"] == "2500000000"
    body = (await run(a, "limits", "b", "--json")).json
    assert (body["id"], body["creditLimit"], body["maxPayable"]) == ("b", "2500000000", None)
    again = await run(a, "limits", "b", "--credit-limit", "2.5USD", "--json")
    assert (again.code, again.json["done"]) == (0, False), "there is nothing to change"
    back = await run(a, "limits", "b", "--credit-limit", "default", "--yes", "--json")
    assert back.json["done"] is True
    assert back.json["answer"]["creditLimit"] == "1000000000"
    wrong = await run(a, "limits", "b", "--credit-limit", "2.5EUR", "--yes")
    assert (wrong.code, "the asset of this peer is USD" in wrong.err) == (2, True)


async def test_a_peer_from_its_first_day_to_its_last(network: RunningNodes, tmp_path: Path) -> None:
    a, _b = await pair(network)
    secret = tmp_path / "secret"
    secret.write_text("of-a-and-carol\n")
    added = await run(
        a, "peers", "add", "carol", "--secret-file", str(secret), "--route", "g.carol",
        "--credit-limit", "1.5USD", "--set", "maxPacketAmount=7", "--yes",
    )  # fmt: skip
    assert added.code == 0, added.err
    assert "of-a-and-carol" not in added.out + added.err
    assert "packets for g.carol go to carol" in added.out
    settings = await a.get("/admin/peers/carol")
    assert (settings["creditLimit"], settings["maxPacketAmount"]) == ("1500000000", "7")
    shown = await run(a, "peers", "show", "carol")
    assert (shown.code, "1.5 USD" in shown.out) == (0, True)
    for verb, said in (
        ("disable", "carol is disabled"), ("enable", "carol is enabled"),
        ("expect", "carol may be offline"), ("drain", "carol is drained"),
    ):  # fmt: skip
        did = await run(a, "peers", verb, "carol", "--yes")
        assert (did.code, said in did.out) == (0, True), did.out + did.err
    (item,) = [one for one in (await a.get("/api/peers"))["items"] if one["peerId"] == "carol"]
    assert (item["enabled"], item["offlineExpected"]) == (False, True)
    rotated = await run(a, "peers", "rotate-secret", "carol", "--new-secret", "--yes", "--json")
    assert rotated.json["preview"]["action"] == "peer.rotate"
    made = rotated.err.rsplit(": ", 1)[1].strip()
    assert len(made) >= 32
    assert made not in rotated.out
    assert (await run(a, "peers", "reconnect", "carol")).code == 1, "it dials us, and has no link"
    routed = await run(a, "routes", "add", "default", "carol", "--yes")
    assert "packets for all else go to carol" in routed.out
    assert (await run(a, "routes", "remove", "default", "carol", "--yes")).code == 0
    removed = await run(a, "peers", "remove", "carol", "--yes", "--json")
    assert (removed.code, removed.json["done"]) == (0, True)
    assert (await run(a, "peers", "show", "carol")).code != 0
    assert "carol" not in (await run(a, "peers")).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("peers", "add", "x", "--yes"), "a peer needs a secret"),
        (("peers", "add", "x", "--set", "secret=abc"), "a secret is no argument"),
        (("peers", "--json", "add", "x"), "belongs behind `add`"),
        (("peers", "edit", "b"), "nothing to change is named"),
        (("peers", "rotate-secret", "b"), "which secret"),
        (("peers", "edit", "b", "--set", "creditLimit"), "is not NAME=VALUE"),
        (("peers", "add", "x", "--secret-file", "/nowhere/at-all"), "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    arguments: tuple[str, ...], said: str
) -> None:
    done = command(*arguments, env={"CONNECTOR_URL": "http://127.0.0.1:9", "COLUMNS": "300"})
    assert done.code == 2
    assert said in done.err
