"""Addresses and routes between whole cores, in memory and in simulated time (ILDCP, CCP)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from connector import Fulfill, Prepare, Reject
from connector.ilp import ildcp
from connector.ilp.packet import decode
from connector.node import bounds
from connector.peering.model import Asset
from connector.peering.routing import RouteSource
from connector.routing import bounds as routing_bounds
from connector.routing import codec
from connector.telemetry.events import PacketForwarded, RouteAdded
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import SimulatedLoop, simulate
from tests.support.in_memory import MemoryNetwork
from tests.support.ledgers import NS, START_NS
from tests.unit.node.test_core import FULFILLMENT, Machine, peer, settings_of


async def pay(_prepare: Prepare) -> Fulfill:
    return Fulfill(fulfillment=FULFILLMENT)


async def until(check: Callable[[], bool], seconds: float) -> float:
    """Wait until it is so; gives the seconds that it took."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - began


@contextlib.asynccontextmanager
async def nodes(*machines: Machine) -> AsyncIterator[asyncio.TaskGroup]:
    """Started in this order, stopped in the other one; none logs an error of ours."""
    async with asyncio.TaskGroup() as group:
        for machine in machines:
            machine.on_prepare = pay
            await machine.start(group)
        yield group
        for machine in reversed(machines):
            await machine.stop()
    for machine in machines:
        machine.disk.close()
        assert not [line for line in machine.log.events if line[0] == "error"]


def ring(size: int, **more: Any) -> list[Machine]:
    """Each dials the next one; all give each other transit."""
    network = MemoryNetwork()
    names = [f"n{number}" for number in range(size)]
    return [
        Machine(
            network,
            settings_of(
                name, 1 + at,
                peer(name, names[(at + 1) % size], dials=1 + (at + 1) % size, transit=True),
                peer(name, names[at - 1], transit=True),
                **more,
            ),
        )
        for at, name in enumerate(names)
    ]  # fmt: skip


def knows(machine: Machine, prefix: str) -> bool:
    return machine.core.routes.find(prefix + ".x") is not None


async def send(machine: Machine, destination: str) -> Fulfill | Reject:
    answer = await machine.core.send(destination, 1, fulfillment=FULFILLMENT, expiry_s=20)
    assert isinstance(answer, Fulfill | Reject)
    return answer


def passes(machines: list[Machine], destination: str) -> list[str]:
    """The nodes that packets to `destination` have passed, one entry for each packet and node."""
    return [
        machine.settings.node_id
        for machine in machines
        for event in machine.events
        if isinstance(event, PacketForwarded) and event.destination == destination
    ]


def test_a_ring_of_ten_learns_all_addresses_in_seconds_and_no_packet_passes_a_node_twice() -> None:
    async def scenario() -> None:
        machines = ring(10)
        addresses = [f"g.n{number}" for number in range(10)]
        async with nodes(*machines) as group:
            took_s = await until(
                lambda: all(knows(one, name) for one in machines for name in addresses), 5
            )
            assert took_s < 5
            for at, machine in enumerate(machines):
                for to, name in enumerate(addresses):
                    if to == at:
                        continue
                    destination = f"{name}.from{at}"
                    assert isinstance(await send(machine, destination), Fulfill)
                    passed = passes(machines, destination)
                    assert len(passed) == len(set(passed))
                    assert len(passed) == min((to - at) % 10, (at - to) % 10)
            # n1 dies: its neighbours go the other way round.
            await machines[1].crash()
            others = [*machines[:1], *machines[2:]]
            await until(lambda: not any(knows(one, "g.n1") for one in others), 60)
            await until(lambda: all(isinstance_of_way(one, others) for one in others), 20)
            assert isinstance(await send(machines[0], "g.n2.around"), Fulfill)
            passed = passes(machines, "g.n2.around")
            assert sorted(passed) == sorted({"n0", *(f"n{at}" for at in range(3, 10))})
            await machines[1].start(group)
            await until(lambda: all(knows(one, name) for one in machines for name in addresses), 20)
            await until(lambda: len(machines[0].core.routes.explain("g.n2.x").beaten) == 1, 20)
            assert isinstance(await send(machines[0], "g.n2.short"), Fulfill)
            assert sorted(passes(machines, "g.n2.short")) == ["n0", "n1"]

    def isinstance_of_way(machine: Machine, others: list[Machine]) -> bool:
        return all(knows(machine, f"g.{one.settings.node_id}") for one in others)

    simulate(scenario())


def test_requests_about_routes_are_neither_counted_nor_shown() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        alice = Machine(network, settings_of("alice", 1, peer("alice", "bob", dials=2)))
        bob = Machine(network, settings_of("bob", 2, peer("bob", "alice")))
        async with nodes(bob, alice):
            await until(lambda: knows(alice, "g.bob") and knows(bob, "g.alice"), 5)
            await asyncio.sleep(100)
            for machine, other in ((alice, "bob"), (bob, "alice")):
                core = machine.core
                counters = core.peers[other].counters
                assert counters.prepares_in == counters.prepares_out == 0
                assert counters.fulfilled_in == counters.fulfilled_out == 0
                assert core.packets.received == core.packets.rejected == 0
                assert core.node.in_flight == core.peers[other].in_flight == 0
                assert core.local.counters.prepares_in == 0
                assert core.routes.best(f"g.{other}").origin == "ccp"  # type: ignore[union-attr]
                assert (
                    RouteAdded(prefix=f"g.{other}", next_hop=other, source="ccp") in machine.events
                )

    simulate(scenario())


def test_a_peer_that_announces_what_lies_below_a_configured_route_is_named_once() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        alice = Machine(
            network,
            settings_of(
                "alice",
                1,
                peer("alice", "bob", routes=["g.bob"]),
                peer("alice", "mallory", dials=2),
            ),
        )
        mallory = Machine(
            network,
            settings_of(
                "mallory", 2,
                peer("mallory", "alice"),
                peer("mallory", "dan", routes=["g.bob.wallet", "g.bob.shop"], transit=True),
            ),
        )  # fmt: skip
        async with nodes(mallory, alice):
            await until(lambda: alice.core.routes.best("g.bob.shop") is not None, 5)
            lines = [one for one in alice.log.events if one[1] == "learned_route_goes_before"]
            ((level, _, said),) = lines
            assert level == "warning"
            assert (said["peer_id"], said["route"]) == ("mallory", "g.bob=bob")

    simulate(scenario())


def test_a_peer_that_speaks_no_ccp_is_asked_less_and_less() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        off = {"send_routes": False, "receive_routes": False}
        alice = Machine(network, settings_of("alice", 1, peer("alice", "bob", dials=2)))
        bob = Machine(network, settings_of("bob", 2, peer("bob", "alice", **off)))
        async with nodes(bob, alice):
            await alice.connected("bob")
            asked: list[float] = []
            router = bob.core.control.router
            former = router.request

            def request(*arguments: Any) -> Fulfill | Reject:
                asked.append(asyncio.get_running_loop().time())
                return former(*arguments)

            router.request = request  # type: ignore[method-assign]
            await asyncio.sleep(600)
            assert 9 <= len(asked) <= 11
            lines = [line for line in alice.log.events if line[1] == "routes_refused"]
            assert len(lines) == 1
            assert not knows(alice, "g.bob")

    simulate(scenario())


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_is_set_neither_drops_routes_nor_lets_them_live(jump_s: int) -> None:
    """Also the machine's clock is followed when it has been wrong for a minute (`SteadyClock`)."""

    async def scenario() -> None:
        network = MemoryNetwork()
        alice = Machine(network, settings_of("alice", 1, peer("alice", "bob", dials=2)))
        bob = Machine(network, settings_of("bob", 2, peer("bob", "alice")))
        async with nodes(bob, alice):
            await until(lambda: knows(alice, "g.bob"), 5)
            for machine in (alice, bob):
                set_clock(machine, jump_s)
            went = []
            for _ in range(200):
                await asyncio.sleep(1)
                went.append(not knows(alice, "g.bob"))
            assert not any(went)
            route = alice.core.routes.best("g.bob")
            assert route is not None
            assert route.learned is not None
            assert route.learned.learned_ms < START_NS // 1_000_000 + 10_000, "by the wall clock"
            bob.core.control.router.tick = lambda _now_ms: []  # type: ignore[method-assign]
            took_s = await until(lambda: not knows(alice, "g.bob"), 60)
            assert took_s <= 50

    simulate(scenario())


def set_clock(machine: Machine, by_s: int) -> None:
    clock = machine.core.clock
    former = clock.now_ns
    clock.now_ns = lambda: former() + by_s * NS  # type: ignore[method-assign]


def test_a_parent_that_is_added_and_peers_that_change_are_followed() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        alice = Machine(network, settings_of("alice", 1, peer("alice", "bob", dials=2)))
        bob = Machine(network, settings_of("bob", 2, peer("bob", "alice")))
        async with nodes(bob, alice):
            await until(lambda: knows(alice, "g.bob"), 5)
            changed = settings_of("alice", 1, peer("alice", "bob", dials=2, receive_routes=False))
            await alice.core.applier.change(changed)
            assert not knows(alice, "g.bob")
            assert knows(bob, "g.alice")
            await alice.core.applier.change(alice.settings)
            await until(lambda: knows(alice, "g.bob"), 5)
            await alice.core.applier.change(settings_of("alice", 1))
            assert not knows(alice, "g.bob")

    simulate(scenario())


class Answers:
    """Takes answers; a `ReplyTo`."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def reply(self, _request_id: int, octets: bytes) -> bool:
        answer = decode(octets)
        self.codes.append(answer.code if isinstance(answer, Reject) else "ok")
        return True


def test_requests_that_take_long_leave_the_node_most_of_its_time_and_peers_take_turns() -> None:
    """Octets of a burst that one read holds: two hundred updates of 30 ms would be six seconds."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        alice = Machine(
            MemoryNetwork(), settings_of("alice", 1, peer("alice", "eve"), peer("alice", "bob"))
        )
        async with nodes(alice):
            control, clock = alice.core.control, alice.core.clock
            handled: list[str] = []

            def request(peer_id: str, *_arguments: Any) -> Fulfill:
                handled.append(peer_id)
                loop.now_s += 0.03
                return ildcp.answer(ildcp.ChildConfig(address="g.a", asset_scale=9, asset_code=""))

            control.router.request = request  # type: ignore[method-assign]
            eve, bob = alice.core.peers["eve"], alice.core.peers["bob"]
            expires_at_ms = clock.now_ms() + 60_000
            update = codec.request(codec.UPDATE, bytes(30_000), expires_at_ms)
            to_eve, to_bob = Answers(), Answers()
            began_s = loop.now_s
            for number in range(200):
                control.answer(eve, update, to_eve, number)
            control.answer(bob, update, to_bob, 1)
            assert loop.now_s - began_s < 0.04, "one at once"
            waiting = bounds.CONTROL_WAITING_PER_PEER_MAX
            assert to_eve.codes == ["ok", *["T05"] * (200 - 1 - waiting)]
            assert control.router.neighbours["eve"].refused == {"too much": 200 - 1 - waiting}
            await until(lambda: len(handled) == waiting + 2, 5)
            assert handled[:3] == ["eve", "eve", "bob"], "bob need not wait for all of them"
            assert to_eve.codes.count("ok") == waiting + 1
            assert to_bob.codes == ["ok"]
            assert loop.now_s - began_s >= 0.03 * (1 + bounds.CONTROL_REST_TIMES) * (waiting + 1)

    simulate(scenario())


# --- addresses (RFC 31)


def family(network: MemoryNetwork) -> tuple[Machine, Machine, Machine]:
    """`up`, its child `kid`, and `grandkid`, the child of that."""
    up = Machine(network, settings_of("up", 1, peer("up", "kid", relation="child")))
    kid = Machine(
        network,
        settings_of(
            "kid", 2,
            peer("kid", "up", dials=1, relation="parent"),
            peer("kid", "grandkid", relation="child", ilp_address_segment="Enkel"),
            ilp_address=None,
        ),
    )  # fmt: skip
    grandkid = Machine(
        network,
        settings_of(
            "grandkid", 3, peer("grandkid", "kid", dials=2, relation="parent"), ilp_address=None
        ),
    )
    return up, kid, grandkid


def test_addresses_come_down_a_line_of_parents_and_are_routed_at_once() -> None:
    async def scenario() -> None:
        up, kid, grandkid = family(MemoryNetwork())
        async with nodes(grandkid, kid):
            answer = await send(kid, "g.up.x")
            assert isinstance(answer, Reject)
            assert answer.code == "T03"
            async with nodes(up):
                await until(lambda: grandkid.core.node.address == "g.up.kid.Enkel", 60)
                assert kid.core.node.address == "g.up.kid"
                for machine, destination in (
                    (up, "g.up.kid.Enkel.shop"),
                    (grandkid, "g.up.shop"),
                    (grandkid, "g.up.kid"),
                ):
                    assert isinstance(await send(machine, destination), Fulfill)
                assert kid.core.routes.best("g.up.kid.Enkel").source is RouteSource.CHILD  # type: ignore[union-attr]

    simulate(scenario())


def test_a_parent_with_another_address_renames_its_children_and_theirs() -> None:
    async def scenario() -> None:
        up, kid, grandkid = family(MemoryNetwork())
        async with nodes(up, kid, grandkid):
            await until(lambda: grandkid.core.node.address == "g.up.kid.Enkel", 60)
            up.core.applier.set_address("g.new")
            took_s = await until(lambda: kid.core.node.address == "g.new.kid", 120)
            assert took_s <= bounds.ILDCP_AGAIN_SECONDS + 1
            # Told by a new link, over which it asks: it need not wait for its own turn.
            await until(lambda: grandkid.core.node.address == "g.new.kid.Enkel", 10)
            assert not knows(kid, "g.up.kid.Enkel") or (
                kid.core.routes.find("g.up.kid.Enkel.x").next_hop == "up"  # type: ignore[union-attr]
            )
            assert isinstance(await send(up, "g.new.kid.Enkel"), Fulfill)
            assert isinstance(await send(grandkid, "g.new.shop"), Fulfill)

    simulate(scenario())


def test_a_parent_that_renames_us_all_the_time_is_followed_once_a_minute() -> None:
    async def scenario() -> None:
        up, kid, _ = family(MemoryNetwork())
        async with nodes(up, kid):
            await until(lambda: kid.core.node.address == "g.up.kid", 60)
            taken: list[str] = []
            for number in range(300):
                up.core.applier.set_address(f"g.n{number}")
                # As often as it likes: it breaks the link, so that it is asked again.
                up.core.links.hang_up("kid", "again")
                up.core.links.flush()
                await asyncio.sleep(1)
                if not taken or taken[-1] != kid.core.node.address:
                    taken.append(kid.core.node.address)
            least = bounds.ILDCP_RENAMED_BURST + 2
            assert least <= len(taken) <= least + 300 // bounds.ILDCP_RENAMED_SECONDS_MIN

    simulate(scenario())


def kid_of(**more: Any) -> tuple[Machine, Machine]:
    """`up`, which counts in XRP/6, and its child, which has no say in it but for `more`."""
    network = MemoryNetwork()
    asset = {"asset_code": "XRP", "asset_scale": 6}
    up = Machine(network, settings_of("up", 1, peer("up", "kid", relation="child"), **asset))
    kid = Machine(
        network,
        settings_of(
            "kid", 2, peer("kid", "up", dials=1, relation="parent"), ilp_address=None, **more
        ),
    )
    return up, kid


def faults(machine: Machine) -> list[dict[str, Any]]:
    return [fields for _, name, fields in machine.log.events if name == "ildcp_asset_differs"]


def test_the_asset_of_the_parent_is_taken_where_none_is_configured() -> None:
    async def scenario() -> None:
        up, kid = kid_of()
        async with nodes(up, kid):
            await until(lambda: kid.core.node.address == "g.up.kid", 60)
            assert kid.core.peers["up"].terms.asset == Asset("XRP", 6)
            assert kid.core.accounts.peers["up"].terms.asset == Asset("XRP", 6)
            assert kid.core.applier.settings.asset_of(kid.core.applier.settings.peers[0]) == Asset(
                "XRP", 6
            )
            assert isinstance(await send(up, "g.up.kid"), Fulfill)
            assert (up.net("kid"), kid.net("up")) == (-1, 1)
            # Other changes of the settings leave it so; one that names an asset has it kept.
            await kid.core.applier.change(kid.settings)
            assert kid.core.peers["up"].terms.asset == Asset("XRP", 6)
            assert not faults(kid)
            assert kid.core.control.addressing.asset_fault == ""
            await asyncio.sleep(1)  # a Fulfill may be relayed before its post is booked
            for machine in (up, kid):
                assert await books_at_rest(machine.core.accounts) == []

    simulate(scenario())


@pytest.mark.parametrize("where", ["node", "peer"])
def test_another_asset_than_configured_is_a_fault_and_told_once(where: str) -> None:
    async def scenario() -> None:
        up, kid = kid_of(**({"asset_code": "EUR"} if where == "node" else {}))
        if where == "peer":
            parent = peer("kid", "up", dials=1, relation="parent", asset_code="EUR")
            kid.settings = settings_of("kid", 2, parent, ilp_address=None)
        async with nodes(up, kid):
            await until(lambda: kid.core.node.address == "g.up.kid", 60)
            await asyncio.sleep(3 * bounds.ILDCP_AGAIN_SECONDS)
            assert kid.core.peers["up"].terms.asset == Asset("EUR", 9)
            (fault,) = faults(kid)
            assert (fault["parent"], fault["configured"]) == ("XRP/6", "EUR/9")
            assert "XRP/6" in kid.core.control.addressing.asset_fault

    simulate(scenario())


def test_a_balance_in_the_former_asset_is_never_lost_from_sight() -> None:
    async def scenario() -> None:
        up, kid = kid_of()
        async with nodes(up, kid):
            await until(lambda: kid.core.node.address == "g.up.kid", 60)
            assert isinstance(await send(up, "g.up.kid"), Fulfill)
            addressing = kid.core.control.addressing
            for number in range(50):  # as often as it likes, with and without an address
                config = ildcp.ChildConfig(
                    address="g.up.kid", asset_scale=number % 7 + 7, asset_code="USD"
                )
                kid.core.node.set_address("" if number % 2 else "g.up.kid")
                addressing._answered(ildcp.answer(config))
                await addressing.tick()
                await asyncio.sleep(0.1)
            assert kid.core.peers["up"].terms.asset == Asset("XRP", 6)
            assert kid.net("up") == 1
            assert 1 <= len(faults(kid)) <= 7

    simulate(scenario())


def test_while_the_ledger_is_away_neither_asset_nor_address_is_taken() -> None:
    async def scenario() -> None:
        up, kid = kid_of()
        async with nodes(up, kid):
            kid.ledger.down = Fault.REFUSED
            await asyncio.sleep(20)
            assert kid.core.node.address == ""
            assert kid.core.peers["up"].terms.asset == Asset("USD", 9)
            kid.ledger.down = None
            await until(lambda: kid.core.node.address == "g.up.kid", 60)
            assert kid.core.peers["up"].terms.asset == Asset("XRP", 6)
            assert isinstance(await send(up, "g.up.kid"), Fulfill)

    simulate(scenario())


def test_an_address_that_a_node_cannot_have_is_not_taken() -> None:
    async def scenario() -> None:
        up, kid, _ = family(MemoryNetwork())
        async with nodes(up, kid):
            await until(lambda: kid.core.node.address == "g.up.kid", 60)
            for address in ("peer.x", "self.x", "g." + "a" * 800):
                config = ildcp.ChildConfig(address=address, asset_scale=9, asset_code="USD")
                control = kid.core.control.addressing
                control._answered(ildcp.answer(config))
                assert kid.core.node.address == "g.up.kid"
            failed = [line for line in kid.log.events if line[1] == "ildcp_failed"]
            assert len(failed) == 3
            for code in ("", "US D", "x" * 33):
                config = ildcp.ChildConfig(address="g.up.kid", asset_scale=9, asset_code=code)
                control._answered(ildcp.answer(config))
            failed = [line for line in kid.log.events if line[1] == "ildcp_failed"]
            assert len(failed) == 6

    simulate(scenario())


def test_a_parent_that_refuses_is_asked_again_later_each_time() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        up = Machine(network, settings_of("up", 1, peer("up", "kid")))  # no child for it
        kid = Machine(
            network,
            settings_of("kid", 2, peer("kid", "up", dials=1, relation="parent"), ilp_address=None),
        )
        async with nodes(up, kid):
            await asyncio.sleep(100)
            failed = [line for line in kid.log.events if line[1] == "ildcp_failed"]
            assert 6 <= len(failed) <= 10
            assert kid.core.node.address == ""

    simulate(scenario())


def test_bounds_of_the_two_kinds_of_requests_fit_each_other() -> None:
    assert routing_bounds.ANSWER_MS_MAX < routing_bounds.REQUEST_EXPIRY_MS
    assert bounds.OWN_ADDRESS_CHARACTERS_MAX + 1 + 64 < 1023
