"""Payments of this node: resolves whom to pay, runs the sender, and remembers what was sent.

A payment has a key. Asked for again under its key it is not made a second time, also after a restart:
it goes on if it was cut off, else its result is given.

What a payment may have sent is on disk before it is sent (`committed`), in steps of many packets. So
after a crash it goes on with what was never committed. What was committed and has no known outcome is
counted as sent (`uncertain`): a payment may then deliver less than asked for, and never more.
"""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any, Final

from connector.base import limits
from connector.base.errors import (
    ConfigError,
    ConflictError,
    EnvironmentFault,
    HttpError,
    UnknownNameError,
)
from connector.base.http import HttpClient, Transport
from connector.ilp.packet import Fulfill, Reject, decode
from connector.node import bounds
from connector.node.core import Core
from connector.node.payment_store import PaymentState, PaymentStatus, PaymentStore
from connector.stream import bounds as stream_bounds
from connector.stream import target as spsp
from connector.stream.sender import Payment, Phase
from connector.stream.tokens import PAYER

UNEXPECTED: Final = "an error of this node, see its log"


class _Reply:
    """Takes the answer to a packet; a `ReplyTo`."""

    __slots__ = ("_run", "_sequence")

    def __init__(self, run: _Run, sequence: int) -> None:
        self._run = run
        self._sequence = sequence

    def reply(self, _request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        self._run.answered(self._sequence, octets)
        return True


class _Run:
    """A payment under way in this process."""

    def __init__(self, core: Core, store: PaymentStore, status: PaymentStatus) -> None:
        self.status = status
        self._core = core
        self._store = store
        self._before = (status.sent, status.delivered, status.packets, status.duration_ms)
        """Of earlier processes."""
        self._proof_before = status.proof
        self._began_s = core.clock.monotonic_s()
        self._stopping = ""
        self.machine: Payment | None = None
        self._wake = asyncio.Event()

    def stop(self, reason: str) -> None:
        """Send nothing more."""
        self._stopping = reason
        if self.machine is not None:
            self.machine.stop(reason)
        self._wake.set()

    def answered(self, sequence: int, octets: bytes) -> None:
        """The answer to a packet."""
        answer = decode(octets)
        assert isinstance(answer, Fulfill | Reject), answer
        assert self.machine is not None
        try:
            self.machine.answered(sequence, answer, self._core.clock.now_ms())
        except Exception:
            # An error of ours in one payment must not touch the packets of others.
            self._core.log.error("payment_failed", exc_info=True)  # noqa: G201 - a structured log
            self.stop(UNEXPECTED)
        self._wake.set()

    async def pay(self, destination: str, secret: bytes) -> None:
        """Pay what was not sent yet, to its end."""
        core, status = self._core, self.status
        left = status.amount - status.committed
        if not left:
            status.state = PaymentState.FAILED
            status.reason = (
                "the node was cut off meanwhile: the outcome of some packets is not known"
            )
            return
        asset = core.local.terms.asset
        machine = self.machine = Payment(
            destination=destination,
            secret=secret,
            source=f"{core.node.address}.{PAYER}",
            amount=left,
            slippage=status.slippage,
            asset_code=asset.code,
            asset_scale=asset.scale,
            now_ms=core.clock.now_ms(),
            random_octets=core.platform.randomness.octets,
        )
        before_committed = status.committed
        while True:
            self._wake.clear()
            await self._commit(machine, before_committed)
            if self._stopping:
                machine.stop(self._stopping)
            now_ms = core.clock.now_ms()
            packets = machine.take(now_ms)
            for sequence, prepare in packets:
                core.driver.originate(core.local, prepare, _Reply(self, sequence))
            if packets:
                core.links.flush()
            self.note()
            if machine.is_done:
                break
            wait_ms = machine.wake_at_ms() - now_ms
            # Answers of one read come together: the loop gets its turn between two bursts.
            await asyncio.sleep(0)
            try:
                async with asyncio.timeout(
                    wait_ms / 1000 if wait_ms > 0 else bounds.PAYMENT_LOOK_S
                ):
                    await self._wake.wait()
            except TimeoutError:
                pass
        status.committed = before_committed + machine.sent
        is_whole = status.sent == status.amount
        status.state = PaymentState.COMPLETED if is_whole else PaymentState.FAILED
        status.reason = machine.reason
        if not is_whole and self._stopping:
            status.state = PaymentState.INTERRUPTED
        elif not is_whole and not status.reason:
            status.reason = f"{status.uncertain} units have no known outcome: the node was cut off"

    async def _commit(self, machine: Payment, before: int) -> None:
        """Write down what may be sent next, before it is."""
        if machine.phase is not Phase.SENDING:
            return
        step = stream_bounds.COMMITTED_PACKETS * machine.size.now
        used = machine.sent + machine.in_flight
        if machine.committed - used >= step // 2 or machine.committed == machine.amount:
            return
        allowed = min(machine.amount, used + step)
        if allowed > machine.committed:
            self.note()
            self.status.committed = before + allowed
            await self._store.put(self.status)
            machine.commit(allowed)

    def note(self) -> None:
        """Bring the status up to date."""
        machine, status = self.machine, self.status
        if machine is not None:
            sent, delivered, packets, duration_ms = self._before
            status.sent, status.delivered = sent + machine.sent, delivered + machine.delivered
            status.packets = packets + machine.packets
            status.proof = machine.proof.after(self._proof_before)
            if machine.asset is not None:
                status.asset = f"{machine.asset.asset_code}/{machine.asset.asset_scale}"
            elapsed_s = self._core.clock.monotonic_s() - self._began_s
            status.duration_ms = duration_ms + int(elapsed_s * 1000)


class Payments:
    """All payments of this node."""

    def __init__(self, core: Core, *, transport: Transport | None = None) -> None:
        """`transport` replaces the network in tests."""
        self._core = core
        self._store = PaymentStore(core)
        self._client = HttpClient(
            seconds_max=bounds.SPSP_SECONDS_MAX,
            answer_bytes_max=bounds.SPSP_BYTES_MAX,
            connections_max=bounds.PAYMENTS_AT_ONCE_MAX,
            headers={"Accept": spsp.ACCEPT},
            transport=transport,
        )
        self._group: asyncio.TaskGroup | None = None
        self._running: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()

    def attach(self, group: asyncio.TaskGroup) -> None:
        """Set the owner of the tasks; until then, and after `stop`, nothing is paid."""
        self._group = group

    async def start(
        self, target: str, amount: int, *, slippage: Fraction, key: str
    ) -> PaymentStatus:
        """Begin or go on with a payment; returns at once with its status, which is kept up to date.

        Raises:
            ConfigError: an argument is out of its range.
            ConflictError: the key is of another payment; too many are under way; or the node stops.
            EnvironmentFault: the disk cannot remember it.
        """
        url = _checked(target, amount, slippage, key)
        async with self._starting:
            running = self._running.get(key)
            known = running.status if running is not None else await self._store.find(key)
            if known is not None:
                if (known.target, known.amount, known.slippage) != (target, amount, slippage):
                    raise ConflictError(f"the key {key} is of another payment")
                if running is not None or known.state in (
                    PaymentState.COMPLETED,
                    PaymentState.FAILED,
                ):
                    return known
            group = self._group
            if group is None:
                raise ConflictError("the node is stopping")
            if len(self._running) >= bounds.PAYMENTS_AT_ONCE_MAX:
                raise ConflictError("too many payments are under way")
            status = known or PaymentStatus(key, target, amount, slippage)
            status.state, status.reason = PaymentState.RUNNING, ""
            # What was committed and not recorded as sent when the node was cut off.
            status.uncertain = status.committed - status.sent
            await self._store.put(status)
            if self._group is not group:
                raise ConflictError("the node is stopping")
            run = self._running[key] = _Run(self._core, self._store, status)
            task = group.create_task(self._run(run, url))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return status

    async def find(self, key: str) -> PaymentStatus:
        """The payment with this key, as it is now.

        Raises:
            UnknownNameError: there is none.
            EnvironmentFault: the disk cannot be read.
        """
        running = self._running.get(key)
        if running is not None:
            running.note()
            return running.status
        found = await self._store.find(key)
        if found is None:
            raise UnknownNameError("no payment has this key")
        return self._now(found)

    async def pay(self, target: str, amount: int, *, slippage: Fraction, key: str) -> PaymentStatus:
        """`start`, and wait for the end."""
        status = await self.start(target, amount, slippage=slippage, key=key)
        if status.state is PaymentState.RUNNING:
            await status.changed.wait()
        return status

    # --- for the admin API

    async def start_payment(
        self, target: str, amount: int, *, slippage: Fraction, key: str | None
    ) -> dict[str, Any]:
        """See `PaymentMaker`."""
        key = key or self._core.platform.randomness.octets(16).hex()
        return self._view(await self.start(target, amount, slippage=slippage, key=key))

    async def payment(self, key: str) -> dict[str, Any]:
        """See `PaymentMaker`."""
        return self._view(await self.find(key))

    async def recent(self, cursor: str, count: int) -> tuple[list[dict[str, Any]], str | None]:
        """See `PaymentMaker`."""
        before = (
            int(cursor) if cursor.isascii() and cursor.isdecimal() and len(cursor) < 19 else None
        )
        found = await self._store.recent(before, count + 1)
        items = [self._view(self._now(one)) for _, one in found[:count]]
        return items, str(found[count - 1][0]) if len(found) > count else None

    def _now(self, stored: PaymentStatus) -> PaymentStatus:
        """A payment as it is now, of which this is on disk."""
        running = self._running.get(stored.key)
        if running is not None:
            running.note()
            return running.status
        if stored.state is PaymentState.RUNNING:
            stored.state = PaymentState.INTERRUPTED  # an earlier process was cut off
        return stored

    def _view(self, one: PaymentStatus) -> dict[str, Any]:
        return {
            "key": one.key,
            "target": one.target,
            "state": one.state.value,
            "amount": str(one.amount),
            "sent": str(one.sent),
            "delivered": str(one.delivered),
            "uncertain": str(one.uncertain),
            "packets": one.packets,
            "durationMs": one.duration_ms,
            "asset": str(self._core.local.terms.asset),
            "receiverAsset": one.asset or None,
            "reason": one.reason,
            "proof": {
                "acknowledged": one.proof.acknowledged,
                "reported": str(one.proof.reported),
                "receiverTotal": str(one.proof.receiver_total)
                if one.proof.receiver_total
                else None,
                "lastSequence": one.proof.last_sequence,
            },
        }

    async def stop(self) -> None:
        """Send nothing more, wait a bounded time for answers, and close the file."""
        self._group = None
        for run in self._running.values():
            run.stop("the node was stopped")
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=limits.STOP_IN_FLIGHT_SECONDS_MAX)
            for task in late:
                task.cancel()
        await self._client.close()
        await self._store.close()

    async def _run(self, run: _Run, url: str) -> None:
        status, log = run.status, self._core.log
        try:
            try:
                answer = await self._client.ask("GET", url)
                if not answer.ok:
                    raise ValueError(f"the answer is HTTP {answer.status}")
                destination, secret = spsp.read_answer(answer.json())
            except (HttpError, ValueError) as error:
                status.state = PaymentState.FAILED
                status.reason = f"{url[:100]}: {error}"[: stream_bounds.REASON_CHARACTERS_MAX]
            else:
                try:
                    await run.pay(destination, secret)
                except (EnvironmentFault, asyncio.CancelledError):
                    raise
                except Exception:
                    # An error of ours: what was committed stays so, and the node goes on.
                    log.error("payment_failed", exc_info=True)  # noqa: G201 - a structured log
                    status.state, status.reason = PaymentState.INTERRUPTED, UNEXPECTED
            await self._store.put(status)
            log.info(
                "payment_ended", state=status.state.value, sent=status.sent, reason=status.reason
            )
        except EnvironmentFault as error:
            status.state, status.reason = PaymentState.INTERRUPTED, str(error)
            log.warning("payment_not_recorded", reason=status.reason)
        finally:
            # Cancelled: the row says that it was running, and what it may have sent.
            if status.state is PaymentState.RUNNING:
                status.state = PaymentState.INTERRUPTED
            del self._running[status.key]
            status.changed.set()


def _checked(target: str, amount: int, slippage: Fraction, key: str) -> str:
    """The URL to ask.

    Raises:
        ConfigError: an argument is out of its range.
    """
    faults = []
    url = ""
    try:
        url = spsp.url_of(target)
    except ValueError as error:
        faults.append(f"target: {error}")
    if not 0 < amount <= limits.AMOUNT_MAX:
        faults.append("amount: lies between 1 and 2**64 - 1")
    if not 0 <= slippage <= 1:
        faults.append("maxSlippage: lies between 0 and 1")
    if not 0 < len(key) <= bounds.PAYMENT_KEY_CHARACTERS_MAX or not key.isprintable():
        faults.append(f"key: has 1 to {bounds.PAYMENT_KEY_CHARACTERS_MAX} printable characters")
    if faults:
        raise ConfigError(faults)
    return url
