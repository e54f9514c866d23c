"""One payment of this node while it is under way.

    settle    what was under way when an earlier process was cut off (`payment_settle`)
    ask       who is to be paid (SPSP)
    pay       runs the sender (`stream.sender`)

An attempt that is about to send money claims the number after its own, too. So a file of payments that was restored from
before that cannot go on as if nothing had been sent: the next attempt is claimed already.

Packets with money have ids in the ledger (`PaymentStatus.packet_id`). The sequences that they may have are
on disk before they are sent, in steps of many, together with those that have no answer yet: so after a
crash the few that may have been sent and are not counted are known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from connector.accounting.own import OwnPacket
from connector.base.errors import (
    ConflictError,
    ConnectorError,
    EnvironmentFault,
    HttpError,
    KeyReusedError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.base.http import HttpClient
from connector.ilp.packet import Fulfill, Reject, decode
from connector.node import bounds
from connector.node.core import Core
from connector.node.payment_settle import settle
from connector.node.payment_store import Connection, PaymentState, PaymentStatus, PaymentStore
from connector.peering.model import Asset
from connector.stream import bounds as stream_bounds
from connector.stream import target as spsp
from connector.stream.sender import Payment, Phase, quoted, shown_asset
from connector.stream.tokens import PAYER

UNEXPECTED: Final = "an error of this node, see its log"
_CUT_OFF: Final = "the node was cut off"


class _Reply:
    """Takes the answer to a packet; a `ReplyTo`."""

    __slots__ = ("_run", "_sequence")

    def __init__(self, run: PaymentRun, sequence: int) -> None:
        self._run = run
        self._sequence = sequence

    def reply(self, _request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        self._run.answered(self._sequence, octets)
        return True


class PaymentRun:
    """See the module. Only it changes the status and writes it, from its start to its end."""

    def __init__(
        self,
        core: Core,
        store: PaymentStore,
        status: PaymentStatus,
        *,
        url: str = "",
        timeout_s: float | None = None,
        is_claimed: bool = False,
    ) -> None:
        """Nothing is done yet.

        Args:
            core: of the node.
            store: where the payment is remembered; it is there already, as running.
            status: of the payment.
            url: of whom to pay; empty: only what was under way is settled.
            timeout_s: how long the payment may take, the time of earlier attempts included.
            is_claimed: whether its attempt is claimed, and was never used.
        """
        self.status: Final = status
        self._core = core
        self._store = store
        self._before = (status.sent, status.delivered, status.packets, status.duration_ms)
        """What was counted before this run, or before what it pays."""
        self._proof_before = status.proof
        self._began_s = core.clock.monotonic_s()
        self._url = url
        self._is_claimed = is_claimed
        self._until_s: float | None = None
        self._timeout_s = timeout_s
        self._stopping = ""
        self._ends_as = PaymentState.INTERRUPTED
        self._machine: Payment | None = None
        self._wake = asyncio.Event()
        self._limit_time()

    def go_on(self, url: str, timeout_s: float) -> None:
        """Pay after what is settled now, unless it does already."""
        if not self._url and not self._stopping:
            self._url, self._timeout_s = url, timeout_s
            self._limit_time()

    def stop(self, reason: str, ends_as: PaymentState = PaymentState.INTERRUPTED) -> None:
        """Send nothing more; what is under way is waited for. The first reason counts."""
        if not self._stopping:
            self._stopping, self._ends_as = reason, ends_as
        if self._machine is not None:
            self._machine.stop(self._stopping)
        self._wake.set()

    def answered(self, sequence: int, octets: bytes) -> None:
        """The answer to a packet."""
        answer = decode(octets)
        assert isinstance(answer, Fulfill | Reject), answer
        assert self._machine is not None
        try:
            self._machine.answered(sequence, answer, self._core.clock.now_ms())
        except Exception:
            # An error of ours in one payment must not touch the packets of others.
            self._core.log.error("payment_failed", exc_info=True)  # noqa: G201 - a structured log
            self.stop(UNEXPECTED)
        self._wake.set()

    def note(self) -> None:
        """Bring the status up to date."""
        machine, status = self._machine, self.status
        sent, delivered, packets, duration_ms = self._before
        elapsed_s = self._core.clock.monotonic_s() - self._began_s
        status.duration_ms = duration_ms + int(elapsed_s * 1000)
        if machine is not None:
            status.sent, status.delivered = sent + machine.sent, delivered + machine.delivered
            status.packets = packets + machine.packets
            status.proof = machine.proof.after(self._proof_before)
            if machine.asset is not None:
                status.asset = shown_asset(machine.asset)

    async def run(self, client: HttpClient) -> None:
        """Do all of it; at the end the status says how it ended, on disk too.

        Raises:
            EnvironmentFault: the disk cannot remember it, or the ledger is away. What is on disk is
                right all the same.
        """
        status = self.status
        await self._settle()
        reason = ""
        if self._url and status.left and not self._stopping:
            try:
                await self._claim_next()
                reason = await self._ask_and_pay(client)
            except ConflictError as error:
                reason = str(error)
        self.note()
        if status.connection is not None:
            status.use_up()
        status.state, status.reason = self._outcome(reason)
        await self._store.put(status)

    def _outcome(self, reason: str) -> tuple[PaymentState, str]:
        status = self.status
        if status.sent == status.amount:
            return PaymentState.COMPLETED, ""
        if self._stopping:
            return self._ends_as, self._stopping
        if reason:
            return PaymentState.FAILED, reason
        if not status.left:
            said = f"the outcome of {status.uncertain} units is not known: {_CUT_OFF} meanwhile"
            return PaymentState.FAILED, said
        return PaymentState.INTERRUPTED, _CUT_OFF

    def _limit_time(self) -> None:
        if self._timeout_s is not None:
            self._until_s = self._began_s + self._timeout_s - self._before[3] / 1000

    def _look_at_time(self) -> None:
        if self._until_s is not None and self._core.clock.monotonic_s() >= self._until_s:
            self.stop(f"it has taken longer than {self._timeout_s:g} s", PaymentState.FAILED)

    async def _sleep(self, seconds: float) -> None:
        """Wait until something happens, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._look_at_time()

    # --- what was under way when an earlier process was cut off

    async def _settle(self) -> None:
        """Count every packet that may have been sent and is not counted yet."""
        status = self.status
        if status.connection is None:
            return
        reason = await settle(self._core, status, self._look_up)
        if reason:
            self.stop(reason, PaymentState.FAILED)
        self._before = (status.sent, status.delivered, status.packets, self._before[3])
        self._proof_before = status.proof
        await self._store.put(status)

    async def _look_up(self, sequences: Iterable[int]) -> list[OwnPacket] | None:
        """What the ledger has of these packets; waits for a ledger that is away.

        None: it does not know the attempt at all.

        Raises:
            EnvironmentFault: it was away until this run had to end.
        """
        accounts, status = self._core.accounts, self.status
        ids = [status.packet_id(sequence) for sequence in sequences]
        while True:
            self._wake.clear()
            try:
                return await accounts.own_packets(status.claim, ids, status.own_asset)
            except (LedgerUnavailableError, LedgerRefusedError) as error:
                if self._stopping:
                    raise EnvironmentFault(f"{self._stopping}; {error}") from error
            await self._sleep(bounds.PAYMENT_LOOK_S)

    # --- going on

    async def _claim_next(self) -> None:
        """Begin the next attempt, unless this one was never used.

        Raises:
            ConflictError: it was claimed for another file of payments.
            EnvironmentFault: the ledger is away, or the disk cannot remember it.
        """
        status, core = self.status, self._core
        if self._is_claimed:
            return
        # The last one, too: the node may have been cut off before it was claimed.
        await claim(core, status)
        status.attempt += 1
        status.tag = new_tag(core)
        await self._store.put(status)
        await claim(core, status)

    async def _ask_and_pay(self, client: HttpClient) -> str:
        """Pay what is left; returns why it was not all."""
        try:
            answer = await client.ask("GET", self._url)
            if not answer.ok:
                raise ValueError(f"the answer is HTTP {answer.status}")
            destination, secret = spsp.read_answer(answer.json())
        except (HttpError, ValueError) as error:
            said = f"{quoted(spsp.shown(self._url), 80)}: {error}"
            return said[: stream_bounds.REASON_CHARACTERS_MAX]
        return await self._pay(destination, secret)

    async def _pay(self, destination: str, secret: bytes) -> str:
        core, status = self._core, self.status
        asset = core.local.terms.asset
        machine = self._machine = Payment(
            destination=destination,
            secret=secret,
            source=f"{core.node.address}.{PAYER}",
            amount=status.left,
            slippage=status.slippage,
            asset_code=asset.code,
            asset_scale=asset.scale,
            now_ms=core.clock.now_ms(),
            random_octets=core.platform.randomness.octets,
            min_delivered=max(0, status.min_delivered - status.delivered),
            own_rate=self._own_rate,
        )
        while True:
            self._wake.clear()
            self._look_at_time()
            await self._commit(machine, destination, secret)
            if self._stopping:
                machine.stop(self._stopping)
            now_ms = core.clock.now_ms()
            # Other packets than those with money are not worth an id.
            has_money = machine.phase is Phase.SENDING
            packets = machine.take(now_ms)
            for sequence, prepare in packets:
                id_ = status.packet_id(sequence) if has_money else 0
                core.driver.originate(core.local, prepare, _Reply(self, sequence), id_)
            if packets:
                core.links.flush()
            self.note()
            if machine.is_done:
                return machine.reason
            wait_ms = machine.wake_at_ms() - now_ms
            # Answers of one read come together: the loop gets its turn between two bursts.
            await asyncio.sleep(0)
            if len(packets) == stream_bounds.PACKETS_AT_ONCE_MAX:
                continue
            await self._sleep(wait_ms / 1000 if wait_ms > 0 else bounds.PAYMENT_LOOK_S)

    async def _commit(self, machine: Payment, destination: str, secret: bytes) -> None:
        """Write down which sequences are used next, before they are, and which have no answer."""
        if (
            machine.phase is not Phase.SENDING
            or machine.committed - machine.sequence > stream_bounds.COMMITTED_PACKETS // 2
        ):
            return
        assert machine.terms is not None
        self.note()
        is_first = self.status.connection is None
        self.status.connection = kept = Connection(
            destination=destination,
            secret=secret,
            terms=machine.terms,
            last=machine.sequence,
            high=machine.sequence + stream_bounds.COMMITTED_PACKETS,
            open=machine.open_money,
        )
        await self._store.put(self.status)
        if is_first:
            await claim(self._core, self.status, number=self.status.attempt + 1)
        machine.commit(kept.high)

    def _own_rate(self, code: str, scale: int) -> Fraction | None:
        return self._core.rates.known(self._core.local.terms.asset, Asset(code, scale))


def new_tag(core: Core) -> int:
    """A tag for an attempt: 128 random bits, never zero."""
    return core.platform.randomness.bits(128) | 1 << 127


async def claim(core: Core, status: PaymentStatus, *, number: int = 0) -> None:
    """Claim an attempt in the ledger, for this process's file of payments; `number`: another one than the present.

    Raises:
        KeyReusedError: it was claimed before, for another file.
        EnvironmentFault: the ledger is away.
    """
    try:
        is_ours = await core.accounts.claim_payment(
            status.claim._replace(attempt=number or status.attempt)
        )
    except EnvironmentFault:
        raise
    except ConnectorError as error:
        raise EnvironmentFault(str(error)) from error
    if not is_ours:
        raise KeyReusedError(
            f"the key {quoted(status.key, 100)} was used before, and this DATA_DIR does not know for what: "
            "by another process of this node, or before payments.db was lost or restored. Nothing was "
            "paid now. Look up what was sent there; another key pays anew"
        )
