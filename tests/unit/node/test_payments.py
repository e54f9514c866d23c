"""Payments of a whole core, in memory and in simulated time: crashes, keys, bounds."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector.base.errors import (
    ConfigError,
    ConflictError,
    EnvironmentFault,
    LedgerUnavailableError,
    UnknownNameError,
)
from connector.ledger.model import POST, TransferCode
from connector.node import bounds
from connector.node.payment_store import PaymentState, PaymentStatus, PaymentStore
from connector.node.payments import Payments
from connector.stream.tokens import NONCE_BYTES
from tests.support.accounts import Fault, ScriptedLedger, books_at_rest
from tests.support.clocks import SimulatedClock, simulated
from tests.support.cores import Machine, peer, settings_of
from tests.support.in_memory import MemoryNetwork

pytestmark = pytest.mark.long
URL = "https://carol.example/pay/carol"
PACKET_MAX = 7
AMOUNT = 700 * PACKET_MAX


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases in memory are always there."""
    monkeypatch.setattr(PaymentStore, "is_there", True)


class Payer(Machine):
    """A machine whose core pays; `carol` is whom it pays, `reached` by an SPSP request or not."""

    payments: Payments

    def __init__(self, network: MemoryNetwork, settings: Any, carol: Machine) -> None:
        super().__init__(network, settings)
        self.carol = carol
        self.invited = 0
        self.dice = random.Random(0)

    async def began(self, group: asyncio.TaskGroup) -> None:
        self.payments = Payments(self.core, transport=httpx.MockTransport(self.invite))
        self.payments.attach(group)

    async def ends(self) -> None:
        await self.payments.stop()

    def invite(self, request: httpx.Request) -> httpx.Response:
        self.invited += 1
        assert self.carol.core.wallets is not None
        invited = self.carol.core.wallets.invite("carol", self.dice.randbytes(NONCE_BYTES))
        if invited is None or request.url.path != "/pay/carol":
            return httpx.Response(404, stream=httpx.ByteStream(b""))
        body = {
            "destination_account": invited[0],
            "shared_secret": base64.b64encode(invited[1]).decode(),
        }
        content = json.dumps(body).encode()
        return httpx.Response(200, stream=httpx.ByteStream(content))

    @property
    def payments_path(self) -> Path:
        return self.settings.data_dir / "payments.db"

    async def pay(self, amount: int = AMOUNT, **more: Any) -> PaymentStatus:
        return await self.payments.pay(
            URL, amount, **{"slippage": Fraction("0.01"), "key": "one", **more}
        )

    async def begin(self, amount: int = AMOUNT, **more: Any) -> PaymentStatus:
        return await self.payments.start(
            URL, amount, **{"slippage": Fraction("0.01"), "key": "one", **more}
        )

    async def stored(self) -> PaymentStatus:
        """The payment as an earlier process has left it."""
        store = PaymentStore(self.disk.database(self.payments_path))
        found = await store.find("one")
        await store.close()
        assert found is not None
        return found

    async def at_rest(self) -> PaymentStatus:
        """Wait until the payment is not under way."""
        async with asyncio.timeout(120):
            while True:
                one = await self.payments.find("one")
                if one.state is not PaymentState.RUNNING and not self.payments._running:
                    return one
                await asyncio.sleep(0.01)


class Line:
    """alice, who pays - bob - carol, who is paid."""

    def __init__(self, carol: dict[str, Any]) -> None:
        """`carol`: settings of her peer bob."""
        network = MemoryNetwork()
        paid = {"pay_port": 0, "wallets": ["carol"], "credit_limit": 10**9}
        small = {"max_packet_amount": PACKET_MAX}
        self.carol = Machine(
            network,
            settings_of("carol", 3, peer("carol", "bob", routes=["g.alice"], **carol), **paid),
        )
        self.carol.pay_key = bytes(32)
        self.bob = Machine(
            network,
            settings_of(
                "bob", 2,
                peer("bob", "alice", routes=["g.alice"], **small),
                peer("bob", "carol", dials=3, routes=["g.carol"]),
                credit_limit=10**9,
            ),
        )  # fmt: skip
        self.alice = Payer(
            network,
            settings_of("alice", 1, peer("alice", "bob", dials=2, routes=["g.carol"])),
            self.carol,
        )
        self.group: asyncio.TaskGroup

    @property
    def received(self) -> int:
        return self.carol.core.accounts.wallets["carol"].credits_posted

    async def connected(self) -> None:
        await self.alice.connected("bob")
        await self.bob.connected("carol")

    async def restart(self, machine: Machine) -> None:
        await machine.crash()
        await machine.start(self.group)
        await self.connected()

    async def crash_and_restore(self, payments: sqlite3.Connection) -> None:
        """alice is killed, and begins with an earlier copy of her payments."""
        await self.alice.crash()
        self.alice.disk.restore(self.alice.payments_path, payments)
        await self.alice.start(self.group)
        await self.connected()

    async def until_received(self, amount: int) -> None:
        async with asyncio.timeout(60):
            while self.received < amount:
                await asyncio.sleep(0.0002)

    async def assert_books(self) -> None:
        """Nothing is held, and neighbours agree, by the ledgers themselves."""
        await asyncio.sleep(1)
        for machine in (self.alice, self.bob, self.carol):
            assert await books_at_rest(machine.core.accounts) == []
            assert not any(book.is_held for book in machine.core.accounts.books())
        assert self.alice.net("bob") == -self.bob.net("alice") == -self.received
        assert self.bob.net("carol") == -self.carol.net("bob") == -self.received


@contextlib.asynccontextmanager
async def line(ledger: ScriptedLedger | None = None, **carol: Any) -> AsyncIterator[Line]:
    """`ledger`: of the payer."""
    one = Line(carol)
    one.alice.ledger = ledger or one.alice.ledger
    machines = (one.carol, one.bob, one.alice)
    async with asyncio.TaskGroup() as group:
        one.group = group
        for machine in machines:
            await machine.start(group)
        await one.connected()
        yield one
        for machine in reversed(machines):
            await machine.stop()
    for machine in machines:
        machine.disk.close()
        assert not [said for said in machine.log.events if said[0] == "error"]


# --- crashes of the payer


@pytest.mark.parametrize("seed", range(12))
@simulated
async def test_a_payer_that_dies_pays_exactly_what_it_was_asked_to(seed: int) -> None:
    dice = random.Random(seed)
    async with line() as one:
        for _ in range(3):
            await one.alice.begin()
            await one.until_received(min(AMOUNT, one.received + dice.randrange(AMOUNT // 3)))
            for _ in range(dice.randrange(100)):
                await asyncio.sleep(0.0002)
            await one.restart(one.alice)
            cut_off = await one.alice.at_rest()
            # What was under way is known without being asked for.
            await one.assert_books()
            assert cut_off.sent == cut_off.delivered == one.received
            assert cut_off.uncertain == 0
            if cut_off.state is PaymentState.COMPLETED:
                break
        result = await one.alice.pay()
        assert (result.state, result.sent) == (PaymentState.COMPLETED, AMOUNT), result.reason
        assert result.delivered == one.received == AMOUNT
        await one.assert_books()


@simulated
async def test_packets_are_made_again_with_minima_that_were_rounded_either_way() -> None:
    """Of packets with a fee; each delivers 6 of 7, and 4.8 are the least."""
    more = {"slippage": Fraction("0.2")}
    async with line(fee_basis_points=300) as one:
        for _ in range(4):
            await one.alice.begin(4 * AMOUNT, **more)
            await one.until_received(one.received + AMOUNT // 2)
            await one.restart(one.alice)
            cut_off = await one.alice.at_rest()
            assert (cut_off.delivered, cut_off.uncertain) == (one.received, 0)
            assert cut_off.sent == -one.alice.net("bob") == one.bob.net("alice")
        result = await one.alice.pay(4 * AMOUNT, **more)
        assert (result.sent, result.delivered) == (4 * AMOUNT, one.received), result.reason
        assert one.alice.net("bob") == -4 * AMOUNT


@pytest.mark.parametrize("seed", range(4))
@simulated
async def test_payer_and_next_hop_die_together(seed: int) -> None:
    dice = random.Random(seed)
    async with line() as one:
        await one.alice.begin()
        await one.until_received(dice.randrange(AMOUNT // 2))
        await one.bob.crash()
        await one.alice.crash()
        await one.alice.start(one.group)
        await asyncio.sleep(dice.random())
        await one.bob.start(one.group)
        await one.connected()
        cut_off = await one.alice.at_rest()
        assert (cut_off.sent, cut_off.uncertain) == (one.received, 0)
        assert (await one.alice.pay()).state is PaymentState.COMPLETED
        assert one.received == AMOUNT
        await one.assert_books()


@simulated
async def test_a_payer_that_dies_again_while_it_settles_counts_nothing_twice() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        for pause in (0.0, 0.002, 0.004, 0.1):
            await one.restart(one.alice)
            await asyncio.sleep(pause)
        result = await one.alice.pay()
        assert (result.state, result.sent, result.delivered) == (
            PaymentState.COMPLETED, AMOUNT, AMOUNT
        )  # fmt: skip
        assert one.received == AMOUNT
        await one.assert_books()


@simulated
async def test_a_payment_that_is_asked_for_while_it_settles_goes_on() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.bob.crash()
        await one.alice.crash()
        await one.alice.start(one.group)
        going_on = one.group.create_task(one.alice.pay())
        await asyncio.sleep(1)
        assert not going_on.done()
        await one.bob.start(one.group)
        assert (await going_on).state is PaymentState.COMPLETED
        assert one.received == AMOUNT
        await one.connected()
        await one.assert_books()


@simulated
async def test_a_payment_that_was_over_when_the_payer_died_is_completed_by_what_is_found() -> None:
    async with line() as one:
        await one.alice.begin(50 * PACKET_MAX)
        await one.until_received(50 * PACKET_MAX)
        await one.restart(one.alice)
        result = await one.alice.at_rest()
        assert (result.state, result.sent) == (PaymentState.COMPLETED, 50 * PACKET_MAX)
        assert result.packets == 50
        await one.assert_books()


@pytest.mark.parametrize("away_s", [15, 29, 33, 36, 45, 120, 300])
@simulated
async def test_a_payer_that_is_away_for_longer_than_packets_live_still_learns_what_was_paid(
    away_s: float,
) -> None:
    """The next hop remembers its answers; what has expired here is booked all the same."""
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.alice.crash()
        await asyncio.sleep(away_s)
        await one.alice.start(one.group)
        await one.connected()
        cut_off = await one.alice.at_rest()
        assert (cut_off.sent, cut_off.delivered) == (one.received, one.received)
        assert cut_off.uncertain == 0
        await one.assert_books()
        assert (await one.alice.pay()).state is PaymentState.COMPLETED
        assert one.received == AMOUNT
        await one.assert_books()


@pytest.mark.parametrize("away_s", [60, 400])
@simulated
async def test_what_cannot_be_learned_any_more_is_uncertain_and_not_made_up_for(
    away_s: float,
) -> None:
    """The next hop was restarted too, and does not answer for packets that have expired for long."""
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.alice.crash()
        await one.bob.crash()
        await asyncio.sleep(away_s)
        await one.bob.start(one.group)
        await one.alice.start(one.group)
        await one.connected()
        cut_off = await one.alice.at_rest()
        assert 0 < cut_off.uncertain <= 512 * PACKET_MAX
        assert cut_off.sent <= one.received <= cut_off.sent + cut_off.uncertain
        result = await one.alice.pay()
        assert result.state is PaymentState.FAILED
        assert result.sent + result.uncertain == AMOUNT
        assert "not known" in result.reason
        assert one.received <= AMOUNT


@simulated
async def test_a_clean_stop_leaves_nothing_to_settle() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.alice.stop()
        stopped = await one.alice.stored()
        assert (stopped.state, stopped.connection) == (PaymentState.INTERRUPTED, None)
        assert stopped.sent == one.received
        await one.alice.start(one.group)
        await one.connected()
        assert (await one.alice.pay()).sent == AMOUNT
        assert one.received == AMOUNT
        assert not one.alice.core.driver._inboxes.get("").keeps  # nobody would ask for them


@simulated
async def test_without_a_ledger_that_lasts_what_a_crash_has_left_is_not_known() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        one.alice.ledger.keeps_books = False
        await one.restart(one.alice)
        result = await one.alice.at_rest()
        assert result.state is PaymentState.FAILED
        assert result.sent + result.uncertain == AMOUNT
        assert (await one.alice.pay()).state is PaymentState.FAILED
        one.alice.ledger.keeps_books = True


# --- keys that another file of payments knows


@simulated
async def test_a_key_that_another_data_dir_has_used_is_refused() -> None:
    """As after a standby with files of its own has taken over, or when payments.db was lost."""
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.alice.crash()
        one.alice.disk.lose("payments.db")
        await one.alice.start(one.group)
        await one.connected()
        before = one.received
        for _ in range(2):
            with pytest.raises(ConflictError, match="used before"):
                await one.alice.pay()
        with pytest.raises(UnknownNameError):
            await one.alice.payments.find("one")
        assert one.alice.invited == 1
        assert one.received <= before + 512 * PACKET_MAX
        assert (await one.alice.pay(5, key="another")).state is PaymentState.COMPLETED


@pytest.mark.parametrize("is_finished", [True, False])
@simulated
async def test_a_file_of_payments_that_was_restored_pays_nothing_again(is_finished: bool) -> None:
    async with line() as one:
        await one.alice.begin(5000 * PACKET_MAX)
        await one.until_received(700 * PACKET_MAX)
        copy = one.alice.disk.copy(one.alice.payments_path)
        if is_finished:
            assert (await one.alice.pay(5000 * PACKET_MAX)).state is PaymentState.COMPLETED
        else:
            await one.until_received(3500 * PACKET_MAX)
        await one.crash_and_restore(copy)
        result = await one.alice.pay(5000 * PACKET_MAX)
        assert result.state is PaymentState.FAILED
        assert "older than the ledger" in result.reason
        assert one.received <= 5000 * PACKET_MAX


@pytest.mark.parametrize("attempt", [1, 2])
@simulated
async def test_a_file_that_was_restored_from_before_the_first_packet_pays_nothing_again(
    attempt: int,
) -> None:
    """Nothing in the file says that anything was sent, or that the attempt was used."""
    async with line() as one:
        await one.alice.begin()
        if attempt == 2:
            await one.until_received(AMOUNT // 4)
            await one.alice.stop()
            await one.alice.start(one.group)
            await one.connected()
            await one.alice.begin()
            async with asyncio.timeout(60):
                while (await one.alice.stored()).attempt == 1:
                    await asyncio.sleep(0)
        copy = one.alice.disk.copy(one.alice.payments_path)
        assert (await one.alice.pay()).state is PaymentState.COMPLETED
        await one.crash_and_restore(copy)
        result = await one.alice.pay()
        assert one.received == AMOUNT
        assert result.state is PaymentState.FAILED
        assert "used before" in result.reason


@simulated
async def test_of_two_files_with_an_attempt_that_was_not_used_one_sends_money() -> None:
    """A copy of DATA_DIR takes over while the first process still asks for the quote."""
    async with line() as one:
        await one.alice.begin()
        key = (await one.alice.stored()).claim
        other = key._replace(attempt=2, tag=key.tag ^ 1)
        assert await one.alice.core.accounts.claim_payment(other)
        result = await one.alice.at_rest()
        assert (result.state, result.sent, one.received) == (PaymentState.FAILED, 0, 0)
        assert "used before" in result.reason


@simulated
async def test_an_attempt_that_another_file_has_begun_is_not_made() -> None:
    """The restored file is of the time between two attempts."""
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.restart(one.alice)
        await one.alice.at_rest()
        copy = one.alice.disk.copy(one.alice.payments_path)
        assert (await one.alice.pay()).state is PaymentState.COMPLETED
        await one.crash_and_restore(copy)
        result = await one.alice.pay()
        assert result.state is PaymentState.FAILED
        assert "used before" in result.reason
        assert one.received == AMOUNT


@simulated
async def test_a_payment_is_claimed_once_and_holds_nothing() -> None:
    async with line() as one:
        assert (await one.alice.pay(5)).state is PaymentState.COMPLETED
        claims = [
            transfer
            for transfer in await one.alice.ledger.recent_transfers(0)
            if transfer.code == TransferCode.PAYMENT
        ]
        # Its number, and that of the attempt that would follow.
        assert [(one.amount, one.flags & POST) for one in claims] == [(0, 0)] * 2
        await one.assert_books()


@simulated
async def test_without_its_ledger_a_payment_is_not_begun_and_can_be_asked_for_again() -> None:
    async with line() as one:
        one.alice.ledger.down = Fault.REFUSED
        with pytest.raises(EnvironmentFault):
            await one.alice.pay()
        assert (await one.alice.payments.find("one")).state is PaymentState.INTERRUPTED
        assert one.alice.invited == 0
        one.alice.ledger.down = None
        await asyncio.sleep(10)
        assert (await one.alice.pay()).state is PaymentState.COMPLETED
        assert one.received == AMOUNT


# --- cancelled, and bounded in time


@simulated
async def test_a_cancelled_payment_says_what_was_delivered_and_is_over() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        said = await one.alice.payments.cancel_payment("one")
        assert (said["state"], said["uncertain"]) == ("failed", "0")
        assert said["reason"] == "it was cancelled"
        assert AMOUNT // 4 <= int(said["delivered"]) == int(said["sent"]) == one.received < AMOUNT
        assert (await one.alice.pay()).sent == int(said["sent"])
        assert await one.alice.payments.cancel_payment("one") == said
        await one.assert_books()


@simulated
async def test_what_is_under_way_is_waited_for_by_who_cancels_for_a_bounded_time() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.bob.crash()
        said = await one.alice.payments.cancel_payment("one")
        assert said["state"] == "running"
        await one.bob.start(one.group)
        await one.connected()
        result = await one.alice.at_rest()
        assert (result.state, result.sent) == (PaymentState.FAILED, one.received)
        await one.assert_books()


@simulated
async def test_an_interrupted_payment_can_be_cancelled_and_an_unknown_one_cannot() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.restart(one.alice)
        await one.alice.at_rest()
        said = await one.alice.payments.cancel_payment("one")
        assert (said["state"], said["sent"]) == ("failed", str(one.received))
        assert (await one.alice.pay()).state is PaymentState.FAILED
        with pytest.raises(UnknownNameError):
            await one.alice.payments.cancel_payment("another")


@simulated
async def test_a_payment_is_bounded_in_time_over_its_interruptions() -> None:
    async with line() as one:
        await one.alice.begin(8 * AMOUNT, timeout_s=0.03)
        await one.until_received(AMOUNT // 10)
        await one.alice.stop()
        await one.alice.start(one.group)
        await one.connected()
        began_s = one.alice.core.clock.monotonic_s()
        result = await one.alice.pay(8 * AMOUNT, timeout_s=0.03)
        assert result.state is PaymentState.FAILED
        assert result.reason == "it has taken longer than 0.03 s"
        assert 0 < result.sent == one.received < 8 * AMOUNT
        assert one.alice.core.clock.monotonic_s() - began_s < 1
        await one.assert_books()


@simulated
async def test_a_payment_that_waits_for_its_ledger_is_bounded_in_time_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise LedgerUnavailableError("away on purpose")

    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        with monkeypatch.context() as patched:
            patched.setattr(one.alice.ledger, "tagged_transfers", away)
            await one.restart(one.alice)
            result = await one.alice.pay(timeout_s=10)
        assert result.state is PaymentState.INTERRUPTED
        assert result.reason == "it has taken longer than 10 s; away on purpose"
        assert (await one.alice.pay(timeout_s=3600)).state is PaymentState.COMPLETED
        assert one.received == AMOUNT
        await one.assert_books()


# --- quotes


@pytest.mark.parametrize(("slippage", "is_paid"), [("0.05", True), ("0.04", False)])
@simulated
async def test_fees_on_the_way_are_compared_with_our_own_rates(
    slippage: str, is_paid: bool
) -> None:
    async with line(fee_basis_points=500) as one:
        one.bob.core.peers["alice"].terms = replace(
            one.bob.core.peers["alice"].terms, max_packet_amount=1000
        )
        result = await one.alice.pay(10_000, slippage=Fraction(slippage))
        assert (result.state is PaymentState.COMPLETED) is is_paid
        if not is_paid:
            assert result.sent == one.received == 0
            assert "the quote is 9500" in result.reason
            assert "10000" in result.reason


@simulated
async def test_less_than_is_to_be_delivered_is_refused_before_money_moves() -> None:
    async with line() as one:
        refused = await one.alice.pay(1000, min_delivered=1001)
        assert (refused.state, refused.sent, one.received) == (PaymentState.FAILED, 0, 0)
        assert refused.reason == "the quote is 1000, less than the 1001 of --min-delivered"
        with pytest.raises(ConflictError):
            await one.alice.pay(1000, min_delivered=1000)
        paid = await one.alice.pay(1000, min_delivered=1000, key="other")
        assert (paid.state, paid.delivered) == (PaymentState.COMPLETED, 1000)


@pytest.mark.parametrize(
    "more",
    [{"amount": 0}, {"amount": 2**64}, {"min_delivered": -1}, {"min_delivered": 2**64},
     {"timeout_s": 0}, {"timeout_s": bounds.PAYMENT_SECONDS_MAX + 1}, {"slippage": Fraction(2)},
     {"key": ""}, {"key": "a\nb"}],
)  # fmt: skip
@simulated
async def test_what_is_out_of_range_is_refused(more: dict[str, Any]) -> None:
    async with line() as one:
        with pytest.raises(ConfigError):
            await one.alice.pay(**{"amount": 5, **more})
        assert one.alice.invited == 0


# --- what is remembered


@simulated
async def test_those_that_ended_first_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PAYMENTS_KEPT_MAX", 3)
    async with line() as one:
        await one.alice.begin(4 * AMOUNT, key="long")
        for at in range(4):
            assert (await one.alice.pay(5, key=f"short {at}")).state is PaymentState.COMPLETED
        (run,) = one.alice.payments._running.values()
        await run.status.changed.wait()
        # It began first and ended last: its result is there, and the oldest of the others is not.
        assert (await one.alice.payments.find("long")).state is PaymentState.COMPLETED
        for key in ("short 0", "short 1"):
            with pytest.raises(UnknownNameError):
                await one.alice.payments.find(key)
            with pytest.raises(ConflictError, match="used before"):
                await one.alice.pay(5, key=key)
        assert (await one.alice.pay(5, key="short 2")).sent == 5
        assert one.received == 4 * AMOUNT + 20


@simulated
async def test_payments_that_a_crash_has_left_are_forgotten_in_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "PAYMENTS_KEPT_MAX", 2)
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.restart(one.alice)
        assert (await one.alice.at_rest()).state is PaymentState.INTERRUPTED
        for at in range(3):
            assert (await one.alice.pay(5, key=f"short {at}")).state is PaymentState.COMPLETED
        with pytest.raises(UnknownNameError):
            await one.alice.payments.find("one")


@simulated
async def test_a_damaged_file_of_payments_is_said_and_stops_no_node() -> None:
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 4)
        await one.alice.crash()
        file = one.alice.disk.connection(one.alice.payments_path)
        file.execute("UPDATE payments SET connection = '['")
        await one.alice.start(one.group)
        await one.connected()
        await asyncio.sleep(1)
        assert one.alice.log.count("payments_not_settled") == 1
        before = one.received
        with pytest.raises(EnvironmentFault, match="damaged"):
            await one.alice.pay()
        assert one.received == before
        assert (await one.alice.pay(5, key="another")).state is PaymentState.COMPLETED


@simulated
async def test_the_url_in_a_reason_is_quoted_and_cut() -> None:
    async with line() as one:
        url = "https://carol.example/pay/'nobody\"" + 300 * "x"
        result = await one.alice.payments.pay(url, 5, slippage=Fraction(0), key="one")
        assert result.state is PaymentState.FAILED
        assert result.reason.startswith("'https://carol.example/pay/\\'nobody\"xxx")
        assert result.reason.endswith("x...': the answer is HTTP 404")


@simulated
async def test_a_token_in_the_url_is_in_no_reason_no_view_and_no_log_line() -> None:
    async with line() as one:
        url = "https://carol.example/pay/nobody?token=hunter2"
        result = await one.alice.payments.pay(url, 5, slippage=Fraction(0), key="one")
        assert "pay/nobody?(hidden)" in result.reason
        (listed,), _ = await one.alice.payments.recent("", 10)
        assert listed["target"] == "https://carol.example/pay/nobody?(hidden)"
        assert "hunter2" not in f"{result.reason} {listed} {one.alice.log.events}"


# --- what an operator or a machine changes over a crash


class ClockBehind(SimulatedClock):
    """That of a cluster, while the clock of the node is ahead."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self._behind_ns = seconds * 10**9

    def now_ns(self) -> int:
        return super().now_ns() - self._behind_ns


@pytest.mark.parametrize("behind_s", [100, 10_000])
@simulated
async def test_a_payer_whose_clock_is_ahead_of_its_ledgers_pays_nothing_twice(
    behind_s: int,
) -> None:
    async with line(ScriptedLedger(clock=ClockBehind(behind_s))) as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 2)
        await one.restart(one.alice)
        cut_off = await one.alice.at_rest()
        assert cut_off.sent + cut_off.uncertain == one.received
        assert cut_off.sent > 0
        # So far behind, the ledger says of what is held that it is too old to be asked for.
        assert bool(cut_off.uncertain) is (behind_s > 1000)
        result = await one.alice.pay()
        assert result.sent + result.uncertain == one.received == AMOUNT


@simulated
async def test_a_ledger_that_does_not_know_the_payment_says_nothing_about_its_packets() -> None:
    """Another one, or a former one: that it has no packets does not mean that there were none."""
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 2)
        await one.alice.crash()
        one.alice.ledger = ScriptedLedger(clock=SimulatedClock())
        one.alice.disk.lose("outbox.db")  # else it is refused at the start
        await one.alice.start(one.group)
        cut_off = await one.alice.at_rest()
        assert cut_off.state is PaymentState.FAILED
        assert "the ledger does not know the payment" in cut_off.reason
        assert cut_off.sent + cut_off.uncertain == AMOUNT
        before = one.received
        assert (await one.alice.pay()).state is PaymentState.FAILED
        assert one.received == before


@simulated
async def test_a_payment_does_not_go_on_in_another_asset_and_its_packets_are_counted_in_its_own() -> (
    None
):
    """The node is given another scale while it is down: a thousand times less was paid with what is left."""
    async with line() as one:
        await one.alice.begin()
        await one.until_received(AMOUNT // 2)
        await one.alice.crash()
        before = one.alice.settings
        bob = before.peers[0].model_copy(update={"asset_code": "USD", "asset_scale": 9})
        one.alice.settings = before.model_copy(update={"asset_scale": 12, "peers": [bob]})
        await one.alice.start(one.group)
        await one.connected()
        cut_off = await one.alice.at_rest()
        # What was posted is known. What was held is not asked for from another account.
        assert cut_off.sent <= one.received <= cut_off.sent + cut_off.uncertain
        assert cut_off.sent > 0
        (shown,), _ = await one.alice.payments.recent("", 10)
        assert (shown["asset"], shown["sent"]) == ("USD/9", str(cut_off.sent))
        with pytest.raises(ConflictError, match="begun in USD/9"):
            await one.alice.pay()
        result = await one.alice.payments.cancel("one")
        await result.changed.wait()
        assert (result.state, result.sent) == (PaymentState.FAILED, cut_off.sent)
