"""Whole cores in memory and in simulated time: built, started, stopped, and abandoned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from connector import Fulfill, Prepare, Reject
from connector.base import limits
from connector.base.errors import ConfigError, ListenError
from connector.base.room import Level
from connector.node.core import Core
from connector.node.lifecycle import Lifecycle
from connector.peering.model import Asset, PeerTerms
from connector.settlement.engine import ManualEngine, SettlementEngine
from connector.stream.crypto import Keys
from connector.stream.packet import StreamMoney, StreamPacket, encode
from connector.telemetry.events import AccountingState, PeerConnected, PeerDisconnected
from tests.support.accounts import ScriptedLedger, books_at_rest
from tests.support.clocks import SimulatedClock, simulate
from tests.support.cores import Machine, peer, settings_of
from tests.support.daemons import EventLog
from tests.support.in_memory import MemoryDisk, MemoryNetwork, memory_platform

FULFILLMENT = b"f" * 32


@contextlib.asynccontextmanager
async def three() -> AsyncIterator[tuple[asyncio.TaskGroup, list[Machine]]]:
    """alice - bob - carol, connected; alice dials bob, bob dials carol."""
    network = MemoryNetwork()
    machines = [
        Machine(network, settings)
        for settings in (
            settings_of("alice", 1, peer("alice", "bob", dials=2, routes=["g.carol"])),
            settings_of("bob", 2, peer("bob", "alice"), peer("bob", "carol", dials=3)),
            settings_of("carol", 3, peer("carol", "bob", routes=["g.alice"])),
        )
    ]
    machines[1].settings = settings_of(
        "bob", 2,
        peer("bob", "alice", routes=["g.alice"]),
        peer("bob", "carol", dials=3, routes=["g.carol"]),
    )  # fmt: skip
    async with asyncio.TaskGroup() as group:
        for machine in reversed(machines):
            await machine.start(group)
        await machines[0].connected("bob")
        await machines[1].connected("carol")
        yield group, machines
        for machine in machines:
            await machine.stop()
    for machine in machines:
        machine.disk.close()
        assert not [line for line in machine.log.events if line[0] == "error"]


def test_building_a_core_opens_and_starts_nothing() -> None:
    async def scenario() -> None:
        network, disk = MemoryNetwork(), MemoryDisk()
        ledger = ScriptedLedger(clock=SimulatedClock())
        ledger.is_open = False
        tasks = asyncio.all_tasks()
        core = Core(
            settings_of("alice", 1, peer("alice", "bob", dials=2)),
            platform=memory_platform(network, disk, EventLog()),
            ledger=ledger,
        )
        assert asyncio.all_tasks() == tasks
        assert not network.listening
        assert not disk.opened
        assert not ledger.is_open
        assert core.node.address == "g.alice"
        assert not list(core.routes)

    simulate(scenario())


def test_packets_pass_three_cores_and_balances_follow() -> None:
    async def pay(_prepare: Prepare) -> Fulfill:
        return Fulfill(fulfillment=FULFILLMENT)

    async def scenario() -> None:
        async with three() as (_, (alice, bob, carol)):
            carol.core.on_prepare(pay)
            answers = [
                await alice.core.send("g.carol.shop", 7, fulfillment=FULFILLMENT) for _ in range(20)
            ]
            assert all(isinstance(answer, Fulfill) for answer in answers)
            assert (bob.net("alice"), bob.net("carol")) == (140, -140)
            assert (alice.net("bob"), carol.net("bob")) == (-140, 140)
            for machine in (alice, bob, carol):
                while machine.core.accounts.undurable:
                    await asyncio.sleep(0.01)
                assert await books_at_rest(machine.core.accounts) == []
            opened = [path.name for path in bob.disk.opened]
            assert opened == ["outbox.db", ":memory:"]
            assert bob.events[0] == AccountingState(
                state="available", backend="memory", spooled=0, error=""
            )
            assert PeerConnected(peer_id="alice", direction="inbound") in bob.events
        assert bob.events[-1].__class__ is PeerDisconnected

    simulate(scenario())


def test_an_abandoned_core_pays_nobody_twice_and_answers_what_is_resent() -> None:
    """bob dies with a packet at carol; its sender and its next hop notice nothing but time."""

    async def scenario() -> None:
        delivered: list[Prepare] = []
        may_answer = asyncio.Event()

        async def pay_later(prepare: Prepare) -> Fulfill:
            delivered.append(prepare)
            await may_answer.wait()
            return Fulfill(fulfillment=FULFILLMENT)

        async with three() as (group, (alice, bob, carol)):
            carol.core.on_prepare(pay_later)
            sending = group.create_task(
                alice.core.send("g.carol.shop", 5, fulfillment=FULFILLMENT, expiry_s=25)
            )
            await asyncio.sleep(0.1)
            assert len(delivered) == 1
            assert bob.core.driver.in_flight == 1
            await bob.crash()
            await bob.start(group)
            may_answer.set()
            assert isinstance(await sending, Fulfill)
            assert len(delivered) == 1
            assert (bob.net("alice"), bob.net("carol")) == (5, -5)
            assert (alice.net("bob"), carol.net("bob")) == (-5, 5)
            await asyncio.sleep(1)
            for machine in (alice, bob, carol):
                while machine.core.accounts.undurable:
                    await asyncio.sleep(0.01)
                assert await books_at_rest(machine.core.accounts) == []

    simulate(scenario())


@pytest.mark.interpreted
@pytest.mark.parametrize("held", [False, True], ids=["posted", "held"])
@pytest.mark.parametrize(
    "changes",
    [
        {"wallets": ["zoe"]},
        {"ilp_address": "g.carol2"},
        {"pay_secret_former": SecretStr("ab" * 32)},
        {"wallets": ["zoe"], "ilp_address": "g.carol2", "pay_secret_former": SecretStr("ab" * 32)},
    ],
    ids=["the name", "the address", "the key", "all"],
)
def test_a_packet_to_a_wallet_is_answered_although_its_settings_have_changed(
    changes: dict[str, Any], held: bool
) -> None:
    """carol dies before bob has read her answer, and comes back with other settings."""

    class Unheard:
        """Takes answers that do not arrive."""

        def reply(self, _request_id: int, _octets: bytes) -> bool:
            return True

    async def scenario() -> None:
        async with three() as (group, (alice, bob, carol)):
            await carol.stop()
            carol.pay_key = b"\xab" * 32
            carol.settings = carol.settings.model_copy(update={"pay_port": 0, "wallets": ["kim"]})
            await carol.start(group)
            await asyncio.sleep(5)  # simulated: bob has dialled again
            await bob.connected("carol")
            assert carol.core.wallets is not None
            invited = carol.core.wallets.invite("kim", bytes(12))
            assert invited is not None
            destination, secret = invited
            keys = Keys(secret)
            data = keys.seal(encode(StreamPacket(1, 12, 0, (StreamMoney(1, 1),))))
            arrived = carol.core.driver.arrived

            def unheard(source: Any, octets: bytes, id_: int, _: Any, *more: Any) -> None:
                arrived(source, octets, id_, Unheard(), *more)

            carol.core.driver.arrived = unheard  # type: ignore[method-assign]
            if held:
                carol.core.accounts.post = lambda *_: None  # type: ignore[method-assign]
            sending = group.create_task(
                alice.core.send(destination, 5, data=data, condition=keys.condition(data))
            )
            await asyncio.sleep(0.5)
            assert carol.core.accounts.wallets["kim"].credits_pending == (5 if held else 0)
            await carol.crash()
            if "pay_secret_former" in changes:
                carol.pay_key = b"\xcd" * 32
            carol.settings = carol.settings.model_copy(update=changes)
            await carol.start(group)
            answer = await sending
            # Only money that was held for a name that is gone is given back.
            given_back = held and "wallets" in changes
            assert isinstance(answer, Reject if given_back else Fulfill)
            assert (alice.net("bob"), carol.net("bob")) == ((0, 0) if given_back else (-5, 5))
            await asyncio.sleep(40)
            for machine in (alice, bob, carol):
                assert await books_at_rest(machine.core.accounts) == []

    simulate(scenario())


def test_a_stop_waits_for_packets_in_flight_but_not_for_ever() -> None:
    async def scenario() -> None:
        async def never(_prepare: Prepare) -> Fulfill:
            await asyncio.sleep(3600)
            raise AssertionError

        async with three() as (group, (alice, _, carol)):
            carol.core.on_prepare(never)
            sending = group.create_task(
                alice.core.send("g.carol.shop", 5, fulfillment=FULFILLMENT, expiry_s=20)
            )
            await asyncio.sleep(0.1)
            assert alice.core.driver.in_flight == 1
            began_s = alice.core.clock.monotonic_s()
            await alice.stop()
            took_s = alice.core.clock.monotonic_s() - began_s
            assert (
                limits.STOP_IN_FLIGHT_SECONDS_MAX <= took_s < limits.STOP_IN_FLIGHT_SECONDS_MAX + 1
            )
            sending.cancel()

    simulate(scenario())


def test_a_core_that_cannot_listen_lets_go_of_everything() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        network.listening[1] = asyncio.Protocol
        alice = Machine(network, settings_of("alice", 1))
        core = Core(
            alice.settings,
            platform=memory_platform(network, alice.disk, alice.log),
            ledger=alice.ledger,
        )
        life = Lifecycle(core)
        await life.open()
        async with asyncio.TaskGroup() as group:
            with pytest.raises(ListenError, match="Address already in use"):
                await life.start(group)
            await life.stop()  # else the group would wait for ever
        await life.close()
        await life.close()
        with pytest.raises(AssertionError, match="not open"):
            await core.outbox._file.run(lambda _: None)
        alice.disk.close()

    simulate(scenario())


def test_former_peers_without_a_balance_are_forgotten() -> None:
    async def scenario() -> None:
        network, asset = MemoryNetwork(), Asset("USD", 9)
        alice = Machine(network, settings_of("alice", 1, peer("alice", "bob")))

        async def pay(_prepare: Prepare) -> Fulfill:
            return Fulfill(fulfillment=FULFILLMENT)

        platform = memory_platform(network, alice.disk, alice.log)
        core = Core(alice.settings, platform=platform, ledger=alice.ledger)
        life = Lifecycle(core)
        former = [PeerTerms(peer_id="dora", asset=asset)]
        assert await life.open(former) == ["dora"]
        assert list(core.accounts.peers) == ["bob"]
        await life.close()
        alice.disk.close()

    simulate(scenario())


def test_a_child_asks_its_parent_for_its_address() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        parent = Machine(network, settings_of("up", 1, peer("up", "kid", relation="child")))
        kid = Machine(
            network,
            settings_of("kid", 2, peer("kid", "up", dials=1, relation="parent"), ilp_address=None),
        )
        async with asyncio.TaskGroup() as group:
            await parent.start(group)
            await kid.start(group)
            assert kid.core.node.address == ""
            await kid.connected("up")
            await asyncio.sleep(3)
            assert kid.core.node.address == "g.up.kid"
            assert kid.core.routes.explain("g.up.kid.x").chosen is not None
            await kid.stop()
            await parent.stop()
        kid.disk.close()
        parent.disk.close()

    simulate(scenario())


def test_a_settlement_engine_is_made_when_its_url_changes_and_not_before() -> None:
    async def scenario() -> None:
        made: list[tuple[str, str | None]] = []

        def make(url: str, token: str | None) -> SettlementEngine:
            made.append((url, token))
            return ManualEngine()

        settings = settings_of(
            "alice", 1, peer("alice", "bob", settlement_engine_url="http://one.example")
        )
        network, disk = MemoryNetwork(), MemoryDisk()
        platform = memory_platform(network, disk, EventLog())
        ledger = ScriptedLedger(clock=platform.clock)
        core = Core(settings, platform=platform, ledger=ledger, make_engine=make)
        assert made == [("http://one.example", None)]
        core.use_engines()
        assert len(made) == 1
        bob = settings.peers[0].model_copy(update={"settlement_engine_url": "http://other.example"})
        core.applier.settings = settings.model_copy(update={"peers": [bob]})
        core.use_engines()
        assert made[1:] == [("http://other.example", None)]
        own = bob.model_copy(update={"settlement_token": SecretStr("of-bob")})
        core.applier.settings = settings.model_copy(
            update={"peers": [own], "settlement_token": SecretStr("of-all")}
        )
        core.use_engines()
        assert made[2:] == [("http://other.example", "of-bob")]
        assert [core.payers.token_of(name) for name in ("bob", "dave", "")] == [
            "of-bob", "of-all", "of-all",
        ]  # fmt: skip
        # Removed: what its engine reports is taken under its own token, until its balance is settled.
        core.applier.settings = core.applier.settings.model_copy(update={"peers": []})
        core.use_engines()
        assert core.payers.token_of("bob") == "of-bob"
        with pytest.raises(ConfigError, match=r"one\.example"):
            Core(settings, platform=platform, ledger=ledger)

    simulate(scenario())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"destination": "not an address"}, "ILP address"),
        ({"amount": -1}, "between 0"),
        ({"amount": limits.AMOUNT_MAX + 1}, "between 0"),
        ({"data": bytes(limits.PACKET_DATA_BYTES_MAX + 1)}, "at most"),
    ],
)
def test_arguments_out_of_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    async def scenario() -> None:
        platform = memory_platform(MemoryNetwork(), MemoryDisk(), EventLog())
        core = Core(
            settings_of("alice", 1), platform=platform, ledger=ScriptedLedger(clock=platform.clock)
        )
        with pytest.raises(ValueError, match=message):
            await core.send(**{"destination": "g.bob", "amount": 1, **options})

    simulate(scenario())


def test_a_disk_that_is_nearly_full_refuses_new_packets_and_finishes_those_in_flight() -> None:
    """The sender's hold, post and answer go on; what is new gets T00, until there is room again."""

    async def scenario() -> None:
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def slow(_prepare: Prepare) -> Fulfill:
            asked.set()
            await may_answer.wait()
            return Fulfill(fulfillment=FULFILLMENT)

        async with three() as (group, (alice, bob, carol)):
            carol.core.on_prepare(slow)
            sending = group.create_task(
                alice.core.send("g.carol", 7, fulfillment=FULFILLMENT, expiry_s=20)
            )
            await asked.wait()
            bob.disk.free = 0
            async with asyncio.timeout(5):
                while bob.core.room.level is not Level.FULL:
                    await asyncio.sleep(0.1)
            for amount in (0, 1):
                refused = await alice.core.send("g.carol", amount, fulfillment=FULFILLMENT)
                assert isinstance(refused, Reject)
                assert (refused.code, refused.triggered_by) == ("T00", "g.bob")
            own = await bob.core.send("g.alice", 1)
            assert isinstance(own, Reject)
            assert own.code == "T00"
            may_answer.set()
            assert isinstance(await sending, Fulfill)
            assert (bob.net("alice"), bob.net("carol")) == (7, -7)
            assert bob.log.count("disk_nearly_full") == 1
            bob.disk.free = 1 << 40
            async with asyncio.timeout(5):
                while bob.core.room.level is not Level.AMPLE:
                    await asyncio.sleep(0.1)
            assert isinstance(await alice.core.send("g.carol", 1, fulfillment=FULFILLMENT), Fulfill)
            for machine in (alice, bob, carol):
                while machine.core.accounts.undurable:
                    await asyncio.sleep(0.01)
                assert await books_at_rest(machine.core.accounts) == []

    simulate(scenario())


def test_the_room_is_known_before_the_first_packet_comes() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        machine = Machine(network, settings_of("alice", 1, peer("alice", "bob")))
        machine.disk.free = 0
        async with asyncio.TaskGroup() as group:
            await machine.start(group)
            assert machine.core.node.disk_full
            await machine.stop()
        machine.disk.close()

    simulate(scenario())
