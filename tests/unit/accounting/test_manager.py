"""The accounts of a node, whatever is done with them and whatever fails."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connector.accounting.promises import Outcome, Reservation
from connector.peering.model import LOCAL
from tests.support.accounts import Fault, books_at_rest
from tests.support.bank import (
    ALICE,
    BOB,
    CAROL,
    WE,
    Bank,
    expired,
    simulated,
    taken,
)
from tests.support.clocks import simulate

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


class Clerk:
    """Carries out a script against a bank, which may be closed and opened again meanwhile."""

    def __init__(self, spool: int) -> None:
        self.bank = Bank(spool=spool)
        self.fresh = 0
        self.held: list[tuple[int, Reservation, tuple[Any, ...]]] = []
        self.owed = dict.fromkeys(CODES, 0)
        """Net balance of each peer, as promised to the world."""

    async def carry_out(self, script: list[tuple[Any, ...]]) -> None:
        await self.bank.__aenter__()
        for step in script:
            await getattr(self, "_" + step[0])(*step[1:])
        self.bank.outbox.error = None
        self.bank.ledger.next_faults = []
        self.bank.ledger.gate.set()

    async def _reserve(self, source: str, target: str, amount: int, fee: int) -> None:
        self.fresh += 1
        there, here = PARTIES[target], PARTIES[source]
        out = amount - fee if there.asset == here.asset else max(1, (amount - fee) // 2)
        reservation = self.bank.reserve(
            self.fresh, amount, source=here, next_hop=there, fee=fee, amount_out=out, hold_ms=2000
        )
        if isinstance(reservation, Reservation):
            self.held.append((self.fresh, reservation, (source, target, amount, out)))

    def _pick(self, at: int) -> tuple[int, Reservation, tuple[Any, ...]] | None:
        held = [one for one in self.held if self.bank.outcomes.get(one[0]) is Outcome.HELD]
        if not held:
            return None
        self.held.remove(held[at % len(held)])
        return held[at % len(held)]

    async def _post(self, at: int) -> None:
        if (one := self._pick(at)) is not None:
            token, reservation, (source, target, amount, out) = one
            self.bank.post(token, reservation)
            told = await self.bank.outcome(token, other_than=Outcome.HELD)
            assert told in (Outcome.POSTED, Outcome.RELEASED)
            self.owed[source] += amount
            self.owed[target] -= out

    async def _void(self, at: int) -> None:
        if (one := self._pick(at)) is not None:
            self.bank.manager.void(one[1])

    async def _forget(self, at: int) -> None:
        """As a crash between two steps would: only the timeout frees it, only a restart notes it."""
        await self._void(at)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _fail(self, fault: Fault | None, times: int) -> None:
        self.bank.ledger.next_faults += [fault] * times

    async def _hang(self, seconds: float) -> None:
        self.bank.ledger.gate.clear()
        asyncio.get_running_loop().call_later(seconds, self.bank.ledger.gate.set)

    async def _outbox(self, broken: bool) -> None:
        self.bank.outbox.error = OSError("disk full") if broken else None

    async def _restart(self) -> None:
        ledger, outbox = self.bank.ledger, self.bank.outbox
        if outbox.error is not None or self.bank.manager._promises.has_overdue:
            return  # a second failure on top: what is lost then was told to the operator
        # What was let go without being durable would be lost: wait for it, like an operator.
        await self.bank.idle()
        await self.bank.__aexit__(None, None, None)
        ledger.next_faults = []
        ledger.gate.set()
        corrections = self.bank.manager.counters.corrections
        self.bank = Bank(ledger=ledger, outbox=outbox, spool=self.bank.spool)
        self.bank.outcomes = {}
        self.held = []
        self.bank.manager.counters.corrections = corrections
        await self.bank.__aenter__()


# Each example is a day in the life of a node: fewer of them do.
@settings(max_examples=settings().max_examples // 4)
@given(st.lists(steps, max_size=40), st.sampled_from([0, 1_000_000]))
def test_whatever_happens_the_books_balance_and_say_what_was_promised(
    script: list[tuple[Any, ...]], spool: int
) -> None:
    async def scenario() -> None:
        clerk = Clerk(spool)
        await clerk.carry_out(script)
        try:
            await clerk.bank.idle()
            for token, reservation, _ in clerk.held:
                if clerk.bank.outcomes[token] is Outcome.HELD:
                    clerk.bank.manager.void(reservation)
            await clerk.bank.idle()
            assert await clerk.bank.rest() == []
            for peer_id in ("alice", "bob", "carol"):
                assert clerk.bank.net(peer_id) == clerk.owed[peer_id]
            assert "accounting_refused" not in clerk.bank.alerts
            await clerk.bank.manager.maintain_outbox()
            assert clerk.bank.outbox.requests == {}
        finally:
            await clerk.bank.__aexit__(None, None, None)

    simulate(scenario())


@simulated
async def test_what_was_booked_by_a_correction_is_found_as_posted() -> None:
    """Its hold had expired; but it is owed, and must not be paid again."""
    async with Bank() as bank:
        reservation = await expired(bank, sender_id=11, fee=3)
        bank.post("late", reservation)
        await bank.outcome("late", other_than=Outcome.HELD)
        await bank.idle()
    again = await Bank(ledger=bank.ledger).open()
    found = taken(again, 11)
    assert found is not None
    assert found.reservation.posted
    assert await books_at_rest(again.manager) == []
