"""A BTP client that sends Prepares and measures: the `send` command, and the demo's load."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import DecodeError, EnvironmentFault, KeyRefusedError
from connector.base.log import Log
from connector.btp.credentials import Credentials
from connector.btp.link import Link
from connector.btp.links import Links
from connector.btp.network import SystemNetwork
from connector.ilp.packet import Fulfill, Prepare, Reject, decode, encode
from connector.peering.model import Asset, Peer, PeerRegistry, PeerTerms, Unanswered
from connector.switch.receiver import PING_CONDITION, fulfillment_for
from connector.tools import bounds
from connector.tools.knock import what_is_there

_PEER_ID: Final = "connector"


class SendFailedError(EnvironmentFault):
    """The connector cannot be reached."""


@dataclass(slots=True, kw_only=True)
class Order:
    """What to send."""

    destination: str
    amount: int = 1000
    count: int = 1
    window: int = 1
    """Prepares in flight."""
    expiry_s: float = 30.0
    data: bytes = b""
    secret: bytes | None = None
    """Of the receiver's RECEIVER_SECRET; None: ping."""


@dataclass(slots=True)
class Report:
    """The results."""

    sent: int = 0
    fulfilled: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """By code; `lost` where the connection broke."""
    messages: dict[str, str] = field(default_factory=dict)
    """The first message and triggered-by of each code."""
    latency_ms: list[float] = field(default_factory=list)
    """A bounded sample."""
    seconds: float = 0.0
    interrupted: bool = False
    """Stopped before all was sent and answered."""

    @property
    def answered(self) -> int:
        """Packets with an answer."""
        return self.fulfilled + sum(self.rejected.values())

    def percentile(self, share: float) -> float:
        """Latency in milliseconds at the percentile `share`, 0 to 1."""
        ordered = sorted(self.latency_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0

    @property
    def interruption(self) -> str:
        """One line for people; empty: everything was sent and answered."""
        if not self.interrupted:
            return ""
        return f"interrupted: {self.sent} sent, {self.sent - self.answered} of them not answered"

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            **({"interrupted": True} if self.interrupted else {}),
            "sent": self.sent,
            "fulfilled": self.fulfilled,
            "rejected": dict(self.rejected),
            "messages": self.messages,
            "seconds": round(self.seconds, 3),
            "packetsPerSecond": round(self.answered / self.seconds) if self.seconds else 0,
            "latencyMs": {
                "p50": round(self.percentile(0.5), 3),
                "p99": round(self.percentile(0.99), 3),
                "max": round(self.percentile(1.0), 3),
            },
        }


class _Request:
    """One Prepare in flight; see `OutgoingRequest`."""

    __slots__ = (
        "again", "began_s", "next_hop", "octets", "packet_id", "quiet", "sender_packet_id",
    )  # fmt: skip

    def __init__(self, peer: Peer, octets: bytes, packet_id: int) -> None:
        self.octets = octets
        self.packet_id = packet_id
        self.sender_packet_id = 0
        self.next_hop: Peer | None = peer
        self.again = False
        self.quiet = False
        self.began_s = 0.0


class Sender:
    """Connects as a peer and sends; it is the packet handler of its one link."""

    def __init__(self, *, url: str, username: str, token: str, clock: Clock, log: Log) -> None:
        self._clock = clock
        terms = PeerTerms(peer_id=_PEER_ID, asset=Asset("NONE", 0))
        self._peer = Peer(terms)
        self._credentials = Credentials(peer_id=_PEER_ID, token=token, username=username, url=url)
        self._links = Links(
            clock=clock,
            log=log,
            peers=PeerRegistry([self._peer]),
            credentials=[self._credentials],
            random_id=lambda: secrets.randbits(31),
            random_octets=secrets.token_bytes,
            observer=self,
            network=SystemNetwork(),
        )
        self._links.attach(self)
        self._connected = asyncio.Event()
        self._waiting: dict[_Request, None] = {}
        self._order: Order | None = None
        self._report = Report()
        self._done = asyncio.Event()
        self._stopping = False
        """Nothing more is sent."""
        self._on_progress: Callable[[Report], None] = lambda _report: None

    async def send(
        self,
        order: Order,
        on_progress: Callable[[Report], None] = lambda _report: None,
        stopped: asyncio.Event | None = None,
    ) -> Report:
        """Send everything in `order`; returns the results.

        Args:
            order: what to send.
            on_progress: is given the results so far, ten times a second.
            stopped: once it is set nothing more is sent, and the results so far are returned.

        Raises:
            SendFailedError: the connector cannot be reached.
            KeyRefusedError: it refuses the log-in.
        """
        self._stopping = False
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._links.dialler.stay_connected(self._credentials)),
                group.create_task(self._tick()),
            ]
            if stopped is not None:
                tasks.append(group.create_task(self._stop_when(stopped)))
            try:
                await self._connect()
                self._order, self._report = order, Report()
                self._on_progress = on_progress
                self._done.clear()
                began_s = self._clock.monotonic_s()
                self._pump()
                self._links.flush()
                await self._done.wait()
                self._report.seconds = self._clock.monotonic_s() - began_s
                self._report.interrupted = self._report.answered < order.count
            finally:
                # What has no answer when the link is closed is neither counted nor sent again.
                self._stopping = True
                self._waiting.clear()
                await self._links.close()
                for task in tasks:
                    task.cancel()
        return self._report

    async def _stop_when(self, stopped: asyncio.Event) -> None:
        await stopped.wait()
        self._stopping = True
        if self._order is not None:
            self._pump()
            await asyncio.sleep(bounds.SENDER_STOP_SECONDS_MAX)
        self._done.set()

    async def _connect(self) -> None:
        url = self._credentials.url
        assert url is not None
        looked = False
        try:
            async with asyncio.timeout(limits.LOGIN_SECONDS_MAX):
                while not self._connected.is_set() and not self._stopping:
                    state = self._links.dialler.states.get(_PEER_ID)
                    # A temporary refusal, code T00, is tried again.
                    if state is not None and "log-in refused: F" in state.last_error:
                        reason = state.last_error.removeprefix("log-in refused: ")
                        raise KeyRefusedError(
                            f"{url} refuses the log-in: check --auth USER:TOKEN ({reason})"
                        )
                    if state is not None and state.last_error and not looked:
                        looked = True
                        there = await what_is_there(url)
                        if there:
                            raise SendFailedError(there)
                    # Poll: connected, or a reason for the failure.
                    await asyncio.sleep(0.02)
        except TimeoutError:
            state = self._links.dialler.states.get(_PEER_ID)
            reason = state.last_error if state is not None else ""
            raise SendFailedError(f"cannot connect to {url}: {reason or 'no answer'}") from None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self._links.tick()
            self._on_progress(self._report)
            if self._order is None:
                continue
            # The connector answers before the expiry; what it does not answer is lost.
            late_s = self._clock.monotonic_s() - self._order.expiry_s - 5
            for request in [one for one in self._waiting if one.began_s < late_s]:
                self.answered(request, Unanswered.TIMED_OUT)
            self._links.flush()

    def _pump(self) -> None:
        order, report = self._order, self._report
        assert order is not None
        while (
            report.sent < order.count and len(self._waiting) < order.window and not self._stopping
        ):
            report.sent += 1
            request = self._make(order)
            self._waiting[request] = None
            unanswered = self._links.send(request)
            if unanswered is not None:
                self._count(request, unanswered)
        if report.answered >= (report.sent if self._stopping else order.count):
            self._done.set()

    def _make(self, order: Order) -> _Request:
        data = order.data
        condition = PING_CONDITION
        if order.secret is not None:
            # A fresh nonce per packet: one fulfilment must not prove two deliveries.
            data = secrets.token_bytes(16) + data
            condition = hashlib.sha256(fulfillment_for(order.secret, data)).digest()
        prepare = Prepare(
            amount=order.amount,
            expires_at_ms=self._clock.now_ms() + int(order.expiry_s * 1000),
            condition=condition,
            destination=order.destination,
            data=data,
        )
        packet_id = self._clock.now_ms() << 80 | secrets.randbits(79) | 1
        request = _Request(self._peer, encode(prepare), packet_id)
        request.began_s = self._clock.monotonic_s()
        return request

    # --- PacketHandler

    def arrived(
        self,
        source: Peer,
        octets: bytes,
        sender_packet_id: int,
        reply_to: Link,
        request_id: int,
        again: bool,
    ) -> None:
        """A sender ignores incoming packets."""
        del source, octets, sender_packet_id, again
        refusal = Reject(code="F02", message="this is a sender")
        reply_to.reply(request_id, encode(refusal))

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        """See `PacketHandler`."""
        if flight not in self._waiting:
            return
        self._count(flight, said)
        self._pump()

    def _count(self, request: _Request, said: bytes | Unanswered) -> None:
        del self._waiting[request]
        report = self._report
        if len(report.latency_ms) < 100_000:
            report.latency_ms.append((self._clock.monotonic_s() - request.began_s) * 1000)
        if isinstance(said, Unanswered):
            report.rejected["lost"] += 1
            report.messages.setdefault("lost", said.value)
            return
        try:
            answer = decode(said)
        except DecodeError as error:
            report.rejected["unreadable"] += 1
            report.messages.setdefault("unreadable", str(error))
            return
        if isinstance(answer, Fulfill):
            report.fulfilled += 1
        elif isinstance(answer, Reject):
            report.rejected[answer.code] += 1
            report.messages.setdefault(
                answer.code, f"{answer.message} (by {answer.triggered_by or 'unknown'})"
            )

    def receipt(self, peer_id: str) -> None:
        """Nothing is kept."""

    def wants_receipt(self, peer_id: str) -> bool:
        """Nothing is kept."""
        del peer_id
        return False

    def reconnected(self, peer_id: str) -> None:
        """See `PacketHandler`."""

    def waiting_for(self, peer: Peer) -> list[Any]:
        """See `PacketHandler`."""
        del peer
        return list(self._waiting)

    # --- LinkObserver

    def connected(self, peer_id: str, direction: str) -> None:
        """See `LinkObserver`."""
        self._connected.set()

    def disconnected(self, peer_id: str, direction: str, reason: str) -> None:
        """See `LinkObserver`."""
