"""How settlements are booked: under ids derived from their keys, and net of what is held."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector.accounting.promises import Reservation
from connector.base.errors import (
    LedgerUnavailableError,
    SettlementConflictError,
    SettlementError,
)
from connector.base.sqlite import SqliteFile
from connector.ledger.model import DERIVED_ID_MAX, Status, Transfer, TransferCode
from connector.settlement.model import Direction, Phase, Quantity, State, key_tag
from connector.settlement.store import SettlementStore
from connector.telemetry.events import SettlementFailed, SettlementStarted
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated
from tests.support.settlements import (
    ALICE,
    BOB,
    USD,
    DurableState,
    EngineFault,
    SettlementNode,
    settlement_transfers,
)

RICH = replace(BOB, credit_limit=1_000_000_000, settle_threshold=50_000)
"""A peer whose credit limit is far above what it is owed: the ledger's own check stops nothing."""
UNASKED = replace(BOB, settle_threshold=None)


async def held_of(node: SettlementNode, amount: int) -> Reservation:
    """Money held for a packet that bob has sent."""
    held = await node.hold(amount, source="bob", next_hop="alice")
    assert held is not None
    return held


def between_look_and_booking(
    node: SettlementNode, what: Callable[[], Coroutine[Any, Any, object]]
) -> None:
    """Have `what` happen once, after the next decision has looked at the ledger."""
    original = node.accounts.settleable
    todo = [what]

    async def stale(peer_id: str) -> tuple[int, int]:
        answer = await original(peer_id)
        if todo:
            await todo.pop()()
        return answer

    node.accounts.settleable = stale  # type: ignore[method-assign]


# --- net of what is held for packets that the peer has sent


@pytest.mark.parametrize(
    ("held", "paid"),
    [(0, 100_000), (40_000, 60_000), (99_999, 1), (100_000, 0), (300_000, 0)],
)
@simulated
async def test_what_is_held_for_the_peers_packets_counts_as_paid_by_it(
    held: int, paid: int
) -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, RICH)) as node:
        if held:
            await held_of(node, held)
        assert await node.owe(100_000)
        await node.settlements._pause(15)
        assert node.settled() == (paid, 0)
        assert sum(one.amount for one in durable.engine.paid.values()) == paid


@simulated
async def test_what_was_held_is_paid_once_its_packet_is_rejected() -> None:
    async with SettlementNode(DurableState(), (ALICE, RICH)) as node:
        held = await held_of(node, 300_000)
        assert await node.owe(100_000)
        await node.settlements._pause(10)
        assert node.settled() == (0, 0)
        node.accounts.void(held)
        await node.until(lambda: node.settled() == (100_000, 0))
        assert node.net() == 0


@simulated
async def test_what_was_held_is_not_paid_once_its_packet_is_fulfilled() -> None:
    async with SettlementNode(DurableState(), (ALICE, RICH)) as node:
        held = await held_of(node, 40_000)
        assert await node.owe(100_000)
        await node.until(lambda: node.settled() == (60_000, 0))
        await node.post(held)
        await node.quiet()
        assert (node.net(), node.settled()) == (0, (60_000, 0))


@simulated
async def test_held_packets_cannot_bring_what_we_owe_below_settle_to() -> None:
    async with SettlementNode(DurableState(), (ALICE, replace(RICH, settle_to=20_000))) as node:
        held = await held_of(node, 40_000)
        assert await node.owe(100_000)
        await node.until(lambda: node.settled() == (40_000, 0))
        await node.post(held)
        await node.quiet()
        assert (node.net(), node.settled()) == (-20_000, (40_000, 0))


@simulated
async def test_an_operator_cannot_pay_out_what_is_held() -> None:
    async with SettlementNode(DurableState(), (ALICE, RICH)) as node:
        assert await node.owe(40_000)
        await held_of(node, 30_000)
        with pytest.raises(SettlementError, match="we owe 40000, of which 10000 is not held"):
            await node.settlements.pay("bob", "k", 10_001)
        assert (await node.settlements.pay("bob", "k2", None)).amount == 10_000


# --- checked again as it is booked


@pytest.mark.interpreted
@simulated
async def test_packets_that_come_while_it_is_decided_reduce_what_is_booked() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, RICH), scale=7) as node:
        between_look_and_booking(node, lambda: held_of(node, 40_050))
        assert await node.owe(100_000)
        await node.until(lambda: node.settlements.counts.get(("bob", "completed")) == 1)
        assert settlement_transfers(durable) == [59_900], "in whole units of the engine"
        assert list(durable.engine.paid.values()) == [Quantity(599, 7)]
        (stored,) = await node.store.latest("bob", 10)
        assert (stored.amount, stored.quantity) == (59_900, Quantity(599, 7))
        started = next(event for event in node.events if isinstance(event, SettlementStarted))
        assert started.amount == 59_900


@pytest.mark.interpreted
@simulated
async def test_packets_that_come_while_it_is_decided_can_stop_it() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, RICH)) as node:
        held: list[Reservation] = []

        async def meanwhile() -> None:
            held.append(await held_of(node, 300_000))

        between_look_and_booking(node, meanwhile)
        assert await node.owe(100_000)
        await node.until(lambda: node.settlements.counts.get(("bob", "refused")) == 1)
        refused = next(event for event in node.events if isinstance(event, SettlementFailed))
        assert "held for packets that it has sent" in refused.error
        assert (node.settled(), durable.engine.asked) == ((0, 0), [])
        (stored,) = await node.store.latest("bob", 10)
        assert stored.phase is Phase.REFUSED
        # An earlier request that arrives only now must not take effect.
        late = Transfer(
            id=stored.booking_id,
            debit_account_id=node.accounts.peers["bob"].peer.account_id,
            credit_account_id=node.accounts.peers["bob"].settlement.account_id,
            amount=100_000,
            user_data_128=key_tag(stored.key),
            ledger=node.accounts.peers["bob"].peer.ledger,
            code=TransferCode.SETTLEMENT,
        )
        assert await durable.ledger.create_transfers([late]) == [Status.ID_ALREADY_FAILED]
        node.accounts.void(held[0])
        await node.until(lambda: node.settled() == (100_000, 0), 120)
        assert len(durable.engine.paid) == 1, "decided anew, under another key"


@pytest.mark.interpreted
@simulated
async def test_an_operator_gets_the_amount_asked_for_or_nothing() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, replace(RICH, settle_threshold=10**9))) as node:
        assert await node.owe(100_000)
        between_look_and_booking(node, lambda: held_of(node, 1))
        await node.settlements.pay("bob", "k", 100_000)
        await node.until(lambda: node.settlements.counts.get(("bob", "refused")) == 1)
        assert settlement_transfers(durable) == []
        await node.settlements.pay("bob", "k2", 99_999)
        await node.until(lambda: node.settled() == (99_999, 0))


@pytest.mark.interpreted
@pytest.mark.parametrize("held", [0, 40_000])
@simulated
async def test_a_limit_lowered_while_it_is_decided_changes_nothing(held: int) -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, RICH)) as node:
        if held:
            await held_of(node, held)
        between_look_and_booking(node, lambda: node.accounts.set_credit_limit("bob", 0))
        assert await node.owe(100_000)
        await node.until(lambda: node.settled() == (100_000 - held, 0))
        assert ("bob", "refused") not in node.settlements.counts
        assert node.accounts.peers["bob"].available_credit == 0


@pytest.mark.interpreted
@pytest.mark.parametrize(("amount", "paid"), [(40_000, 60_000), (300_000, 0)])
@pytest.mark.parametrize("fault", Fault)
@simulated
async def test_a_failing_ledger_books_the_reduced_amount_once(
    fault: Fault, amount: int, paid: int
) -> None:
    """What an earlier request has booked stands, whatever the next one would have booked."""
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, RICH)) as node:

        async def meanwhile() -> None:
            await held_of(node, amount)
            durable.ledger.next_faults = [fault]

        between_look_and_booking(node, meanwhile)
        assert await node.owe(100_000)
        result = "completed" if paid else "refused"
        await node.until(lambda: node.settlements.counts.get(("bob", result)) == 1)
        assert node.settlements.counts["bob", "failed"] == 1
        assert node.settled() == (paid, 0)
        assert settlement_transfers(durable) == [paid] * bool(paid)
        assert [one.amount for one in durable.engine.paid.values()] == [paid] * bool(paid)
        assert node.net() == paid - 100_000


@pytest.mark.interpreted
@pytest.mark.parametrize("point", range(10))
@simulated
async def test_a_crash_at_any_point_pays_what_is_booked(point: int) -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, RICH)) as node:

        async def meanwhile() -> None:
            await held_of(node, 40_000)
            durable.crash_points.arm(point)

        between_look_and_booking(node, meanwhile)
        assert await node.owe(100_000)
        await durable.crash_points.crashed.wait()
    durable.crash_points.arm(None)
    async with SettlementNode(durable, (ALICE, RICH)) as node:
        await node.quiet()
        (stored,) = await node.store.latest("bob", 10)
        assert stored.phase is Phase.COMPLETED
        assert settlement_transfers(durable) == [stored.amount]
        assert list(durable.engine.paid.values()) == [stored.quantity]
        assert stored.amount == stored.quantity.amount == 60_000
        await node.settlements._pause(60)
        await node.accounts.expire()
        assert await books_at_rest(node.accounts) == []


# --- ids derived from keys


@simulated
async def test_a_transfer_is_found_by_what_it_is_for() -> None:
    async with SettlementNode(DurableState()) as node:
        name = node.accounts.settlement_id
        ids = [
            name("bob", "incoming", "engine", "k"),
            name("alice", "incoming", "engine", "k"),
            name("bob", "outgoing", "engine", "k"),
            name("bob", "incoming", "operator", "k"),
            name("bob", "incoming", "engine", "k2"),
            name("bob", "incoming", "enginek", ""),
        ]
        assert len(set(ids)) == len(ids)
        assert all(0 < id_ <= DERIVED_ID_MAX and id_ & 0xFF == 0 for id_ in ids)
        assert ids[0] == name("bob", "incoming", "engine", "k")
        one = await node.settlements.receive("bob", "k", Quantity(254, 9))
        assert one.booking_id == ids[0]
        assert one.settlement_id == f"{one.id:032x}" != f"{one.booking_id:032x}"


@simulated
async def test_a_payment_told_again_after_the_store_was_lost_is_credited_once() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        first = await node.settlements.receive("bob", "k", Quantity(254, 9))
    durable.lose_store()
    async with SettlementNode(durable) as node:
        again = await node.settlements.receive("bob", "k", Quantity(254, 9))
        assert (again.phase, again.amount) == (Phase.COMPLETED, first.amount)
        assert node.logged("settlement_known_to_ledger") == 1
        assert (node.settlements.counts, node.events) == ({}, []), "it was told of before"
        await node.settlements.receive("bob", "k", Quantity(254, 9))
        assert [one.key for one in await node.store.latest("bob", 10)] == ["k"]
        assert (node.net(), node.settled()) == (-254, (0, 254))
        assert settlement_transfers(durable) == [254]
        assert await books_at_rest(node.accounts) == []


@simulated
async def test_a_payment_told_to_two_processes_is_credited_once() -> None:
    """Each has a store of its own; they share the ledger."""
    durable = DurableState()
    durable.ledger.one_at_a_time = False
    async with SettlementNode(durable) as first:
        durable.lose_store()
        async with SettlementNode(durable) as second:
            for node in (first, second, first):
                one = await node.settlements.receive("bob", "k", Quantity(5000, 9))
                assert (one.phase, one.amount) == (Phase.COMPLETED, 5000)
            assert settlement_transfers(durable) == [5000]


@pytest.mark.parametrize(
    "other",
    [Quantity(255, 9), Quantity(253, 9), Quantity(254, 8), Quantity(2529, 10), Quantity(2551, 10)],
)
@simulated
async def test_another_amount_under_a_key_of_the_ledger_is_refused(other: Quantity) -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        await node.settlements.receive("bob", "k", Quantity(254, 9))
    durable.lose_store()
    async with SettlementNode(durable) as node:
        with pytest.raises(SettlementConflictError, match="as booked in the ledger"):
            await node.settlements.receive("bob", "k", other)
        assert node.logged("settlement_key_reused") == 1
        # Nothing of it is kept: the right quantity is answered still.
        assert (await node.settlements.receive("bob", "k", Quantity(254, 9))).amount == 254
        assert node.settled() == (0, 254)


@simulated
async def test_keys_that_the_ledger_knows_leave_the_remainder_alone() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        await node.settlements.receive("bob", "k1", Quantity(6, 10))
        assert (await node.settlements.receive("bob", "k2", Quantity(16, 10))).amount == 2
    durable.lose_store()
    async with SettlementNode(durable) as node:
        again = await node.settlements.receive("bob", "k2", Quantity(16, 10))
        assert again.amount == 2, "as booked, with a remainder that is lost"
        assert (await node.store.remainder("bob", USD)).amount == 0
        assert (await node.settlements.receive("bob", "k3", Quantity(19, 10))).amount == 1
        assert await node.store.remainder("bob", USD) == Quantity(9, 10)
        assert node.settled() == (0, 3)


@simulated
async def test_a_known_payment_told_while_the_ledger_is_away_is_found_when_it_is_back() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        await node.settlements.receive("bob", "k1", Quantity(6, 10))
        await node.settlements.receive("bob", "k2", Quantity(16, 10))
    durable.lose_store()
    async with SettlementNode(durable) as node:
        original = durable.ledger.lookup_transfers

        async def away(_ids: Any) -> list[Transfer]:
            raise LedgerUnavailableError("away on purpose")

        durable.ledger.lookup_transfers = away  # type: ignore[method-assign]
        durable.ledger.down = Fault.REFUSED
        with pytest.raises(LedgerUnavailableError):
            await node.settlements.receive("bob", "k2", Quantity(16, 10))
        durable.ledger.lookup_transfers = original  # type: ignore[method-assign]
        durable.ledger.down = None
        await node.quiet()
        one = await node.settlements.receive("bob", "k2", Quantity(16, 10))
        assert (one.phase, one.amount) == (Phase.COMPLETED, 2)
        assert node.settled() == (0, 2)
        assert await books_at_rest(node.accounts) == []


@simulated
async def test_a_payment_that_an_operator_recorded_is_booked_once() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, UNASKED)) as node:
        assert await node.owe(500)
        await node.settlements.record("bob", Direction.OUTGOING, "k", Quantity(200, 9))
    durable.lose_store()
    async with SettlementNode(durable, (ALICE, UNASKED)) as node:
        with pytest.raises(SettlementConflictError, match="as booked in the ledger"):
            await node.settlements.pay("bob", "k", 200)
        one = await node.settlements.record("bob", Direction.OUTGOING, "k", Quantity(200, 9))
        assert (one.phase, node.net(), node.settled()) == (Phase.COMPLETED, -300, (200, 0))


@simulated
async def test_a_payment_asked_for_again_after_the_store_was_lost_is_booked_once() -> None:
    """Whether the engine has paid is not known: it is asked under the same key."""
    durable = DurableState()
    durable.engine.next_faults = [EngineFault.LOST]
    quiet = replace(RICH, settle_threshold=10**9)
    async with SettlementNode(durable, (ALICE, quiet)) as node:
        assert await node.owe(500)
        await node.settlements.pay("bob", "k", 300)
        await node.until(lambda: len(durable.engine.asked) == 1)
    durable.lose_store()
    async with SettlementNode(durable, (ALICE, quiet)) as node:
        with pytest.raises(SettlementConflictError, match="as booked in the ledger"):
            await node.settlements.pay("bob", "k", 299)
        one = await node.settlements.pay("bob", "k", None)
        assert one.amount == 300
        await node.quiet()
        assert one.phase is Phase.COMPLETED
        assert durable.engine.paid == {"k": Quantity(300, 9)}
        assert (settlement_transfers(durable), node.net()) == ([300], -200)


@simulated
async def test_a_payment_that_was_cancelled_is_not_taken_up_again() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, UNASKED), by_hand=True) as node:
        assert await node.owe(500)
        one = await node.settlements.pay("bob", "k", 300)
        await node.until(lambda: node.settlements.state("bob") is State.IN_PROGRESS)
        await node.until(lambda: one.phase is Phase.BOOKED)
        await node.settlements.cancel("bob", one.settlement_id, force=False)
    durable.lose_store()
    async with SettlementNode(durable, (ALICE, UNASKED), by_hand=True) as node:
        with pytest.raises(SettlementConflictError, match="was cancelled"):
            await node.settlements.pay("bob", "k", 300)
        assert (node.net(), node.settled()) == (-500, (300, 300))


# --- files of versions before ids were derived

FORMER_SCHEMA = """
DROP TABLE settlement;
CREATE TABLE settlement (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    peer_id TEXT NOT NULL, asset_code TEXT NOT NULL, asset_scale INTEGER NOT NULL,
    direction TEXT NOT NULL, origin TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    amount TEXT NOT NULL, quantity_amount TEXT NOT NULL, quantity_scale INTEGER NOT NULL,
    payer TEXT NOT NULL, phase TEXT NOT NULL,
    created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    UNIQUE (peer_id, origin, idempotency_key, asset_code, asset_scale));
"""
FORMER_ROW = (
    "INSERT INTO settlement (id, peer_id, asset_code, asset_scale, direction, origin, "
    "idempotency_key, amount, quantity_amount, quantity_scale, payer, phase, created_ms, "
    "changed_ms) VALUES (?, 'bob', 'USD', 9, ?, ?, ?, ?, ?, 9, ?, ?, 1, 1)"
)
IN, OUT = 5 << 88, 6 << 88


@pytest.mark.parametrize("booked", [True, False], ids=["booked", "not booked"])
@simulated
async def test_settlements_of_a_former_version_keep_the_ids_they_were_booked_under(
    booked: bool,
) -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, UNASKED)) as node:
        assert await node.owe(100)
        if booked:
            record = node.accounts.record_settlement
            await record("bob", IN, 70, outgoing=False, tag=key_tag("in"))
            await record("bob", OUT, 50, outgoing=True, tag=key_tag("out"))
    file = durable.file.connection
    file.executescript(FORMER_SCHEMA)
    file.execute(
        FORMER_ROW, (f"{IN:032x}", "incoming", "engine", "in", *["70"] * 2, "nobody", "pending")
    )
    file.execute(
        FORMER_ROW,
        (f"{OUT:032x}", "outgoing", "threshold", "out", *["50"] * 2, "engine", "pending"),
    )
    async with SettlementNode(durable, (ALICE, replace(BOB, settle_threshold=10**6))) as node:
        await node.quiet()
        assert node.settled() == (50, 70)
        assert durable.engine.paid == {"out": Quantity(50, 9)}
        assert (await node.settlements.receive("bob", "in", Quantity(70, 9))).id == IN
        assert {one.booking_id for one in await node.store.latest("bob", 10)} == {IN, OUT}
        there = await durable.ledger.lookup_transfers([IN, OUT])
        assert [one.amount for one in there] == [70, 50]
        await node.settlements.receive("bob", "new", Quantity(1, 9))
        assert sum(settlement_transfers(durable)) == 50 + 70 + 1
        assert await books_at_rest(node.accounts) == []


async def test_a_file_of_a_former_version_is_read_without_being_changed(tmp_path: Path) -> None:
    path = tmp_path / "settlements.db"
    file = SqliteFile(path)
    await file.open(FORMER_SCHEMA.replace("DROP TABLE settlement;", ""))
    values = (f"{IN:032x}", "incoming", "engine", "in", "70", "70", "nobody", "completed")
    await file.run(lambda connection: connection.execute(FORMER_ROW, values))
    await file.close()
    for read_only in (True, False, True):
        store = SettlementStore(SqliteFile(path, read_only=read_only), read_only=read_only)
        await store.open()
        assert await store.booked("bob", USD) == [(Phase.COMPLETED, Direction.INCOMING, 70)]
        await store.close()
