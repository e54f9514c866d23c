"""Local delivery: passes packets for this node to a handler, or to LOCAL_DELIVERY_URL.

Messages of settlement engines come this way, too. Bounded are the number at a time, for each kind and
fairly between peers, the time (the packet's deadline) and the size of an answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import HttpTimeoutError
from connector.base.http import HttpClient, Transport
from connector.base.log import Log, Sampler
from connector.ilp import settle
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, encode, reject
from connector.peering.model import Unanswered
from connector.switch import bounds
from connector.switch.driver import Driver
from connector.switch.flight import Flight
from connector.switch.switch import Deliver

_Answer = Awaitable[Fulfill | Reject]

Handler = Callable[[Prepare], _Answer] | Callable[[Prepare, str], _Answer]
"""Answers a packet for this node; an exception becomes a T00.

If it takes a second argument, it gets the packet's id, 32 hex digits. The id is the same at every
delivery of a packet, so a handler that must act once can remember it.
"""

SettleHandler = Callable[[str, bytes], Awaitable[Fulfill | Reject]]
"""Answers a message of a peer's settlement engine: peer id and octets."""

_CODE: Final = re.compile(r"[FTR][0-9]{2}")


class Places:
    """Places for deliveries of one kind. A peer takes as many as are left: n peers n / (n + 1)."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._left = places_max
        self._taken: dict[str, int] = {}
        """By peer id, above zero."""

    def take(self, peer_id: str) -> bool:
        """Take a place for a delivery of a packet from a peer; False: there is none for it."""
        taken = self._taken.get(peer_id, 0)
        if taken >= self._left:
            return False
        self._left -= 1
        assert self._left >= 0, self._left
        self._taken[peer_id] = taken + 1
        return True

    def give_back(self, peer_id: str) -> None:
        """The delivery has ended."""
        self._left += 1
        assert self._left <= self._places_max, self._left
        taken = self._taken.pop(peer_id) - 1
        assert taken >= 0, taken
        if taken:
            self._taken[peer_id] = taken


class Deliveries:
    """Calls the handler of the library API, else LOCAL_DELIVERY_URL."""

    def __init__(
        self,
        *,
        url: str | None,
        clock: Clock,
        log: Log,
        own_address: Callable[[], str],
        transport: Transport | None = None,
    ) -> None:
        """`url` is LOCAL_DELIVERY_URL; `transport` replaces the network in tests."""
        self._url = url
        self._clock = clock
        self._log = log
        self._own_address = own_address
        self._handler: Callable[[Prepare, str], _Answer] | None = None
        self._settle_handler: SettleHandler | None = None
        self._group: asyncio.TaskGroup | None = None
        self._turn_done: Callable[[], None] = lambda: None
        self._driver: Driver | None = None
        self._client = HttpClient(
            seconds_max=limits.HOLD_MS_MAX / 1000,
            answer_bytes_max=bounds.LOCAL_ANSWER_BYTES_MAX,
            connections_max=bounds.LOCAL_DELIVERIES_MAX,
            transport=transport,
        )
        self._lines = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._local = Places(bounds.LOCAL_DELIVERIES_MAX)
        self._messages = Places(bounds.SETTLE_MESSAGES_MAX)
        """A settlement engine that is slow takes no places of the receiver, nor the reverse."""

    def attach(
        self, group: asyncio.TaskGroup, driver: Driver, turn_done: Callable[[], None]
    ) -> None:
        """Set the owner of delivery tasks, the driver that gets answers, and a call after each."""
        self._turn_done = turn_done
        self._group = group
        self._driver = driver

    def on_prepare(self, handler: Handler) -> None:
        """Let `handler` answer packets for this node.

        Raises:
            TypeError: it takes neither a Prepare nor a Prepare and a packet's id.
        """
        self._handler = _with_packet_id(handler)

    def on_settle_message(self, handler: SettleHandler) -> None:
        """Let `handler` answer what peers send to `peer.settle`."""
        self._settle_handler = handler

    def possible(self) -> bool:
        """Whether there is a handler or URL."""
        return self._handler is not None or self._url is not None

    def deliver(self, flight: Flight, step: Deliver) -> None:
        """Start a delivery task; the driver gets the answer."""
        assert self._group is not None
        assert self._driver is not None
        is_message = step.prepare.destination == settle.DESTINATION
        places, peer_id = self._messages if is_message else self._local, step.source.peer_id
        if not places.take(peer_id):
            triggered_by = settle.DESTINATION if is_message else self._own_address()
            busy = reject(Code.T03_CONNECTOR_BUSY, triggered_by, "receiver is busy")
            # Not synchronously: the driver is resuming the flow right now.
            asyncio.get_running_loop().call_soon(self._driver.delivered, flight, busy)
            return
        task = self._group.create_task(self._ask(flight, step))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            places.give_back(peer_id)

        task.add_done_callback(ended)

    async def _ask(self, flight: Flight, step: Deliver) -> None:
        assert self._driver is not None
        said: Fulfill | Reject | Unanswered
        left_s = max(0.0, (step.deadline_ms - self._clock.now_ms()) / 1000)
        try:
            async with asyncio.timeout(left_s):
                if step.prepare.destination == settle.DESTINATION:
                    said = await self._settle_message(step)
                elif self._handler is not None:
                    said = await self._handler(step.prepare, _hex(step.packet_id))
                    if type(said) not in (
                        Fulfill,
                        Reject,
                    ):  # a handler's result is not checked by types
                        raise TypeError(f"the handler returned {type(said).__name__}")
                else:
                    said = await self._post(step)
                encode(said)  # raises here if a handler's answer cannot be encoded
        except (TimeoutError, HttpTimeoutError):
            said = Unanswered.TIMED_OUT
        except Exception as error:  # noqa: BLE001 - foreign code; the packet must be answered
            # Senders cause these lines, so their rate is limited.
            suppressed = self._lines.allow(self._clock.monotonic_s())
            if suppressed is not None:
                reason = _clean(error)
                self._log.warning("local_delivery_failed", reason=reason, suppressed=suppressed)
            said = reject(Code.T00_INTERNAL_ERROR, self._own_address(), "receiver failed")
        self._driver.delivered(flight, said)
        self._turn_done()

    async def _settle_message(self, step: Deliver) -> Fulfill | Reject:
        if self._settle_handler is None:
            return settle.refusal(Code.F00_BAD_REQUEST, "there is no settlement engine here")
        return await self._settle_handler(step.source.peer_id, step.prepare.data)

    async def _post(self, step: Deliver) -> Fulfill | Reject:
        assert self._url is not None
        prepare = step.prepare
        expires_at = datetime.fromtimestamp(prepare.expires_at_ms / 1000, UTC)
        body = {
            "destination": prepare.destination,
            "amount": str(prepare.amount),
            "condition": _base64(prepare.condition),
            "expiresAt": expires_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": _base64(prepare.data),
            "packetId": _hex(step.packet_id),
            "source": step.source.peer_id,
        }
        answer = await self._client.ask(
            "POST",
            self._url,
            content=json.dumps(body, separators=(",", ":")).encode(),
            headers={"Content-Type": "application/json"},
            seconds_max=max(0.001, (step.deadline_ms - self._clock.now_ms()) / 1000),
        )
        if answer.status != 200:
            raise ValueError(f"the receiver answered HTTP {answer.status}")
        return read_answer(answer.json(), self._own_address())

    async def close(self) -> None:
        """Cancel unfinished deliveries, and close all connections."""
        for task in list(self._tasks):
            task.cancel()
        await self._client.close()


def read_answer(body: Any, own_address: str) -> Fulfill | Reject:
    """The receiver's answer: `{fulfillment, data}` in base64, or `{code, message, data}`.

    Raises:
        ValueError: it has neither form.
    """
    if not isinstance(body, dict):
        raise ValueError("the receiver's answer is not an object")  # noqa: TRY004 - one kind of fault
    try:
        data = base64.b64decode(str(body.get("data") or ""), validate=True)
        if len(data) > limits.PACKET_DATA_BYTES_MAX:
            raise ValueError("the receiver's data is too long")
        if body.get("fulfillment"):
            fulfillment = base64.b64decode(str(body["fulfillment"]), validate=True)
            if len(fulfillment) != 32:
                raise ValueError("the receiver's fulfillment is not 32 octets")
            return Fulfill(fulfillment=fulfillment, data=data)
    except binascii.Error as error:
        raise ValueError(f"the receiver's answer is not base64: {error}") from None
    code = str(body.get("code", ""))
    if _CODE.fullmatch(code) is None:
        raise ValueError("the receiver gave neither fulfillment nor code")
    return Reject(
        code=code,
        triggered_by=own_address,
        message=str(body.get("message", ""))[: limits.REJECT_MESSAGE_CHARACTERS_OURS_MAX],
        data=data,
    )


def _with_packet_id(handler: Handler) -> Callable[[Prepare, str], _Answer]:
    """`handler` as one that is given the packet's id, whether it wants it or not."""
    try:
        signature = inspect.signature(handler)
    except ValueError:
        takes_id = False  # one that is not written in Python and does not say
    else:
        takes_id = not _can_be_called(signature, 1)
        if takes_id and not _can_be_called(signature, 2):
            raise TypeError(
                "a handler takes a Prepare, or a Prepare and the packet's id; this one takes "
                f"{signature}"
            )
    if takes_id:
        return cast(Callable[[Prepare, str], _Answer], handler)
    plain = cast(Callable[[Prepare], _Answer], handler)
    return lambda prepare, _packet_id: plain(prepare)


def _can_be_called(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def _hex(packet_id: int) -> str:
    return f"{packet_id:032x}"


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _clean(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
