"""Peers, routes and limits changed while nodes run: over HTTP, with real links, over restarts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector import Connector, Fulfill, PeerSettings, Reject, Settings
from connector.base.errors import ConfigError
from connector.settings.overlay import FILE_NAME
from connector.tools.audit import audit
from tests.support.admin import KEY, Operator
from tests.support.daemons import CLOCK, EventLog, RunningNodes, until
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[RunningNodes]:
    async with RunningNodes(tmp_path) as network:
        yield network


UNKNOWN_ROUTE = "there is no such static route; those in a peer's own settings are changed there"


async def node(network: RunningNodes, name: str, *peers: PeerSettings, **settings: Any) -> Operator:
    return Operator(await network.add(name, list(peers), admin_api_key=KEY, **settings))


async def again(network: RunningNodes, name: str) -> Operator:
    return Operator(await network.restart(name))


def saved(network: RunningNodes, name: str) -> Path:
    return network.folder / name / FILE_NAME


async def test_a_peer_added_while_running_dials_forwards_and_survives_a_restart(
    network: RunningNodes,
) -> None:
    """b is added to a and dialled; the other neighbour of a never notices."""
    b = await node(network, "b", PeerSettings(id="a", secret="of-a-and-b"))
    c = await node(network, "c", PeerSettings(id="a", secret="of-a-and-c", routes=["g.b", "g.a"]))
    a = await node(
        network,
        "a",
        PeerSettings(id="c", secret="of-a-and-c", url=network.url_of("c"), routes=["g.c"]),
    )
    await c.daemon.linked("a")
    assert isinstance(await c.daemon.connector.send("g.b", 5), Reject)
    wanted = {
        "id": "b", "secret": "of-a-and-b", "url": network.url_of("b"), "routes": ["g.b"],
        "creditLimit": "5000", "maxPayable": 700,
    }  # fmt: skip
    answer = await a.ask("POST", "/admin/peers", wanted)
    assert answer.status_code == 201, answer.text
    assert answer.json()["creditLimit"] == "5000"
    assert answer.json()["source"] == "admin"
    assert "of-a-and-b" not in answer.text
    await b.daemon.linked("a")
    assert isinstance(await c.daemon.connector.send("g.b", 500), Fulfill)
    assert a.daemon.net("b") == -500
    assert c.daemon.log.count("btp_connection_established") == 1, "its link did not change"
    account = await a.account("b")
    assert account is not None
    assert (account["netBalance"], account["maxPayable"]) == ("-500", "700")

    same = await a.ask("POST", "/admin/peers", wanted)
    assert same.status_code == 200, "said twice is said once"
    other = await a.ask("POST", "/admin/peers", {**wanted, "creditLimit": 1})
    assert other.status_code == 409
    assert a.daemon.log.count("admin_action", action="peer.create", outcome="ok") == 1

    a = await again(network, "a")
    await b.daemon.linked("a", times=2)
    await c.daemon.linked("a", times=2)
    assert isinstance(await c.daemon.connector.send("g.b", 100), Fulfill)
    assert a.daemon.net("b") == -600
    assert isinstance(await c.daemon.connector.send("g.b", 101), Reject), "700 is the most"
    assert saved(network, "a").stat().st_mode & 0o077 == 0
    assert await network.stop() == []


async def test_a_peer_with_a_balance_stays_visible_until_it_is_settled(
    network: RunningNodes,
) -> None:
    a, b = (
        Operator(one) for one in await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    )
    assert isinstance(await b.daemon.connector.send("g.a", 40), Fulfill)
    assert (await a.ask("DELETE", "/admin/peers/b")).status_code == 204
    await until(lambda: "a" not in b.daemon.connector.links.live)
    assert isinstance(await a.daemon.connector.send("g.b", 1), Reject)
    assert (await a.get("/admin/peers"))["items"] == []
    assert (await a.ask("GET", "/admin/peers/b")).status_code == 404
    assert (await a.ask("DELETE", "/admin/peers/b")).status_code == 204, "gone is gone"
    assert (await a.ask("DELETE", "/admin/peers/nobody")).status_code == 404

    for _ in range(2):
        account = await a.account("b")
        assert account is not None
        assert (account["removed"], account["netBalance"]) == (True, "40")
        a = await again(network, "a")
    assert (await audit(a.daemon.settings, CLOCK)).ok
    assert not a.daemon.connector.links.live, "b may not log in"

    euro = {"id": "b", "secret": "secret-a-b", "assetCode": "EUR"}
    refused = await a.ask("POST", "/admin/peers", euro)
    assert refused.status_code == 409
    assert "40" in refused.text
    too_little = await a.ask(
        "POST", "/admin/peers", {"id": "b", "secret": "secret-a-b", "creditLimit": 39}
    )
    assert (too_little.status_code, "uses 40" in too_little.text) == (409, True)
    back = {"id": "b", "secret": "secret-a-b", "routes": ["g.b"]}
    assert (await a.ask("POST", "/admin/peers", back)).status_code == 201
    await until(lambda: "b" in a.daemon.connector.links.live)
    assert isinstance(await a.daemon.connector.send("g.b", 40), Fulfill)
    account = await a.account("b")
    assert account is not None
    assert (account["removed"], account["netBalance"]) == (False, "0")

    assert (await a.ask("DELETE", "/admin/peers/b")).status_code == 204
    assert await a.account("b") is None, "even: nothing to see"
    assert (await a.ask("POST", "/admin/peers", euro)).status_code == 201
    assert json.loads(saved(network, "a").read_text())["peers"]["b"]["assetCode"] == "EUR"


@pytest.mark.parametrize("force", [False, True])
async def test_packets_under_way_when_a_peer_goes_are_answered(
    network: RunningNodes, *, force: bool
) -> None:
    """c keeps the packet; b removes c: it waits for the answer, or gives the money back at once."""
    a, b, c = await network.chain("a", "b", "c", node={"b": {"admin_api_key": KEY}})
    keeps = asyncio.Event()

    async def keep(_prepare: object) -> Fulfill:
        await keeps.wait()
        return Fulfill(fulfillment=bytes(32))

    c.connector.on_prepare(keep)
    sending = asyncio.ensure_future(a.connector.send("g.c", 7, fulfillment=bytes(32)))
    await until(lambda: b.connector.accounts.peers["a"].peer.debits_pending == 7)
    operator = Operator(b)
    if force:
        gone = await operator.ask("DELETE", "/admin/peers/c?force=true")
        assert gone.status_code == 200
        assert gone.json() == {"packetsUnanswered": 1, "amountUnanswered": "7"}
        assert b.log.count("peer_removed_with_packets_unanswered", packets=1, amount="7") == 1
    else:
        going = asyncio.ensure_future(operator.ask("DELETE", "/admin/peers/c"))
        await until(lambda: b.connector.core.peers["c"].draining)
        refused = await a.connector.send("g.c", 1, fulfillment=bytes(32))
        assert isinstance(refused, Reject)
        assert refused.code == "F02"
        keeps.set()
        assert (await going).status_code == 204
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await sending
    if force:
        assert isinstance(answer, Reject)
        assert answer.code == "T00"
    else:
        assert isinstance(answer, Fulfill)
    await until(lambda: b.connector.accounts.peers["a"].peer.debits_pending == 0)
    assert b.net("a") == (0 if force else 7)
    keeps.set()  # or c would wait for it when it stops


async def test_settings_of_a_configured_peer_are_changed_and_the_rest_follows_the_configuration(
    network: RunningNodes,
) -> None:
    a, b = (
        Operator(one) for one in await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    )
    before = await a.get("/admin/peers/b")
    assert (before["source"], before["changed"]) == ("config", [])
    wanted = {"routes": ["g.b"], "rateLimit": 900, "maxPacketAmount": "50"}
    answer = await a.ask("PUT", "/admin/peers/b", wanted)
    assert (answer.status_code, answer.json()["changed"]) == (200, ["maxPacketAmount", "rateLimit"])
    assert isinstance(await b.daemon.connector.send("g.a", 50), Fulfill)
    assert isinstance(await b.daemon.connector.send("g.a", 51), Reject)
    assert b.daemon.log.count("btp_connection_lost") == 0, "limits are not the link's concern"
    assert (await a.ask("PUT", "/admin/peers/b", wanted)).status_code == 200
    assert a.daemon.log.count("admin_action", action="peer.replace") == 1

    # The secret may change in the configuration later: it is not part of what was changed here.
    assert "secret" not in saved(network, "a").read_text()
    changed = [PeerSettings(id="b", secret="new", routes=["g.b"])]
    a.daemon.settings = a.daemon.settings.model_copy(update={"peers": changed})
    a = await again(network, "a")
    assert a.daemon.connector.settings.peers[0].secret.get_secret_value() == "new"
    assert a.daemon.connector.settings.peers[0].rate_limit == 900


async def test_a_new_secret_ends_the_link_of_the_old_one(network: RunningNodes) -> None:
    a, b = (
        Operator(one) for one in await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    )
    assert (await a.ask("PUT", "/admin/peers/b", {"secret": "another", "routes": ["g.b"]})
            ).status_code == 200  # fmt: skip
    await b.daemon.log.seen("btp_connection_lost", peer_id="a")
    await a.daemon.log.seen("btp_authentication_failed")
    assert not a.daemon.connector.links.live


async def test_off_loopback_a_peer_with_a_secret_that_can_be_guessed_is_not_added(
    network: RunningNodes,
) -> None:
    a = Operator(await network.add("a", [], admin_api_key=KEY, btp_server_host="0.0.0.0"))
    for secret in ("hunter2", "change-me-and-do-not-guess"):
        answer = await a.ask("POST", "/admin/peers", {"id": "b", "secret": secret})
        assert answer.status_code == 422
        assert "BTP_PEER_B_SECRET has" in answer.text
        assert secret not in answer.text
    long = {"id": "b", "secret": "long-and-random-without-blanks"}
    assert (await a.ask("POST", "/admin/peers", long)).status_code == 201


async def test_limits_are_raised_lowered_and_refused_when_in_use(network: RunningNodes) -> None:
    a, b = (
        Operator(one) for one in await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    )
    assert isinstance(await b.daemon.connector.send("g.a", 600), Fulfill)
    answer = await a.ask("PUT", "/admin/peers/b/limits", {"creditLimit": "1000"})
    assert (answer.status_code, answer.json()["creditLimit"]) == (200, "1000")
    assert isinstance(await b.daemon.connector.send("g.a", 401), Reject)
    answer = await a.ask("PUT", "/admin/peers/b/limits", {"creditLimit": 599})
    assert answer.status_code == 409
    assert answer.json()["error"] == (
        "peer b uses 600 of its credit of 1000; a limit of 599 is below that: let it pay first"
    )
    assert json.loads(saved(network, "a").read_text())["peers"]["b"] == {"creditLimit": 1000}
    answer = await a.ask("PUT", "/admin/peers/b/limits", {"creditLimit": 600, "maxPayable": 5})
    assert answer.status_code == 200
    account = await a.account("b")
    assert account is not None
    assert (account["granted"], account["availableCredit"], account["maxPayable"]) == (
        "600",
        "0",
        "5",
    )
    assert isinstance(await b.daemon.connector.send("g.a", 1), Reject)
    a = await again(network, "a")
    await b.daemon.linked("a", times=2)
    assert isinstance(await b.daemon.connector.send("g.a", 1), Reject)
    answer = await a.ask("PUT", "/admin/peers/b/limits", {"creditLimit": None, "maxPayable": None})
    assert answer.json()["creditLimit"] == str(a.daemon.settings.credit_limit)
    assert isinstance(await b.daemon.connector.send("g.a", 1), Fulfill)
    assert await network.stop() == []


async def test_static_routes_come_and_go(network: RunningNodes) -> None:
    a, _b = (
        Operator(one) for one in await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    )
    route = {"prefix": "g.far", "nextHop": "b"}
    assert (await a.ask("POST", "/admin/routes", route)).status_code == 201
    assert (await a.ask("PUT", "/admin/routes", route)).status_code == 200
    assert (await a.get("/admin/routes"))["items"] == [
        {**route, "source": "admin", "announcedTo": []}
    ]
    explained = await a.get("/admin/routes/explain?destination=g.far.away")
    assert explained["chosen"]["nextHop"] == "b"
    a = await again(network, "a")
    assert a.daemon.connector.explain("g.far.away").chosen is not None
    unknown = await a.ask("POST", "/admin/routes", {"prefix": "g.x", "nextHop": "nobody"})
    assert (unknown.status_code, "no configured peer" in unknown.text) == (422, True)
    gone = await a.ask("DELETE", "/admin/routes?prefix=g.far&nextHop=b")
    assert gone.status_code == 204
    assert a.daemon.connector.explain("g.far.away").chosen is None
    assert (await a.ask("DELETE", "/admin/routes?prefix=g.far&nextHop=b")).status_code == 404
    (removed,) = await a.events("ROUTE_REMOVED")
    assert (removed["prefix"], removed["nextHop"], removed["source"]) == ("g.far", "b", "admin")
    actions = await a.events("ADMIN_ACTION", count=4)
    assert [(one["action"], one["outcome"]) for one in reversed(actions)] == [
        ("route.add", "ok"),
        ("route.add", "nextHop: is no configured peer"),
        ("route.delete", "ok"),
        ("route.delete", UNKNOWN_ROUTE),
    ]
    assert len(actions[0]["keyFingerprint"]) == 8


async def test_a_configured_route_is_removed_for_good_and_comes_back(network: RunningNodes) -> None:
    routes = [{"prefix": "g.far", "nextHop": "b"}]
    a = await node(network, "a", PeerSettings(id="b", secret="s"), routes=routes)
    assert (await a.ask("DELETE", "/admin/routes?prefix=g.far&nextHop=b")).status_code == 204
    a = await again(network, "a")
    assert a.daemon.connector.explain("g.far").chosen is None
    assert (await a.ask("DELETE", "/admin/routes?prefix=g.far&nextHop=b")).status_code == 204
    assert (await a.ask("POST", "/admin/routes", routes[0])).status_code == 201
    assert not json.loads(saved(network, "a").read_text())["removedRoutes"]
    # A route goes with its peer, and comes with it.
    assert (await a.ask("DELETE", "/admin/peers/b")).status_code == 204
    assert (await a.get("/admin/routes"))["items"] == []
    assert (await a.ask("POST", "/admin/peers", {"id": "b", "secret": "s"})).status_code == 201
    assert (await a.get("/admin/routes"))["items"] == [
        {**routes[0], "source": "config", "announcedTo": []}
    ]


async def test_packets_are_sent_from_the_node(network: RunningNodes) -> None:
    a, b = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    operator = Operator(a)
    answer = await operator.ask("POST", "/admin/packets", {"destination": "g.b", "amount": "9"})
    assert (answer.status_code, answer.json()["status"]) == (200, "fulfilled")
    assert b.net("a") == 9
    secret = bytes(range(32))

    async def receive(prepare: Any) -> Fulfill:
        assert prepare.data == b"hello"
        return Fulfill(fulfillment=secret, data=b"thanks")

    b.connector.on_prepare(receive)
    packet = {
        "destination": "g.b.x", "amount": 1, "data": base64.b64encode(b"hello").decode(),
        "condition": hashlib.sha256(secret).hexdigest(), "expirySeconds": 5,
    }  # fmt: skip
    said = (await operator.ask("POST", "/admin/packets", packet)).json()
    assert said.pop("durationMs") >= 0
    assert said == {
        "status": "fulfilled", "fulfillment": secret.hex(),
        "data": base64.b64encode(b"thanks").decode(),
    }  # fmt: skip
    said = (await operator.ask("POST", "/admin/packets", {"destination": "g.nowhere"})).json()
    assert (said["status"], said["code"], said["triggeredBy"]) == ("rejected", "F02", "g.a")
    for wrong in ({"destination": "no address"}, {"destination": "g.b", "amount": -1},
                  {"destination": "g.b", "data": "?"}, {"destination": "g.b", "condition": "1"},
                  {"destination": "g.b", "expirySeconds": 0}, {}):  # fmt: skip
        assert (await operator.ask("POST", "/admin/packets", wrong)).status_code == 422
    assert a.log.count("admin_action", action="packet.send") == 3


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("path", "body", "faults"),
    [
        ("/admin/peers", {"id": "B B", "secret": SECRET, "url": f"ws://x:{SECRET}@h", "assetScale": 999,
                          SECRET: 1}, ["body.id", "body.url", "body.assetScale", "unknown field"]),
        ("/admin/peers", {"id": "b", "secret": SECRET + "\n"}, ["secret must be 1 to 1024"]),
        ("/admin/peers", {"id": "b", "secret": ""}, ["secret must not be empty"]),
        ("/admin/peers", {"id": "b"}, ["body.secret"]),
        ("/admin/peers", {"id": "b", "secret": [SECRET]}, ["body.secret"]),
        ("/admin/peers", SECRET, ["body"]),
        ("/admin/peers", {"id": "b", "secret": "of-a-and-c"}, ["have the same secret"]),
        ("/admin/peers", {"id": "p", "secret": SECRET, "relation": "parent"}, ["more than one parent"]),
        ("/admin/peers", {"id": "b", "secret": SECRET, "settleTo": 2, "settleThreshold": 1},
         ["settleTo must not be above"]),
        ("/admin/routes", {"prefix": SECRET + " ", "nextHop": "c"}, ["body.prefix"]),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_all_at_once_and_changes_nothing(
    network: RunningNodes, path: str, body: Any, faults: list[str]
) -> None:
    a = await node(
        network,
        "a",
        PeerSettings(id="c", secret="of-a-and-c", relation="parent"),
    )
    answer = await a.ask("POST", path, body)
    assert answer.status_code == 422
    for fault in faults:
        assert fault in answer.json()["error"]
    assert SECRET not in answer.text
    assert SECRET not in str(a.daemon.log.events)
    assert SECRET not in str(await a.events("ADMIN_ACTION", count=0))
    assert not saved(network, "a").exists()
    assert [peer["id"] for peer in (await a.get("/admin/peers"))["items"]] == ["c"]


async def test_a_put_needs_a_secret_only_for_a_new_peer_and_its_own_id(
    network: RunningNodes,
) -> None:
    a = await node(network, "a")
    answer = await a.ask("PUT", "/admin/peers/b", {"creditLimit": 1})
    assert (answer.status_code, "secret" in answer.text) == (422, True)
    assert (await a.ask("PUT", "/admin/peers/b", {"secret": "s", "id": "c"})).status_code == 422
    assert (await a.ask("PUT", "/admin/peers/b", {"secret": "s"})).status_code == 201
    assert (await a.ask("PUT", "/admin/peers/b", {"creditLimit": 1, "id": "b"})).status_code == 200
    assert (await a.ask("PUT", "/admin/peers/B", {"secret": "s"})).status_code == 422
    asset = await a.ask("PUT", "/admin/peers/b", {"assetScale": 2})
    assert (asset.status_code, "delete it and add it again" in asset.text) == (409, True)


async def test_what_cannot_be_kept_is_not_done(network: RunningNodes) -> None:
    """The folder of the changes is gone: nothing is taken up that a restart would forget."""
    a = await node(network, "a", data_dir=network.folder / "x" / "a")
    path = a.daemon.connector.control._path
    a.daemon.connector.control._path = network.folder / "file" / FILE_NAME
    (network.folder / "file").write_text("in the way")
    answer = await a.ask("POST", "/admin/peers", {"id": "b", "secret": "s"})
    assert (answer.status_code, "cannot be kept" in answer.text) == (503, True)
    assert (await a.get("/admin/peers"))["items"] == []
    a.daemon.connector.control._path = path
    assert (await a.ask("POST", "/admin/peers", {"id": "b", "secret": "s"})).status_code == 201


async def test_a_ledger_that_is_away_changes_nothing(
    network: RunningNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connector.base.errors import LedgerUnavailableError

    a = await node(network, "a")

    async def away(_accounts: object) -> object:
        raise LedgerUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(a.daemon.connector.accounts.ledger, "create_accounts", away)
        answer = await a.ask("POST", "/admin/peers", {"id": "b", "secret": "s", "assetCode": "EUR"})
    assert (answer.status_code, answer.json()["error"]) == (503, "no answer")
    assert json.loads(saved(network, "a").read_text())["peers"] == {}
    assert await a.account("b") is None
    assert (await a.ask("POST", "/admin/peers", {"id": "b", "secret": "s", "assetCode": "EUR"})
            ).status_code == 201  # fmt: skip


async def test_changes_at_once_wait_for_one_another(network: RunningNodes) -> None:
    a = await node(network, "a")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(a.ask("POST", "/admin/peers", {"id": f"p{n}", "secret": f"s{n}"}))
            for n in range(20)
        ]
    assert {task.result().status_code for task in tasks} == {201}
    a = await again(network, "a")
    assert len((await a.get("/admin/peers"))["items"]) == 20


async def test_a_parent_added_later_gives_the_address(network: RunningNodes) -> None:
    parent = await node(network, "up", PeerSettings(id="a", secret="s", relation="child"))
    a = await node(network, "a", ilp_address=None)
    assert a.daemon.connector.node.address == "test.a"
    wanted = {"id": "up", "secret": "s", "relation": "parent", "url": network.url_of("up")}
    assert (await a.ask("POST", "/admin/peers", wanted)).status_code == 201
    await parent.daemon.linked("a")
    explained = await a.get("/admin/routes/explain?destination=g.far")
    assert (explained["chosen"]["source"], explained["chosen"]["nextHop"]) == ("parent", "up")
    a = await again(network, "a")
    await until(lambda: a.daemon.connector.node.address == "g.up.a")


# --- the file


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("{", ["is not JSON, line 1"]),
        ("[]", ["must be keys with values"]),
        ('{"version": 2}', ["version: must be 1"]),
        ('{"peers": {"b": {"creditLimit": -1, "secret": "hunter2"}, "C": {}}}', ["peers.C", "must be 1 to 63"]),
        ('{"peers": {"b": {"creditLimit": -1, "nonsense": 1, "secret": "hunter2"}}}',
         ["peer b: creditLimit", "peer b: nonsense"]),
        ('{"peers": {"b": {"secret": "of-c"}}}', ["have the same secret"]),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_used_is_refused_with_all_its_faults(
    tmp_path: Path, text: str, faults: list[str]
) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    settings = Settings(data_dir=tmp_path, peers=[PeerSettings(id="c", secret="of-c")])
    connector = Connector(settings, log=EventLog())  # reads no file
    with pytest.raises(ConfigError) as caught:
        await connector.__aenter__()
    for fault in faults:
        assert fault in str(caught.value)
    assert all(str(tmp_path / FILE_NAME) in fault for fault in caught.value.faults)
    assert "hunter2" not in str(caught.value)


async def test_what_refers_to_a_peer_that_is_configured_no_more_is_left_out(tmp_path: Path) -> None:
    content = {
        "peers": {"gone": {"creditLimit": 5}},
        "removedPeers": ["gone-too"],
        "routes": [{"prefix": "g.x", "nextHop": "gone"}],
        "removedRoutes": [{"prefix": "g.y", "nextHop": "gone"}],
    }
    (tmp_path / FILE_NAME).write_text(json.dumps(content))
    settings = Settings(
        data_dir=tmp_path,
        btp_server_port=0,
        http_port=0,
        peers=[PeerSettings(id="c", secret="of-c")],
    )
    async with Connector(settings, log=EventLog()) as connector:
        assert [peer.id for peer in connector.settings.peers] == ["c"]
        assert connector.settings.routes == []


def test_the_effective_configuration_names_the_file_as_source(tmp_path: Path) -> None:
    from connector.settings.describe import describe
    from connector.settings.load import load
    from connector.settings.overlay import with_changes

    content = {"peers": {"c": {"creditLimit": 5}, "d": {"secret": "hunter2"}}}
    (tmp_path / FILE_NAME).write_text(json.dumps(content))
    rows = {
        name: (value, source)
        for name, value, source in describe(
            with_changes(load({"DATA_DIR": str(tmp_path), "BTP_PEER_C_SECRET": "s"}))
        )
    }
    path = str(tmp_path / FILE_NAME)
    assert rows["BTP_PEER_C_CREDIT_LIMIT"] == ("5", path)
    assert rows["BTP_PEER_C_SECRET"] == ("[redacted]", "BTP_PEER_C_SECRET")
    assert rows["BTP_PEER_D_SECRET"] == ("[redacted]", path)
