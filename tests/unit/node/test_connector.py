"""`Connector` as a library object: what it does before, at and after its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector import Connector, Fulfill, PeerSettings, Prepare, Reject, Settings
from connector.base.errors import ConfigError
from connector.settings.model import RouteSettings
from connector.settings.overlay import FILE_NAME as CHANGES_FILE
from connector.version import is_compiled
from tests.support.daemons import EventLog

FULFILLMENT = b"f" * 32


def settings(folder: Path) -> Settings:
    return Settings(
        node_id="me",
        ilp_address="g.me",
        btp_server_port=0,
        http_port=0,
        ledger="memory",
        data_dir=folder,
        peers=[PeerSettings(id="bob", secret="of-bob")],
    )


def test_making_one_reads_and_makes_no_file(tmp_path: Path) -> None:
    Connector(settings(tmp_path / "new"), log=EventLog())
    assert not (tmp_path / "new").exists()


async def test_changes_that_cannot_be_used_are_a_fault_of_the_start(tmp_path: Path) -> None:
    (tmp_path / CHANGES_FILE).write_text("{")
    connector = Connector(settings(tmp_path), log=EventLog())
    with pytest.raises(ConfigError, match=CHANGES_FILE):
        await connector.__aenter__()


async def test_a_change_of_an_earlier_run_is_in_effect_from_the_start(tmp_path: Path) -> None:
    (tmp_path / CHANGES_FILE).write_text('{"peers": {"bob": {"creditLimit": 77}}}')
    connector = Connector(settings(tmp_path), log=EventLog())
    assert connector.settings.peers[0].credit_limit is None
    async with connector:
        assert connector.settings.peers[0].credit_limit == 77
        assert connector.accounts.peers["bob"].granted == 77


async def test_the_routes_to_peers_are_counted_alike_before_and_after_the_start(
    tmp_path: Path,
) -> None:
    log = EventLog()
    bob = PeerSettings(id="bob", secret="of-bob", routes=["g.bob", "g.far"])
    routes = [
        RouteSettings(prefix="g.far", next_hop="bob"),
        RouteSettings(prefix="", next_hop="bob"),
    ]
    wanted = settings(tmp_path).model_copy(update={"peers": [bob], "routes": routes})
    async with Connector(wanted, log=log):
        pass
    await log.seen("config_loaded", routes=3)
    await log.seen("connector_started", routes=3)
    assert log.count("no_peers") == 0


async def test_a_node_without_peers_is_warned_of(tmp_path: Path) -> None:
    log = EventLog()
    async with Connector(settings(tmp_path).model_copy(update={"peers": []}), log=log):
        pass
    assert log.count("no_peers") == 1


async def test_a_node_that_is_interpreted_says_why(tmp_path: Path) -> None:
    log = EventLog()
    async with Connector(settings(tmp_path), log=log):
        pass
    assert log.count("core_interpreted") == int(not is_compiled())


async def test_its_parts_exist_from_the_start_on_and_outlive_it(tmp_path: Path) -> None:
    connector = Connector(settings(tmp_path), log=EventLog())
    with pytest.raises(RuntimeError, match="not started"):
        _ = connector.accounts
    async with connector:
        assert connector.btp_port > 0
        assert connector.http_port > 0
    assert connector.accounts.peers["bob"].net_balance == 0
    assert list(connector.links.live) == []


async def test_a_handler_given_before_the_start_answers_packets(tmp_path: Path) -> None:
    async def pay(_prepare: Prepare) -> Fulfill:
        return Fulfill(fulfillment=FULFILLMENT)

    connector = Connector(settings(tmp_path), log=EventLog())
    connector.on_prepare(pay)
    async with connector:
        answer = await connector.send("g.me.shop", 5, fulfillment=FULFILLMENT)
    assert isinstance(answer, Fulfill)


async def test_it_is_started_once(tmp_path: Path) -> None:
    connector = Connector(settings(tmp_path), log=EventLog())
    async with connector:
        pass
    with pytest.raises(RuntimeError, match="started once"):
        await connector.__aenter__()


async def test_with_too_little_room_on_the_disk_a_node_is_not_ready_and_says_so(
    tmp_path: Path,
) -> None:
    log = EventLog()
    wanted = settings(tmp_path).model_copy(update={"disk_reserve_bytes": 1 << 50})
    async with Connector(wanted, log=log) as node:
        is_ready, reason = node.views.ready()
        assert (is_ready, reason) == (
            False, "the disk of DATA_DIR is nearly full: new packets are refused",
        )  # fmt: skip
        health = node.views.health()
        assert (health["status"], health["reason"]) == ("unhealthy", reason)
        assert isinstance(await node.send("g.me", 1), Reject)
        node.events.flush()
        await node._store.write()
        store = node.views.status()["eventStore"]
        assert store["fault"] == reason
        assert node._store.dropped > 0
    assert log.count("disk_nearly_full") == 1
    assert log.count("event_store_failed") == 0
