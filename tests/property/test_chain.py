"""A chain of nodes in simulated time: whatever breaks, the books of neighbours agree at the end."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.ilp.packet import Fulfill, Prepare, Reject, decode
from connector.peering.model import Asset
from tests.support.accounts import Fault
from tests.support.clocks import NothingWillHappenError, simulate
from tests.support.simulator import Network, SimulatedNode

USD = Asset("USD", 9)
EUR = Asset("EUR", 2)
SEEDS = int(os.environ.get("CHAIN_SEEDS") or min(30, settings().max_examples // 6))
"""How many random days are lived through; a few where few examples are asked for."""
RATES = {("USD", "EUR"): Fraction(1, 2), ("EUR", "USD"): Fraction(2)}


# --- the simulator itself


def test_simulated_time_passes_by_itself() -> None:
    async def wait() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert simulate(wait()) == 3600


def test_a_wait_without_end_is_an_error() -> None:
    with pytest.raises(NothingWillHappenError):
        simulate(asyncio.Event().wait())


def test_a_packet_travels_a_chain_and_back() -> None:
    async def scenario() -> None:
        async with Network() as network:
            a, b, c = await network.chain("a", "b", "c")
            assert isinstance(await a.send("g.c", 100), Fulfill)
            assert a.accounts.peers["b"].net_balance == -100
            assert b.accounts.peers["a"].net_balance == 100
            assert b.accounts.peers["c"].net_balance == -100
            assert c.accounts.peers["b"].net_balance == 100
            assert await network.faults() == []

    simulate(scenario())


def test_a_wire_that_is_cut_and_joined_answers_over_the_new_connection() -> None:
    """The first connection takes the answer with it; the second asks under the same id."""

    async def scenario() -> None:
        async with Network() as network:
            a, b, c = await network.chain("a", "b", "c")
            wire = network.wire("b", "c")
            wire.latency_s = 0.1
            answer = a.begin("g.c", 100)
            while not c.results:
                await asyncio.sleep(0.01)
            wire.cut()
            await asyncio.sleep(1)
            assert not answer.done()
            wire.join()
            assert isinstance(decode(await answer), Fulfill)
            assert len(c.results) == 1
            assert c.peers["b"].counters.resent_in == 1
            assert b.peers["c"].counters.answers_late == 0
            assert await network.faults() == []

    simulate(scenario())


def test_a_cut_without_packet_ids_gives_the_money_back() -> None:
    async def scenario() -> None:
        async with Network() as network:
            a, _, c = await network.chain("a", "b", "c")
            c.handler = lambda _prepare: None
            wire = network.wire("b", "c")
            wire.resumable = False
            answer = a.begin("g.c", 100, fulfillment=b"p" * 32)
            await asyncio.sleep(1)
            wire.cut()
            rejected = decode(await answer)
            assert isinstance(rejected, Reject)
            assert (rejected.code, rejected.triggered_by) == ("T00", "g.b")
            wire.join()
            await network.rest()
            assert await network.faults() == []

    simulate(scenario())


@pytest.mark.parametrize("victim", ["b", "c"])
@pytest.mark.parametrize("after_s", [0.001 * ms for ms in range(0, 140, 4)])
def test_a_node_that_is_killed_at_any_moment_pays_and_is_paid_once(
    victim: str, after_s: float
) -> None:
    """Killed while it reserves, waits, posts, has told: the sender gets its answer all the same."""

    async def scenario() -> None:
        async with Network() as network:
            a, *_ = await network.chain("a", "b", "c")
            for node in network.nodes.values():
                node.ledger.latency_s = 0.01
            for wire in network.wires_of("b"):
                wire.latency_s = 0.01
            answer = a.begin("g.c", 100)
            await asyncio.sleep(after_s)
            network.nodes[victim].kill()
            await asyncio.sleep(0.5)
            await network.nodes[victim].start()
            said = decode(await answer)
            if isinstance(said, Reject):
                # It had not left yet: then it is sure that nothing was promised.
                assert said.code == "T01", said
            await network.rest()
            assert await network.faults() == []
            assert a.accounts.peers["b"].net_balance == (0 if isinstance(said, Reject) else -100)

    simulate(scenario())


# --- anything at all


@dataclass(frozen=True)
class Payment:
    """One packet and what its receiver will make of it."""

    at_s: float
    sender: str
    receiver: str
    amount: int
    outcome: str


@dataclass(frozen=True)
class Trouble:
    """Something that breaks for a while."""

    at_s: float
    for_s: float
    what: str
    where: int


NODES = ("a", "b", "c")
# Close together, so that things break while packets are under way.
moments = st.integers(0, 100).map(lambda hundredths: hundredths / 100)
payments = st.builds(
    Payment,
    at_s=moments,
    sender=st.sampled_from("ac"),
    receiver=st.sampled_from(NODES),
    amount=st.integers(0, 400) | st.integers(0, 50_000),
    outcome=st.sampled_from(("pay", "pay", "pay", "reject", "lie", "silence")),
)
troubles = st.builds(
    Trouble,
    at_s=moments,
    for_s=st.sampled_from((0.01, 0.1, 0.5, 1.0, 2.0)),
    what=st.sampled_from(
        ("cut", "cut", "kill", "ledger refuses", "ledger loses", "ledger hangs", "outbox")
    ),
    where=st.integers(0, 2),
)


def _receive(prepare: Prepare) -> Fulfill | Reject | None:
    outcome, _, preimage = prepare.data.partition(b" ")
    match outcome:
        case b"pay":
            return Fulfill(fulfillment=preimage)
        case b"lie":
            return Fulfill(fulfillment=b"\0" * 32)
        case b"reject":
            return Reject(code="F99", triggered_by="g.x")
        case _:
            return None


async def _pay(network: Network, payment: Payment, number: int) -> None:
    await asyncio.sleep(payment.at_s)
    preimage = number.to_bytes(32, "big")
    node = network.nodes[payment.sender]
    await node.send(
        f"g.{payment.receiver}",
        payment.amount,
        fulfillment=preimage,
        data=payment.outcome.encode() + b" " + preimage,
        expiry_s=15,
    )


async def _trouble(network: Network, trouble: Trouble) -> None:
    await asyncio.sleep(trouble.at_s)
    node: SimulatedNode = network.nodes[NODES[trouble.where]]
    ledger = node.ledger
    match trouble.what:
        case "cut":
            wire = network.wire("b", "ac"[trouble.where % 2])
            wire.cut()
            await asyncio.sleep(trouble.for_s)
            wire.join()
        case "kill":
            # The one between: who asks for a packet itself has nobody to ask it again.
            if network.nodes["b"].alive and not network.nodes["b"].outbox.error:
                node = network.nodes["b"]
                node.kill()
                await asyncio.sleep(trouble.for_s)
                if not node.ledger.may_be_away:
                    node.ledger.down = None
                node.ledger.gate.set()
                node.outbox.error = None
                await node.start()
        case "ledger refuses" | "ledger loses":
            ledger.down = Fault.REFUSED if trouble.what == "ledger refuses" else Fault.LOST
            await asyncio.sleep(trouble.for_s)
            ledger.down = None
        case "ledger hangs":
            ledger.gate.clear()
            await asyncio.sleep(trouble.for_s)
            ledger.gate.set()
        case _:
            node.outbox.error = OSError("disk full")
            await asyncio.sleep(trouble.for_s)
            node.outbox.error = None


async def _survive(network: Network, traffic: list[Payment], trouble: list[Trouble]) -> None:
    for node in network.nodes.values():
        node.handler = _receive
    async with asyncio.TaskGroup() as group:
        for number, payment in enumerate(traffic):
            group.create_task(_pay(network, payment, number))
        for one in trouble:
            group.create_task(_trouble(network, one))
    await network.rest()
    assert await network.faults() == []


async def _chain(
    network: Network, *, fee_basis_points: int, two_assets: bool, slowness_s: float
) -> None:
    await network.chain(
        *NODES,
        credit_limit=100_000,
        fee_basis_points=fee_basis_points,
        assets=[USD, EUR if two_assets else USD],
        rates=RATES,
    )
    for node in network.nodes.values():
        node.ledger.latency_s = slowness_s
    for wire in network.wires_of("b"):
        wire.latency_s = slowness_s


async def _busy_day(
    dice: random.Random,
    traffic: list[Payment],
    trouble: list[Trouble],
    *,
    seed: int,
    spool_transfers_max: int | None = None,
) -> None:
    async with Network(seed, spool_transfers_max=spool_transfers_max) as network:
        await _chain(
            network,
            fee_basis_points=dice.choice((0, 30)),
            two_assets=dice.random() < 0.5,
            slowness_s=dice.choice((0.001, 0.02, 0.1)),
        )
        await _survive(network, traffic, trouble)


# Each example is a day in the life of a node: fewer of them do.
@settings(max_examples=settings().max_examples // 6)
@given(
    st.lists(payments, min_size=1, max_size=20),
    st.lists(troubles, max_size=4),
    st.integers(0, 100),
    st.booleans(),
    st.sampled_from((0.001, 0.01, 0.05)),
)
def test_the_books_of_a_chain_balance_whatever_breaks(
    traffic: list[Payment],
    trouble: list[Trouble],
    fee: int,
    two_assets: bool,
    slowness_s: float,
) -> None:
    async def scenario() -> None:
        async with Network() as network:
            await _chain(
                network, fee_basis_points=fee, two_assets=two_assets, slowness_s=slowness_s
            )
            await _survive(network, traffic, trouble)

    simulate(scenario())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_books_of_a_busy_chain_balance_whatever_breaks(seed: int) -> None:
    dice = random.Random(seed)
    traffic = [
        Payment(
            at_s=dice.random() * 3,
            sender=dice.choice("ac"),
            receiver=dice.choice(NODES),
            amount=dice.choice((0, 10, 400, 40_000)),
            outcome=dice.choice(("pay", "pay", "pay", "pay", "reject", "lie", "silence")),
        )
        for _ in range(200)
    ]
    trouble = [
        Trouble(
            at_s=dice.random() * 3,
            for_s=dice.choice((0.05, 0.4, 1.0, 2.0)),
            what=dice.choice(
                ("cut", "kill", "ledger refuses", "ledger loses", "ledger hangs", "outbox")
            ),
            where=dice.randrange(3),
        )
        for _ in range(dice.randrange(8))
    ]
    simulate(_busy_day(dice, traffic, trouble, seed=seed))


@pytest.mark.parametrize("spool_transfers_max", [0, 10_000])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_books_balance_when_ledgers_are_away_and_nodes_die_meanwhile(
    seed: int, spool_transfers_max: int
) -> None:
    """A node that is back before its ledger is: only the ledger knows what it had taken."""
    dice = random.Random(seed)
    traffic = [
        Payment(
            at_s=dice.random() * 5,
            sender=dice.choice("ac"),
            receiver=dice.choice(NODES),
            amount=dice.choice((0, 10, 400)),
            outcome=dice.choice(("pay", "pay", "pay", "pay", "reject", "silence")),
        )
        for _ in range(300)
    ]
    trouble = [
        Trouble(
            at_s=dice.random() * 3,
            for_s=dice.choice((0.05, 0.4, 1.0, 3.0)),
            what=dice.choice(("cut", "kill", "ledger refuses", "ledger loses", "ledger hangs")),
            where=dice.randrange(3),
        )
        for _ in range(dice.randrange(6))
    ]
    # The two at once, for longer than answers are kept of which a receipt came.
    died_s, away_s = dice.random() * 3, dice.random() * 3
    trouble += [
        Trouble(away_s, dice.choice((2.0, 4.0, 6.0)), "ledger refuses", 1),
        Trouble(died_s, dice.choice((0.05, 0.5, 2.0)), "kill", 1),
    ]
    day = _busy_day(dice, traffic, trouble, seed=seed, spool_transfers_max=spool_transfers_max)
    simulate(day)
