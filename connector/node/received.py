"""Payments that come in: written down beside the packet path, shown, and told to a webhook.

The packet path only counts (`stream.incoming`). What has changed is written to disk four times a second,
in one transaction. After a crash the amount of a payment that was open may be too small by what came in
the last moment (`at_least`); the wallet's balance in the ledger is not.

A payment that has ended is told to PAY_WEBHOOK_URL: at least once, always under the same id, until the
answer is one of success, or for a day. What waits is on disk. Wallets take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Callable
from typing import Any, Final

from connector.base import limits
from connector.base.backoff import Backoff
from connector.base.errors import EnvironmentFault, HttpError, UnknownNameError
from connector.base.http import HttpClient, Transport
from connector.base.log import Sampler
from connector.node import bounds
from connector.node.core import Core
from connector.node.received_store import FILE_NAME, Hook, Outcome, Received, ReceivedStore
from connector.stream.incoming import IncomingPayments
from connector.telemetry.events import Event, PaymentReceived, iso

_PAUSE: Final = Backoff(
    min_s=bounds.WEBHOOK_PAUSE_SECONDS_MIN, max_s=bounds.WEBHOOK_PAUSE_SECONDS_MAX, jitter=0.2
)


class ReceivedPayments:
    """See the module."""

    def __init__(
        self,
        core: Core,
        incoming: IncomingPayments,
        *,
        emit: Callable[[Event], None],
        transport: Transport | None = None,
    ) -> None:
        """`emit` takes events; `transport` replaces the network in tests."""
        settings = core.settings
        self.waiting = 0
        """Payments that the webhook has yet to be told."""
        self.dead = 0
        """Those that it could not be told."""
        self._core: Final = core
        self._emit = emit
        self._incoming: Final = incoming
        self._url: Final = settings.pay_webhook_url
        secret = settings.pay_webhook_secret
        self._secret: Final = None if secret is None else secret.get_secret_value().encode()
        self._store: Final = ReceivedStore(
            core.platform.disk.database(settings.data_dir / FILE_NAME)
        )
        self._client: Final = HttpClient(
            seconds_max=bounds.WEBHOOK_SECONDS_MAX,
            answer_bytes_max=bounds.WEBHOOK_ANSWER_BYTES_MAX,
            connections_max=bounds.WEBHOOKS_AT_ONCE_MAX,
            gzip=False,
            transport=transport,
        )
        self._is_open = False
        self._opening = asyncio.Lock()
        self._wake = asyncio.Event()
        self._turns: dict[str, int] = {}
        """By wallet: when it had its last turn."""
        self._outcomes: dict[str, Outcome] = {}
        """By payment: how the latest attempts to tell have ended, until that is written down."""
        self._turn = 0
        self._said: Final = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Take up what earlier processes have left open. Call it before the first packet.

        A disk that fails is no ground to refuse to start: it is tried again.
        """
        try:
            await self._open()
        except EnvironmentFault as error:
            self._core.log.warning("payments_not_recorded", reason=str(error))

    async def _open(self) -> None:
        async with self._opening:
            if not self._is_open:
                self._incoming.restore(await self._store.open())
                self._is_open = True

    def start(self, group: asyncio.TaskGroup) -> None:
        """Write down and tell, in tasks of `group`."""
        self._tasks = [group.create_task(self._write_always())]
        if self._url is not None:
            self._tasks.append(group.create_task(self._tell_always(self._url)))

    async def stop(self) -> None:
        """Write down what came in. Safe to call when it was never started or opened."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._client.close()
        if not self._is_open:
            return
        try:
            try:
                while await self._write():
                    pass
                await self._note_outcomes()
                await self._store.note_clean_stop()
            finally:
                self._is_open = False
                await self._store.close()
        except EnvironmentFault as error:
            self._core.log.warning("payments_not_recorded", reason=str(error))

    # --- for the API

    async def recent(
        self, *, wallet: str | None, hook: str | None, cursor: str, count: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The latest payments, latest first, and where the next page begins.

        Raises:
            EnvironmentFault: the disk fails.
        """
        await self._open()
        before = (
            int(cursor) if cursor.isascii() and cursor.isdecimal() and len(cursor) < 19 else None
        )
        found = await self._store.recent(wallet=wallet, hook=hook, before=before, count=count + 1)
        items = [_shown(one) for one in found[:count]]
        return items, str(found[count - 1].seq) if len(found) > count else None

    async def tell_again(self, id_: str) -> None:
        """Tell the webhook of a payment again.

        Raises:
            UnknownNameError: there is none that has ended; or no webhook.
            EnvironmentFault: the disk fails.
        """
        if self._url is None:
            raise UnknownNameError("there is no webhook: set PAY_WEBHOOK_URL")
        await self._open()
        self._outcomes.pop(id_, None)
        if not await self._store.tell_again(id_, self._core.clock.now_ms()):
            raise UnknownNameError("no payment that has ended has this id")
        await self._count()
        self._wake.set()

    # --- writing down

    async def _write_always(self) -> None:
        told = False
        while True:
            await asyncio.sleep(bounds.RECEIVED_WRITE_SECONDS)
            try:
                while await self._write():
                    await asyncio.sleep(0)
                told = False
            except EnvironmentFault as error:
                if not told:
                    self._core.log.warning("payments_not_recorded", reason=str(error))
                told = True
                await asyncio.sleep(bounds.RECEIVED_FAULT_SECONDS)

    async def _write(self) -> bool:
        """Write some of what has changed; whether there is more."""
        await self._open()
        changed = self._incoming.take_changed(bounds.RECEIVED_WRITTEN_AT_ONCE_MAX)
        if not changed:
            return False
        now_ms = self._core.clock.now_ms()
        try:
            await self._store.put(changed, tells=self._url is not None, now_ms=now_ms)
        except BaseException:  # also if it was cancelled: the stop writes them
            self._incoming.put_back(changed)
            raise
        ended = [one for one in changed if one.ended]
        for one in ended:
            self._emit(
                PaymentReceived(
                    payment_id=one.payment_id,
                    wallet=one.wallet,
                    asset_code=one.asset_code,
                    asset_scale=one.asset_scale,
                    amount=one.amount,
                    packets=one.packets,
                    ended=one.ended,
                )
            )
        if ended:
            self._wake.set()
        lost = self._incoming.take_lost()
        if lost:
            self._core.log.warning(
                "payments_lost", payments=lost, reason="too many waited for the disk"
            )
        return len(changed) == bounds.RECEIVED_WRITTEN_AT_ONCE_MAX

    # --- telling

    async def _tell_always(self, url: str) -> None:
        told = False
        while True:
            self._wake.clear()
            try:
                await self._open()
                await self._count()
                wait_s = await self._tell_due(url)
                told = False
            except EnvironmentFault as error:
                if not told:
                    self._core.log.warning("webhooks_wait", reason=str(error))
                told, wait_s = True, bounds.RECEIVED_FAULT_SECONDS
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _tell_due(self, url: str) -> float | None:
        """Tell some of those that are due; returns after how many seconds to look again."""
        # What was told is not told again because the disk did not take it down.
        await self._note_outcomes()
        now_ms = self._core.clock.now_ms()
        due = await self._store.due(now_ms)
        # Those first whose wallet has waited longest for its turn.
        due.sort(key=lambda one: self._turns.get(one.payment.wallet, 0))
        chosen = due[: bounds.WEBHOOKS_AT_ONCE_MAX]
        if not chosen:
            next_ms = await self._store.next_due_ms()
            if next_ms is None:
                return None
            # Looked at again soon: the clock may be set back meanwhile.
            return min(max(0.05, (next_ms - now_ms) / 1000), bounds.WEBHOOK_LOOK_SECONDS_MAX)
        self._turn += 1
        for one in chosen:
            self._turns[one.payment.wallet] = self._turn
        async with asyncio.TaskGroup() as group:
            for one in chosen:
                group.create_task(self._tell(url, one))
        return 0.0

    async def _tell(self, url: str, one: Received) -> None:
        core = self._core
        content = json.dumps(_body(one, core.settings.node_id), separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": one.payment.id}
        if self._secret is not None:
            at = core.clock.now_ms() // 1000
            signature = hmac.digest(self._secret, f"{at}.".encode() + content, "sha256").hex()
            headers["Connector-Signature"] = f"t={at},v1={signature}"
        try:
            answer = await self._client.ask("POST", url, content=content, headers=headers)
            fault = "" if answer.ok else f"the answer is HTTP {answer.status}"
        except HttpError as error:
            fault = str(error)[: bounds.WEBHOOK_FAULT_CHARACTERS_MAX]
        attempts = one.attempts + 1
        hook, pause_s = Hook.TOLD, 0.0
        if fault:
            suppressed = self._said.allow(core.clock.monotonic_s())
            if suppressed is not None:
                core.log.warning(
                    "webhook_failed",
                    payment=one.payment.id,
                    reason=fault,
                    attempts=attempts,
                    suppressed=suppressed,
                )
            hook = Hook.DEAD if attempts >= bounds.WEBHOOK_ATTEMPTS_MAX else Hook.WAITING
            pause_s = _PAUSE.wait_s(attempts, core.platform.randomness.random)
        next_ms = core.clock.now_ms() + int(pause_s * 1000)
        self._outcomes[one.payment.id] = Outcome(hook, attempts, next_ms, fault)
        # A disk that fails is told where all of them are written.
        with contextlib.suppress(EnvironmentFault):
            await self._note_outcome(one.payment.id)

    async def _note_outcome(self, id_: str) -> None:
        outcome = self._outcomes.get(id_)
        if outcome is not None:
            await self._store.told(id_, outcome)
            self._outcomes.pop(id_, None)

    async def _note_outcomes(self) -> None:
        for id_ in list(self._outcomes):
            await self._note_outcome(id_)

    async def _count(self) -> None:
        counts = await self._store.counts()
        self.waiting, self.dead = counts.get("waiting", 0), counts.get("dead", 0)


def _body(one: Received, node_id: str) -> dict[str, Any]:
    """What the webhook is told. Amounts are strings."""
    payment = one.payment
    return {
        "type": "payment.received",
        "id": payment.id,
        "paymentId": payment.payment_id,
        "nodeId": node_id,
        "wallet": payment.wallet,
        "assetCode": payment.asset_code,
        "assetScale": payment.asset_scale,
        "amount": str(payment.amount),
        "atLeast": payment.at_least,
        "packets": payment.packets,
        "beganAt": iso(payment.began_ms),
        "lastAt": iso(payment.last_ms),
        "ended": payment.ended,
    }


def _shown(one: Received) -> dict[str, Any]:
    payment = one.payment
    return {
        "id": payment.id,
        "paymentId": payment.payment_id,
        "wallet": payment.wallet,
        "assetCode": payment.asset_code,
        "assetScale": payment.asset_scale,
        "amount": str(payment.amount),
        "atLeast": payment.at_least,
        "packets": payment.packets,
        "beganAt": iso(payment.began_ms),
        "lastAt": iso(payment.last_ms),
        "ended": payment.ended or None,
        "webhook": one.hook.value,
        "webhookAttempts": one.attempts,
        "webhookNextAt": iso(one.next_ms) if one.hook is Hook.WAITING else None,
        "webhookFault": one.fault or None,
    }
