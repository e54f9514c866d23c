"""Payments of this node, by key: begun, gone on with, stopped, remembered.

A payment has a key. Asked for again under its key it is not made a second time, also after a restart:
it goes on if it was cut off, else its result is given. The ledger knows which keys were used
(`accounting.own`), so neither does a process with another file of payments make it a second time.

When the node starts, what was under way in a crash is settled at once (`payment_run`), since answers can be
had for a short time only. A payment itself goes on when it is asked for.
"""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

from connector.base import limits
from connector.base.errors import (
    ConfigError,
    ConflictError,
    ConnectorError,
    EnvironmentFault,
    KeyReusedError,
    UnknownNameError,
)
from connector.base.http import HttpClient, Transport
from connector.node import bounds
from connector.node.core import Core
from connector.node.payment_run import UNEXPECTED, PaymentRun, claim, new_tag
from connector.node.payment_store import FILE_NAME, PaymentState, PaymentStatus, PaymentStore
from connector.stream import target as spsp

_CANCELLED = "it was cancelled"
_ENDED = (PaymentState.COMPLETED, PaymentState.FAILED)


class Payments:
    """All payments of this node."""

    def __init__(self, core: Core, *, transport: Transport | None = None) -> None:
        """`transport` replaces the network in tests."""
        self._core = core
        path = core.settings.data_dir / FILE_NAME
        self._store = PaymentStore(core.platform.disk.database(path))
        self._client = HttpClient(
            seconds_max=bounds.SPSP_SECONDS_MAX,
            answer_bytes_max=bounds.SPSP_BYTES_MAX,
            connections_max=bounds.PAYMENTS_AT_ONCE_MAX,
            headers={"Accept": spsp.ACCEPT},
            transport=transport,
        )
        self._group: asyncio.TaskGroup | None = None
        self._running: dict[str, PaymentRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()

    def attach(self, group: asyncio.TaskGroup) -> None:
        """Set the owner of the tasks, and settle what was under way when an earlier process was cut off.

        Until then, and after `stop`, nothing is paid.
        """
        self._group = group
        self._add_task(group.create_task(self._settle_cut_off()))

    def _add_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_cut_off(self) -> None:
        try:
            async with self._starting:
                for status in await self._store.cut_off():
                    if status.key not in self._running and self._group is not None:
                        status.state = PaymentState.RUNNING
                        self._begin(PaymentRun(self._core, self._store, status))
        except EnvironmentFault as error:
            self._core.log.warning("payments_not_settled", reason=str(error))

    def _begin(self, run: PaymentRun) -> None:
        assert self._group is not None
        self._running[run.status.key] = run
        self._add_task(self._group.create_task(self._run(run)))

    async def start(
        self,
        target: str,
        amount: int,
        *,
        slippage: Fraction,
        key: str,
        min_delivered: int = 0,
        timeout_s: float = bounds.PAYMENT_SECONDS,
    ) -> PaymentStatus:
        """Begin or go on with a payment; returns at once with its status, which is kept up to date.

        Raises:
            ConfigError: an argument is out of its range.
            ConflictError: the key is of another payment, or was used by another process; too many are
                under way; or the node stops.
            EnvironmentFault: the disk cannot remember it, or the ledger is away.
        """
        url = _checked(target, amount, slippage, key, min_delivered, timeout_s)
        async with self._starting:
            running = self._running.get(key)
            known = running.status if running is not None else await self._store.find(key)
            if known is not None and (
                (known.target, known.amount, known.slippage, known.min_delivered)
                != (target, amount, slippage, min_delivered)
            ):
                raise KeyReusedError(
                    "the idempotency key is that of another payment: target, amount, slippage and least "
                    "delivery have to be the same"
                )
            if running is not None:
                running.go_on(url, timeout_s)
                return running.status
            if known is not None and known.state in _ENDED:
                return known
            group = self._group
            if group is None:
                raise ConflictError("the node is stopping")
            if len(self._running) >= bounds.PAYMENTS_AT_ONCE_MAX:
                raise ConflictError("too many payments are under way")
            own = self._core.local.terms.asset
            if known is not None and known.own_asset != own:
                raise ConflictError(
                    f"it was begun in {known.own_asset}, and the node's asset is {own} now: cancel it, and "
                    "pay the rest under another key"
                )
            status = known or PaymentStatus(key, target, amount, slippage, own, min_delivered)
            status.state, status.reason = PaymentState.RUNNING, ""
            if known is None:
                status.tag = new_tag(self._core)
            await self._store.put(status)
            if known is None:
                await self._claim_new(status)
            if self._group is not group:
                raise ConflictError("the node is stopping")
            self._begin(
                PaymentRun(
                    self._core,
                    self._store,
                    status,
                    url=url,
                    timeout_s=timeout_s,
                    is_claimed=known is None,
                )
            )
            return status

    async def _claim_new(self, status: PaymentStatus) -> None:
        try:
            await claim(self._core, status)
        except ConflictError:
            await self._store.forget(status.key)
            raise
        except EnvironmentFault as error:
            # It may have been claimed all the same: the tag is kept.
            await self._store.interrupt(status.key, str(error))
            raise

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

    def _now(self, stored: PaymentStatus) -> PaymentStatus:
        """A payment as it is now, of which this is on disk."""
        running = self._running.get(stored.key)
        if running is not None:
            running.note()
            return running.status
        if stored.state is PaymentState.RUNNING:
            stored.state = PaymentState.INTERRUPTED  # an earlier process was cut off
        return stored

    async def cancel(self, key: str) -> PaymentStatus:
        """Send nothing more for a payment, for good; returns its status, which is kept up to date.

        What is under way is waited for: then `changed` is set. One that has ended stays as it is.

        Raises:
            UnknownNameError: there is none.
            ConflictError: the node is stopping.
            EnvironmentFault: the disk cannot remember it.
        """
        async with self._starting:
            running = self._running.get(key)
            if running is not None:
                running.stop(_CANCELLED, PaymentState.FAILED)
                return running.status
            found = await self.find(key)
            if found.state not in _ENDED:
                if self._group is None:
                    raise ConflictError("the node is stopping")
                found.state = PaymentState.RUNNING
                run = PaymentRun(self._core, self._store, found)
                run.stop(_CANCELLED, PaymentState.FAILED)
                self._begin(run)
            else:
                found.changed.set()
            return found

    async def pay(
        self,
        target: str,
        amount: int,
        *,
        slippage: Fraction,
        key: str,
        min_delivered: int = 0,
        timeout_s: float = bounds.PAYMENT_SECONDS,
    ) -> PaymentStatus:
        """`start`, and wait for the end."""
        status = await self.start(
            target,
            amount,
            slippage=slippage,
            key=key,
            min_delivered=min_delivered,
            timeout_s=timeout_s,
        )
        if status.state is PaymentState.RUNNING:
            await status.changed.wait()
        return status

    # --- for the admin API

    async def start_payment(
        self,
        target: str,
        amount: int,
        *,
        slippage: Fraction,
        key: str | None,
        min_delivered: int,
        timeout_s: int | None,
    ) -> dict[str, Any]:
        """See `PaymentMaker`."""
        key = key or self._core.platform.randomness.octets(16).hex()
        return self._view(
            await self.start(
                target,
                amount,
                slippage=slippage,
                key=key,
                min_delivered=min_delivered,
                timeout_s=bounds.PAYMENT_SECONDS if timeout_s is None else timeout_s,
            )
        )

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

    async def cancel_payment(self, key: str) -> dict[str, Any]:
        """See `PaymentMaker`."""
        status = await self.cancel(key)
        try:
            async with asyncio.timeout(bounds.PAYMENT_CANCEL_SECONDS_MAX):
                await status.changed.wait()
        except TimeoutError:
            return self._view(await self.find(key))
        return self._view(status)

    def _view(self, one: PaymentStatus) -> dict[str, Any]:
        return {
            "key": one.key,
            "target": spsp.shown(one.target),
            "state": one.state.value,
            "amount": str(one.amount),
            "sent": str(one.sent),
            "delivered": str(one.delivered),
            "minDelivered": str(one.min_delivered),
            "uncertain": str(one.uncertain),
            "packets": one.packets,
            "durationMs": one.duration_ms,
            "asset": str(one.own_asset),
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

    async def _run(self, run: PaymentRun) -> None:
        status, log = run.status, self._core.log
        try:
            try:
                await run.run(self._client)
                log.info(
                    "payment_ended",
                    payment=status.key,
                    state=status.state.value,
                    sent=status.sent,
                    reason=status.reason,
                )
            except ConnectorError as error:
                # What is on disk is of one moment, and right: it stays, but for the state.
                status.state, status.reason = PaymentState.INTERRUPTED, str(error)
                log.warning("payment_not_recorded", payment=status.key, reason=status.reason)
                await self._store.interrupt(status.key, status.reason)
            except Exception:
                # An error of ours: what may have been sent is on disk, and the node goes on.
                log.error("payment_failed", payment=status.key, exc_info=True)  # noqa: G201 - a structured log
                status.state, status.reason = PaymentState.INTERRUPTED, UNEXPECTED
                await self._store.interrupt(status.key, UNEXPECTED)
        except EnvironmentFault:
            pass  # the disk; the row says that it was running, and what it may have sent
        finally:
            # Cancelled: so says the row.
            if status.state is PaymentState.RUNNING:
                status.state = PaymentState.INTERRUPTED
            del self._running[status.key]
            status.changed.set()


def _checked(
    target: str, amount: int, slippage: Fraction, key: str, min_delivered: int, timeout_s: float
) -> str:
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
    if not 0 <= min_delivered <= limits.AMOUNT_MAX:
        faults.append("minDelivered: lies between 0 and 2**64 - 1")
    if not 0 <= slippage <= 1:
        faults.append("maxSlippage: lies between 0 and 1")
    if not 0 < timeout_s <= bounds.PAYMENT_SECONDS_MAX:
        faults.append(f"timeoutSeconds: lies between 1 and {bounds.PAYMENT_SECONDS_MAX}")
    if not 0 < len(key) <= bounds.PAYMENT_KEY_CHARACTERS_MAX or not key.isprintable():
        faults.append(f"key: has 1 to {bounds.PAYMENT_KEY_CHARACTERS_MAX} printable characters")
    if faults:
        raise ConfigError(faults)
    return url
