"""Removing a peer under load: it is drained first, also over a restart; by force it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.alias_generators import to_camel

from connector import Fulfill, Prepare, Reject
from connector.accounting.manager import AccountManager
from connector.base.errors import ConfigError, LedgerUnavailableError, UnknownNameError
from connector.ilp_http.peer import HttpPeer
from connector.node.apply import LeftBehind
from connector.node.changes import OperatorChanges
from connector.node.unrecorded import Unrecorded
from connector.settings.faults import SECRETS
from connector.settings.model import PeerSettings
from connector.settings.overlay import InEffect, Overlay
from connector.telemetry.events import AdminAction
from tests.support.clocks import simulate
from tests.unit.node.test_core import FULFILLMENT, Machine, three


class Slow:
    """A receiver that fulfils when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, _prepare: Prepare) -> Fulfill:
        self.asked.set()
        await self.may_answer.wait()
        return Fulfill(fulfillment=FULFILLMENT)


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated time does not wait for threads."""

    async def here(work: Callable[..., object], *arguments: object) -> object:
        return work(*arguments)

    monkeypatch.setattr("connector.node.changes.asyncio.to_thread", here)


def changes_of(
    machine: Machine, folder: Path, group: asyncio.TaskGroup, overlay: Overlay | None = None
) -> OperatorChanges:
    changes = OperatorChanges(
        found=InEffect(machine.settings, overlay or Overlay(), machine.settings),
        path=folder / "changes.json",
        applier=machine.core.applier,
        accounts=machine.core.accounts,
        answer_given=machine.core.driver.answer_given,
        changed=lambda: None,
        fingerprint=lambda: "f",
        emit=machine.events.append,
        log=machine.log,
    )
    changes.start(group)
    return changes


Scenario = Callable[[asyncio.TaskGroup, list[Machine], OperatorChanges, Slow], Awaitable[None]]


def run(folder: Path, scenario: Scenario) -> None:
    """`bob` changes its peers; a packet of alice is on its way to carol, who does not answer yet."""

    async def whole() -> None:
        async with three() as (group, machines):
            slow = Slow()
            machines[2].core.on_prepare(slow)
            changes = changes_of(machines[1], folder, group)
            await scenario(group, machines, changes, slow)
            slow.may_answer.set()
            changes.stop()

    simulate(whole())


def actions(machine: Machine) -> list[tuple[str, str, str]]:
    return [
        (one.action, one.target, one.outcome)
        for one in machine.events
        if isinstance(one, AdminAction)
    ]


@pytest.mark.parametrize("peer_id", ["carol", "alice"], ids=["next hop", "sender"])
def test_a_peer_is_removed_when_its_packets_have_their_answers(
    tmp_path: Path, peer_id: str
) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        alice, bob, carol = machines
        sending = group.create_task(
            alice.core.send("g.carol", 7, fulfillment=FULFILLMENT, expiry_s=20)
        )
        await slow.asked.wait()
        removing = group.create_task(changes.delete_peer(peer_id))
        await asyncio.sleep(2)
        assert not removing.done()
        assert Overlay.read(tmp_path / "changes.json").draining_peers == [peer_id]
        assert bob.core.peers[peer_id].draining
        # Nothing new is taken meanwhile, in either direction.
        refused = await alice.core.send("g.carol", 1, fulfillment=FULFILLMENT)
        assert isinstance(refused, Reject)
        assert refused.code == ("F02" if peer_id == "carol" else "T03")
        slow.may_answer.set()
        assert isinstance(await sending, Fulfill)
        assert await removing == LeftBehind(0, 0)
        assert peer_id not in bob.core.peers
        # carol could be asked for her Fulfill until now; alice may not have read it.
        assert (bob.core.outbox.kept_bytes > 0) is (peer_id == "carol")
        overlay = Overlay.read(tmp_path / "changes.json")
        assert (overlay.removed_peers, overlay.draining_peers) == ([peer_id], [])
        assert "drainingPeers" not in (tmp_path / "changes.json").read_text()
        assert (bob.net("alice"), bob.net("carol")) == (7, -7)
        assert (alice.net("bob"), carol.net("bob")) == (-7, 7)
        assert actions(bob) == [("peer.drain", peer_id, "ok"), ("peer.delete", peer_id, "ok")]

    run(tmp_path, scenario)


def test_a_peer_without_packets_is_removed_at_once(tmp_path: Path) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        bob = machines[1]
        assert await changes.delete_peer("carol") == LeftBehind(0, 0)
        assert "carol" not in bob.core.peers
        assert await changes.delete_peer("carol") == LeftBehind(0, 0)
        with pytest.raises(UnknownNameError):
            await changes.delete_peer("nobody")
        assert actions(bob)[0] == ("peer.delete", "carol", "ok")

    run(tmp_path, scenario)


def test_by_force_a_peer_is_removed_at_once_and_what_may_be_lost_is_counted(
    tmp_path: Path,
) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        alice, bob, _ = machines
        sending = group.create_task(alice.core.send("g.carol", 7, fulfillment=FULFILLMENT))
        await slow.asked.wait()
        assert await changes.delete_peer("carol", force=True) == LeftBehind(1, 7)
        assert "carol" not in bob.core.peers
        refused = await sending
        assert isinstance(refused, Reject)
        assert refused.code == "T00"
        assert bob.log.count("peer_removed_with_packets_unanswered", packets=1, amount="7") == 1

    run(tmp_path, scenario)


def test_draining_is_bounded_by_the_time_that_a_packet_is_held(tmp_path: Path) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        alice, bob, _ = machines
        loop = asyncio.get_running_loop()
        sending = group.create_task(alice.core.send("g.carol", 7, fulfillment=FULFILLMENT))
        await slow.asked.wait()
        began_s = loop.time()
        await changes.delete_peer("carol")
        assert loop.time() - began_s <= bob.settings.max_hold_ms / 1000 + 3
        assert "carol" not in bob.core.peers
        assert isinstance(await sending, Reject)

    run(tmp_path, scenario)


@pytest.mark.interpreted
def test_a_peer_that_was_removed_before_is_not_drained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        await changes.delete_peer("carol")
        before = actions(machines[1])
        monkeypatch.setattr(AccountManager, "knows_holds", property(lambda _: False))
        assert await changes.delete_peer("carol") == LeftBehind(0, 0)
        assert actions(machines[1]) == before

    run(tmp_path, scenario)


@pytest.mark.interpreted
def test_no_peer_is_removed_while_only_a_silent_ledger_knows_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next hop may have fulfilled a packet of before a crash, and could not be asked for it."""

    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        _, bob, _ = machines
        known = [False]
        monkeypatch.setattr(AccountManager, "knows_holds", property(lambda _: known[0]))
        removing = group.create_task(changes.delete_peer("carol"))
        await asyncio.sleep(2 * bob.settings.max_hold_ms / 1000)
        assert not removing.done()
        assert "carol" in bob.core.peers
        known[0] = True
        await removing
        assert "carol" not in bob.core.peers

    run(tmp_path, scenario)


def test_a_peer_that_is_added_again_while_it_is_drained_stays(tmp_path: Path) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        alice, bob, _ = machines
        sending = group.create_task(alice.core.send("g.carol", 7, fulfillment=FULFILLMENT))
        await slow.asked.wait()
        removing = group.create_task(changes.delete_peer("carol"))
        await asyncio.sleep(1)
        await changes.create_peer(changes.peer("carol"))
        slow.may_answer.set()
        await removing
        assert isinstance(await sending, Fulfill)
        assert not bob.core.peers["carol"].draining
        assert isinstance(await alice.core.send("g.carol", 1, fulfillment=FULFILLMENT), Fulfill)

    run(tmp_path, scenario)


def test_limits_of_a_peer_that_is_drained_can_be_changed_and_it_is_drained_on(
    tmp_path: Path,
) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        alice, bob, _ = machines
        group.create_task(alice.core.send("g.carol", 7, fulfillment=FULFILLMENT))
        await slow.asked.wait()
        removing = group.create_task(changes.delete_peer("carol"))
        await asyncio.sleep(1)
        await changes.set_limits("carol", {"rate_limit": 5})
        assert bob.core.peers["carol"].draining
        slow.may_answer.set()
        await removing
        assert "carol" not in bob.core.peers

    run(tmp_path, scenario)


@pytest.mark.long
def test_after_a_restart_in_the_middle_a_peer_is_drained_and_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with three() as (group, (alice, bob, carol)):
            slow = Slow()
            carol.core.on_prepare(slow)
            changes = changes_of(bob, tmp_path, group)
            sending = group.create_task(
                alice.core.send("g.carol", 7, fulfillment=FULFILLMENT, expiry_s=25)
            )
            await slow.asked.wait()
            removing = group.create_task(changes.delete_peer("carol"))
            await asyncio.sleep(1)
            changes.stop()
            await asyncio.wait([removing])
            await bob.crash()
            await bob.start(group)
            changes = changes_of(bob, tmp_path, group, Overlay.read(tmp_path / "changes.json"))
            assert bob.core.peers["carol"].draining
            await asyncio.sleep(3)
            assert "carol" in bob.core.peers
            slow.may_answer.set()
            assert isinstance(await sending, Fulfill)
            await asyncio.sleep(40)
            assert "carol" not in bob.core.peers
            assert (bob.net("alice"), bob.net("carol")) == (7, -7)
            assert Overlay.read(tmp_path / "changes.json").removed_peers == ["carol"]
            changes.stop()

    simulate(scenario())


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [
        ("ws://bob:3000", "ws://bob:3000/accounts/a/ilp/btp", False),
        ("ws://bob:3000", "btp+ws://BOB:3000", False),
        ("ws://bob:3000", None, False),
        ("ws://bob:3000", "ws://bob:3001", True),
        ("ws://bob:3000", "ws://evil:3000", True),
        ("wss://bob:3000", "ws://bob:3000", True),
        (None, "ws://evil:3000", True),
    ],
)
def test_a_kept_secret_is_shown_at_its_old_place_only(
    tmp_path: Path, before: str | None, after: str | None, needed: bool
) -> None:
    async def scenario(
        _group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        slow.may_answer.set()
        peer = {"secret": "of-dave", "url": before}
        assert await changes.put_peer("dave", peer)
        if needed:
            with pytest.raises(ConfigError, match="give the secret again"):
                await changes.put_peer("dave", {"url": after})
            assert changes.peer("dave").url == before
        await changes.put_peer("dave", {"url": after, **({"secret": "new"} if needed else {})})
        assert changes.peer("dave").url == after
        assert changes.peer("dave").secret.get_secret_value() == ("new" if needed else "of-dave")
        assert machines[1].core.peers["dave"].terms.peer_id == "dave"

    run(tmp_path, scenario)


BOB = "http://bob:7770/ilp"


@pytest.mark.parametrize(
    ("before", "change", "needed"),
    [
        ({}, {"http_url": BOB}, "secret"),
        ({}, {"http_callback_url": BOB}, "secret"),
        ({"http_url": BOB}, {"http_url": BOB + "/v2"}, None),
        ({"http_url": BOB}, {"http_url": BOB, "http_callback_url": BOB}, None),
        ({"http_url": BOB}, {"http_url": BOB, "http_callback_url": "http://evil/"}, "secret"),
        ({"http_url": "https://bob/"}, {"http_url": "http://bob/"}, "secret"),
        ({"http_url": BOB, "http_token": "t"}, {"http_url": "http://evil/"}, "httpToken"),
        # The secret is not what is shown there.
        ({"http_url": BOB, "http_token": "t"}, {"http_url": "http://evil/", "secret": "s"}, "httpToken"),
        ({"http_url": BOB, "http_token": "t"}, {"http_url": "http://evil/", "http_token": "u"}, None),
        ({"http_url": BOB, "http_token": "t"}, {}, None),
    ],
)  # fmt: skip
def test_a_kept_token_of_ilp_over_http_is_shown_at_its_old_place_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, Any],
    change: dict[str, Any],
    needed: str | None,
) -> None:
    monkeypatch.setattr(HttpPeer, "start", lambda _self, _group: None)  # nobody is there

    async def scenario(
        _group: asyncio.TaskGroup, _machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        slow.may_answer.set()
        assert await changes.put_peer("dave", {"secret": "of-dave", **before})
        if needed is not None:
            with pytest.raises(ConfigError, match=f"give the {needed} for it"):
                await changes.put_peer("dave", change)
            assert changes.peer("dave").http_url == before.get("http_url")
            return
        await changes.put_peer("dave", change)
        peer = changes.peer("dave")
        assert peer.http_url == change.get("http_url")
        token = peer.http_token
        kept = change.get("http_token", before.get("http_token"))
        assert (None if token is None else token.get_secret_value()) == kept
        view = changes.peer_view(peer)
        assert view["httpTokenSet"] is (kept is not None)
        assert "httpToken" not in view

    run(tmp_path, scenario)


ENGINE = "http://engine:3010"
EVIL = "http://evil:3010"


@pytest.mark.parametrize("of_all", [None, "of-all"])
@pytest.mark.parametrize(
    ("before", "change", "fault"),
    [
        # The peer has a token of its own: it is kept at its place, and shown at no other.
        ({"settlement_engine_url": ENGINE, "settlement_token": "token-of-dave"},
         {"settlement_engine_url": ENGINE + "/v1"}, False),
        ({"settlement_engine_url": ENGINE, "settlement_token": "token-of-dave"},
         {"settlement_engine_url": EVIL}, True),
        ({"settlement_engine_url": ENGINE, "settlement_token": "token-of-dave"},
         {"settlement_engine_url": "https://engine:3010"}, True),
        ({"settlement_engine_url": ENGINE, "settlement_token": "token-of-dave"},
         {"settlement_engine_url": EVIL, "settlement_token": "token-anew"}, False),
        # By hand it is shown to nobody.
        ({"settlement_engine_url": ENGINE, "settlement_token": "token-of-dave"},
         {"settlement_engine_url": "manual"}, False),
        # The address of the node's engine.
        ({"settlement_engine_url": ENGINE, "settlement_token": "token-of-dave"}, {}, True),
    ],
)  # fmt: skip
def test_a_kept_settlement_token_is_shown_at_its_old_place_only(
    tmp_path: Path, of_all: str | None, before: dict[str, Any], change: dict[str, Any], fault: bool
) -> None:
    def secret(fields: dict[str, Any]) -> dict[str, Any]:
        return {
            name: SecretStr(value) if name == "settlement_token" else value
            for name, value in fields.items()
        }

    async def scenario(
        _group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        slow.may_answer.set()
        applier = machines[1].core.applier
        node = {
            "settlement_engine_url": "http://node-engine:3010",
            "settlement_token": None if of_all is None else SecretStr(of_all),
        }
        changes._base = applier.settings = applier.settings.model_copy(update=node)
        assert await changes.put_peer("dave", {"secret": "of-dave", **secret(before)})
        if fault:
            with pytest.raises(ConfigError, match="give the settlementToken"):
                await changes.put_peer("dave", secret(change))
            assert changes.peer("dave").settlement_engine_url == ENGINE
            return
        await changes.put_peer("dave", secret(change))
        token = changes.peer("dave").settlement_token
        assert token is not None
        assert token.get_secret_value() == change.get("settlement_token", "token-of-dave")
        view = changes.peer_view(changes.peer("dave"))
        assert view["settlementTokenSet"] is True
        assert "token-of-dave" not in str(view)
        assert "token-anew" not in str(view)
        assert "token-of-dave" not in str(machines[1].log.events)

    run(tmp_path, scenario)


def test_the_nodes_settlement_token_goes_to_no_place_that_only_the_admin_api_names(
    tmp_path: Path,
) -> None:
    async def scenario(
        _group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        slow.may_answer.set()
        applier = machines[1].core.applier
        node = {"settlement_engine_url": ENGINE, "settlement_token": SecretStr("of-all")}
        changes._base = applier.settings = applier.settings.model_copy(update=node)
        dave = {"secret": "of-dave"}
        for engine in (EVIL, "http://engine:3011"):
            with pytest.raises(ConfigError, match="give the settlementToken"):
                await changes.put_peer("dave", {**dave, "settlement_engine_url": engine})
            wanted = PeerSettings(id="dave", secret="of-dave", settlement_engine_url=engine)
            with pytest.raises(ConfigError, match="give the settlementToken"):
                await changes.create_peer(wanted)
        assert await changes.put_peer("dave", {**dave, "settlement_engine_url": f"{ENGINE}/x"})
        # Without its own token the peer has the node's, which must not follow the URL either.
        own = {"settlement_engine_url": EVIL, "settlement_token": SecretStr("token-of-dave")}
        await changes.put_peer("dave", own)
        with pytest.raises(ConfigError, match="give the settlementToken"):
            await changes.put_peer("dave", {**own, "settlement_token": None})
        await changes.put_peer("dave", {"settlement_token": None})
        assert changes.peer("dave").settlement_token is None
        assert "token-of-dave" not in (tmp_path / "changes.json").read_text()

    run(tmp_path, scenario)


def test_no_view_of_a_peer_has_a_secret(tmp_path: Path) -> None:
    async def scenario(
        _group: asyncio.TaskGroup, _machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        slow.may_answer.set()
        fields = set(PeerSettings.model_fields)
        assert {"secret", "settlement_token"} <= SECRETS & fields
        view = changes.peer_view(changes.peer("alice"))
        assert not {to_camel(name) for name in SECRETS & fields} & view.keys()

    run(tmp_path, scenario)


def _after_a_stop(machine: Machine, folder: Path, group: asyncio.TaskGroup) -> OperatorChanges:
    """The next process of a node that ended without another word."""
    machine.events.clear()
    return changes_of(machine, folder, group, Overlay.read(folder / "changes.json"))


@pytest.mark.parametrize("at", ["before", "written", "applied", "recorded"])
def test_a_change_is_in_effect_and_recorded_or_neither_wherever_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        machine = machines[1]
        apply, write = changes._applier.change, Overlay.write

        class Ended(BaseException):
            pass

        def ends_writing(_overlay: Overlay, _path: Path) -> None:
            raise Ended

        async def ends(to: Any, draining: Any = ()) -> None:
            if at == "applied":
                await apply(to, draining)
            # A process that ends reverts nothing.
            monkeypatch.setattr(Overlay, "write", ends_writing)
            raise Ended

        async def never_recorded() -> bool:
            return False

        if at == "before":
            monkeypatch.setattr(Overlay, "write", ends_writing)
        elif at == "recorded":
            changes._recorded = never_recorded
        else:
            monkeypatch.setattr(changes._applier, "change", ends)
        if at == "recorded":
            await changes.set_limits("alice", {"credit_limit": 77})
        else:
            with pytest.raises(Ended):
                await changes.set_limits("alice", {"credit_limit": 77})
        changes.stop()
        monkeypatch.setattr(Overlay, "write", write)
        monkeypatch.setattr(changes._applier, "change", apply)

        following = _after_a_stop(machine, tmp_path, group)
        told = actions(machine)
        if at == "before":
            assert following.overlay.is_empty
            assert not told
        else:
            assert following.overlay.peers["alice"]["creditLimit"] == 77
            ((action, target, outcome),) = told
            assert (action, target) == ("peer.limits", "alice")
            assert outcome.startswith("ok: in effect since this start")
            (event,) = (one for one in machine.events if isinstance(one, AdminAction))
            assert "77" in event.detail
        assert (tmp_path / "changes.pending").exists() is (at != "before")  # until that is on disk
        await asyncio.sleep(1)
        following.stop()
        assert not (tmp_path / "changes.pending").exists()
        _after_a_stop(machine, tmp_path, group).stop()
        assert not actions(machine)

    run(tmp_path, scenario)


def test_a_change_that_was_recorded_undone_or_refused_is_not_recorded_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        machine = machines[1]
        await changes.set_limits("alice", {"credit_limit": 77})
        assert not (tmp_path / "changes.pending").exists()

        async def refuses(_to: Any, _draining: Any = ()) -> None:
            raise LedgerUnavailableError("away")

        monkeypatch.setattr(changes._applier, "change", refuses)
        with pytest.raises(LedgerUnavailableError):
            await changes.set_limits("alice", {"credit_limit": 78})
        changes.stop()
        following = _after_a_stop(machine, tmp_path, group)
        assert following.overlay.peers["alice"]["creditLimit"] == 77
        assert not actions(machine)
        following.stop()

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"becomes": 7}', '{"becomes": "x", "action": 1}', "\x00" * 99]
)
def test_whatever_stands_in_the_file_of_pending_changes_a_node_starts(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "changes.pending"
    path.write_text(text)
    pending = Unrecorded(path)
    assert pending.left(Overlay()) is None
    pending.over()
    pending.over()
    assert not path.exists()


def test_a_change_whose_request_is_given_up_while_it_is_written_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        may_write = asyncio.Event()

        async def slowly(work: Callable[[], None]) -> None:
            await may_write.wait()
            work()

        monkeypatch.setattr("connector.node.changes.asyncio.to_thread", slowly)
        changing = group.create_task(changes.set_limits("alice", {"credit_limit": 77}))
        await asyncio.sleep(0.1)
        changing.cancel()
        await asyncio.sleep(0.1)
        may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await changing
        assert changes.overlay.is_empty
        assert Overlay.read(tmp_path / "changes.json").is_empty
        assert not (tmp_path / "changes.pending").exists()

    run(tmp_path, scenario)


def test_a_peer_whose_removal_two_ask_for_at_once_is_removed_once(tmp_path: Path) -> None:
    async def scenario(
        group: asyncio.TaskGroup, machines: list[Machine], changes: OperatorChanges, slow: Slow
    ) -> None:
        alice, bob, _ = machines

        async def slowly() -> bool:
            await asyncio.sleep(0.5)
            return True

        changes._recorded = slowly
        sending = group.create_task(
            alice.core.send("g.carol", 7, fulfillment=FULFILLMENT, expiry_s=20)
        )
        await slow.asked.wait()
        removing = [group.create_task(changes.delete_peer("carol")) for _ in range(3)]
        await asyncio.sleep(0.1)
        slow.may_answer.set()
        assert isinstance(await sending, Fulfill)
        assert [await one for one in removing] == [LeftBehind(0, 0)] * 3
        assert actions(bob) == [("peer.drain", "carol", "ok"), ("peer.delete", "carol", "ok")]
        assert not (tmp_path / "changes.pending").exists()

    run(tmp_path, scenario)
