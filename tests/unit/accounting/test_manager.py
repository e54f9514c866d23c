"""The whole `AccountManager` under random scripts of packets, faults and restarts."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connector.accounting.promises import Outcome, Reservation
from connector.peering.model import LOCAL
from tests.support.accounting_node import ALICE, BOB, CAROL, WE, AccountingNode, expired, taken
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulate, simulated

CODES = ("alice", "bob", "carol", LOCAL)
PARTIES = {"alice": ALICE, "bob": BOB, "carol": CAROL, LOCAL: WE}
steps = st.one_of(
    st.tuples(
        st.just("reserve"),
        st.sampled_from(CODES),
        st.sampled_from(CODES),
        st.integers(2, 400),
        st.integers(0, 1),
    ),
    st.tuples(st.just("post"), st.integers(0, 10)),
    st.tuples(st.just("void"), st.integers(0, 10)),
    st.tuples(st.just("forget"), st.integers(0, 10)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.05, 0.3, 2.0, 14.0])),
    st.tuples(st.just("fail"), st.sampled_from([*Fault, None]), st.integers(1, 3)),
    st.tuples(st.just("hang"), st.sampled_from([0.01, 0.4, 3.0])),
    st.tuples(st.just("outbox"), st.booleans()),
    st.tuples(st.just("restart")),
)


class ScriptRunner:
    """Executes a script on a node, which may be closed and opened again meanwhile."""

    def __init__(self, spool: int) -> None:
        self.node = AccountingNode(spool=spool)
        self.fresh = 0
        self.held: list[tuple[int, Reservation, tuple[Any, ...]]] = []
        self.owed = dict.fromkeys(CODES, 0)
        """Net balance of each peer by the Fulfills that were sent."""

    async def carry_out(self, script: list[tuple[Any, ...]]) -> None:
        await self.node.__aenter__()
        for step in script:
            await getattr(self, "_" + step[0])(*step[1:])
        self.node.outbox.error = None
        self.node.ledger.next_faults = []
        self.node.ledger.gate.set()

    async def _reserve(self, source: str, target: str, amount: int, fee: int) -> None:
        self.fresh += 1
        there, here = PARTIES[target], PARTIES[source]
        out = amount - fee if there.asset == here.asset else max(1, (amount - fee) // 2)
        reservation = self.node.reserve(
            self.fresh, amount, source=here, next_hop=there, fee=fee, amount_out=out, hold_ms=2000
        )
        if isinstance(reservation, Reservation):
            self.held.append((self.fresh, reservation, (source, target, amount, out)))

    def _pick(self, at: int) -> tuple[int, Reservation, tuple[Any, ...]] | None:
        held = [one for one in self.held if self.node.outcomes.get(one[0]) is Outcome.HELD]
        if not held:
            return None
        self.held.remove(held[at % len(held)])
        return held[at % len(held)]

    async def _post(self, at: int) -> None:
        if (one := self._pick(at)) is not None:
            token, reservation, (source, target, amount, out) = one
            self.node.post(token, reservation)
            told = await self.node.outcome(token, other_than=Outcome.HELD)
            assert told in (Outcome.POSTED, Outcome.RELEASED)
            self.owed[source] += amount
            self.owed[target] -= out

    async def _void(self, at: int) -> None:
        if (one := self._pick(at)) is not None:
            self.node.manager.void(one[1])

    async def _forget(self, at: int) -> None:
        """As a crash between two steps would: only the timeout frees it, only a restart notes it."""
        await self._void(at)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _fail(self, fault: Fault | None, times: int) -> None:
        self.node.ledger.next_faults += [fault] * times

    async def _hang(self, seconds: float) -> None:
        self.node.ledger.gate.clear()
        asyncio.get_running_loop().call_later(seconds, self.node.ledger.gate.set)

    async def _outbox(self, broken: bool) -> None:
        self.node.outbox.error = OSError("disk full") if broken else None

    async def _restart(self) -> None:
        ledger, outbox = self.node.ledger, self.node.outbox
        if outbox.error is not None or self.node.manager._promises.has_overdue:
            return  # a second failure on top: what is lost then was told to the operator
        # What was let go without being durable would be lost: wait for it, like an operator.
        await self.node.idle()
        await self.node.__aexit__(None, None, None)
        ledger.next_faults = []
        ledger.gate.set()
        corrections = self.node.manager.counters.corrections
        self.node = AccountingNode(ledger=ledger, outbox=outbox, spool=self.node.spool)
        self.node.outcomes = {}
        self.held = []
        self.node.manager.counters.corrections = corrections
        await self.node.__aenter__()


# Each example is a long script: a quarter of the usual number is enough.
@settings(max_examples=settings().max_examples // 4)
@given(st.lists(steps, max_size=40), st.sampled_from([0, 1_000_000]))
def test_whatever_happens_the_books_balance_and_say_what_was_promised(
    script: list[tuple[Any, ...]], spool: int
) -> None:
    async def scenario() -> None:
        runner = ScriptRunner(spool)
        await runner.carry_out(script)
        try:
            await runner.node.idle()
            for token, reservation, _ in runner.held:
                if runner.node.outcomes[token] is Outcome.HELD:
                    runner.node.manager.void(reservation)
            await runner.node.idle()
            assert await runner.node.rest() == []
            for peer_id in ("alice", "bob", "carol"):
                assert runner.node.net(peer_id) == runner.owed[peer_id]
            assert "accounting_refused" not in runner.node.alerts
            await runner.node.manager.maintain_outbox()
            assert runner.node.outbox.requests == {}
        finally:
            await runner.node.__aexit__(None, None, None)

    simulate(scenario())


@simulated
async def test_what_was_booked_by_a_correction_is_found_as_posted() -> None:
    """Its hold had expired; but it is owed, and must not be paid again."""
    async with AccountingNode() as node:
        reservation = await expired(node, sender_id=11, fee=3)
        node.post("late", reservation)
        await node.outcome("late", other_than=Outcome.HELD)
        await node.idle()
    again = await AccountingNode(ledger=node.ledger).open()
    found = taken(again, 11)
    assert found is not None
    assert found.reservation.posted
    assert await books_at_rest(again.manager) == []
