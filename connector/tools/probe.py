"""Pings and traces: packets that any connector of this kind answers itself (docs/protocol.md, Ping).

They are sent by a running node (its admin API), or by this process as a BTP client. A trace sends
probes that expire sooner or later: a hop that has not enough time left to forward one refuses it with
R02, and its address is in the Reject (RFC 27). The more time a probe has, the further it gets. A hop that
needs no more time than the one before it leaves is not seen.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from connector.base.clock import Clock
from connector.base.errors import EnvironmentFault, HttpError, KeyRefusedError
from connector.base.http import HttpClient
from connector.btp.packet import BtpError
from connector.ilp.packet import Fulfill, Prepare, Reject, encode
from connector.switch.receiver import PING_CONDITION, PING_FULFILLMENT
from connector.tools import bounds
from connector.tools.client import key_hint
from connector.tools.plain_btp import ClosedByPeerError, PlainBtp, connected

_DATA_OCTETS: Final = 16
"""Random: two probes under way at a time are no copies of each other."""


class ProbeError(EnvironmentFault):
    """A probe cannot be sent: the node or the connection has gone."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Said:
    """The answer to a probe."""

    code: str
    """Empty: it was fulfilled. Of a Reject; `lost`: there was no answer; else `unreadable`."""
    ms: float
    """From sending it to its answer."""
    message: str = ""
    triggered_by: str = ""


class Prober(Protocol):
    """Sends probes."""

    async def probe(self, destination: str, amount: int, expiry_ms: int) -> Said:
        """Send one, and wait for its answer.

        Raises:
            ProbeError: it cannot be sent.
        """


class NodeProber:
    """Through a running node: `POST /admin/packets`."""

    def __init__(self, client: HttpClient, url: str, key: str | None, clock: Clock) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._clock = clock

    async def probe(self, destination: str, amount: int, expiry_ms: int) -> Said:
        """See `Prober`; the time is that of the node, where it says it."""
        order = {
            "destination": destination, "amount": str(amount), "expirySeconds": expiry_ms / 1000,
            "data": secrets.token_hex(_DATA_OCTETS),
        }  # fmt: skip
        # Hex digits are base64 too.
        began_s = self._clock.monotonic_s()
        seconds_max = expiry_ms / 1000 + bounds.PROBE_ANSWER_SECONDS_MORE
        try:
            answer = await self._client.ask(
                "POST", self._url + "/admin/packets", content=json.dumps(order).encode(),
                headers=self._headers, seconds_max=seconds_max,
            )  # fmt: skip
            body = answer.json()
        except HttpError as error:
            raise ProbeError(f"{self._url} does not answer: {error}") from None
        ms = (self._clock.monotonic_s() - began_s) * 1000
        if not isinstance(body, dict):
            raise ProbeError(f"{self._url} is not a connector")
        if not answer.ok:
            said = f"{self._url}: {body.get('error', answer.status)}"
            if answer.status == 401:
                given = "Authorization" in self._headers
                said = f"{self._url} {key_hint(is_given=given)}"
            raise KeyRefusedError(said) if answer.status in (401, 403) else ProbeError(said)
        took = body.get("durationMs")
        if isinstance(took, int | float):
            ms = float(took)
        if body.get("status") == "fulfilled":
            right = body.get("fulfillment") == PING_FULFILLMENT.hex()
            return Said(code="" if right else "unreadable", ms=ms)
        return Said(
            code=str(body.get("code")), ms=ms, message=str(body.get("message") or ""),
            triggered_by=str(body.get("triggeredBy") or ""),
        )  # fmt: skip


class BtpProber:
    """As a BTP client of a connector."""

    def __init__(self, btp: PlainBtp, clock: Clock) -> None:
        self._btp = btp
        self._clock = clock

    async def probe(self, destination: str, amount: int, expiry_ms: int) -> Said:
        """See `Prober`."""
        prepare = Prepare(
            amount=amount,
            expires_at_ms=self._clock.now_ms() + expiry_ms,
            condition=PING_CONDITION,
            destination=destination,
            data=secrets.token_bytes(_DATA_OCTETS),
        )
        began_s = self._clock.monotonic_s()
        seconds_max = expiry_ms / 1000 + bounds.PROBE_ANSWER_SECONDS_MORE
        try:
            said = await self._btp.ask_ilp(encode(prepare), seconds_max)
        except TimeoutError:
            said = None
        except ClosedByPeerError as error:
            raise ProbeError(f"the connection was closed: {error}") from None
        ms = (self._clock.monotonic_s() - began_s) * 1000
        if isinstance(said, Fulfill):
            return Said(code="" if said.fulfillment == PING_FULFILLMENT else "unreadable", ms=ms)
        if isinstance(said, Reject):
            return Said(code=said.code, ms=ms, message=said.message, triggered_by=said.triggered_by)
        if isinstance(said, BtpError):
            return Said(code="unreadable", ms=ms, message=f"BTP {said.code} {said.name}")
        return Said(code="lost", ms=ms, message="no answer")


@asynccontextmanager
async def prober(
    url: str, key: str | None, auth: str | None, clock: Clock
) -> AsyncIterator[Prober]:
    """A prober for a URL: of a node (http), or of a BTP listener (ws), where `auth` is needed.

    Raises:
        NoPeerError: the BTP listener cannot be reached.
        KeyRefusedError: it refuses the log-in.
    """
    if url.removeprefix("btp+").startswith(("ws://", "wss://")):
        user, _, token = (auth or "").partition(":")
        async with connected(url, seconds_max=bounds.NODE_SECONDS_MAX) as btp:
            await btp.log_in(user, token, bounds.NODE_SECONDS_MAX)
            yield BtpProber(btp, clock)
        return
    async with HttpClient(
        seconds_max=bounds.NODE_ADMIN_SECONDS_MAX,
        answer_bytes_max=bounds.NODE_ANSWER_BYTES_MAX,
        connections_max=1,
    ) as client:
        yield NodeProber(client, url, key, clock)


async def until_stopped(waited: Any, stopped: asyncio.Event) -> Any | None:
    """The result of a coroutine, or None when `stopped` is set before it has one."""
    async with asyncio.TaskGroup() as group:
        work = group.create_task(waited)
        stop = group.create_task(stopped.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
            return None
    return work.result()


# --- ping


@dataclass(slots=True)
class Pings:
    """The results of a ping so far."""

    destination: str
    sent: int = 0
    fulfilled: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)
    """By code, the first message and who triggered it."""
    ms: list[float] = field(default_factory=list)
    """Of those that were fulfilled."""
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        ordered = sorted(self.ms)
        return {
            **({"interrupted": True} if self.interrupted else {}),
            "destination": self.destination,
            "sent": self.sent,
            "fulfilled": self.fulfilled,
            "rejected": dict(self.rejected),
            "messages": self.messages,
            "ms": {
                "min": round(ordered[0], 3),
                "p50": round(ordered[len(ordered) // 2], 3),
                "max": round(ordered[-1], 3),
            }
            if ordered
            else None,
        }


async def ping(
    prober: Prober,
    destination: str,
    *,
    amount: int,
    count: int,
    interval_s: float,
    expiry_ms: int,
    stopped: asyncio.Event,
    on_answer: Callable[[int, Said], None] = lambda _number, _said: None,
) -> Pings:
    """Send pings one after the other; ends early, with the results so far, when `stopped` is set.

    Raises:
        ProbeError: one could not be sent.
    """
    pings = Pings(destination)
    for number in range(1, count + 1):
        pings.sent += 1
        said: Said | None = await until_stopped(
            prober.probe(destination, amount, expiry_ms), stopped
        )
        if said is None:
            break
        if said.code:
            pings.rejected[said.code] += 1
            by = said.triggered_by or "unknown"
            pings.messages.setdefault(said.code, f"{said.message} (by {by})")
        else:
            pings.fulfilled += 1
            if len(pings.ms) < bounds.PINGS_KEPT_MAX:
                pings.ms.append(said.ms)
        on_answer(number, said)
        if number < count:
            await until_stopped(asyncio.sleep(interval_s), stopped)
        if stopped.is_set():
            break
    pings.interrupted = stopped.is_set()
    return pings


# --- trace


@dataclass(slots=True)
class Hop:
    """A connector on the way."""

    address: str
    """As it names itself; empty: it did not."""
    ms: float
    """The quickest answer to a probe that ended there."""
    expiry_ms: int
    """The least time with which a probe has come so far."""
    probes: int = 1


@dataclass(slots=True)
class Trace:
    """The hops found so far, and how the last probe ended."""

    destination: str
    hops: list[Hop] = field(default_factory=list)
    end: Said | None = None
    """Of the probe that went furthest: fulfilled (`code` is empty), or why it went no further."""
    probes: int = 0
    interrupted: bool = False

    @property
    def reached(self) -> bool:
        """Whether the destination has answered."""
        return self.end is not None and not self.end.code

    def note(self, said: Said, expiry_ms: int) -> None:
        """A hop has refused a probe for want of time."""
        for hop in self.hops:
            if hop.address == said.triggered_by:
                hop.ms = min(hop.ms, said.ms)
                hop.probes += 1
                return
        if len(self.hops) < bounds.TRACE_HOPS_MAX:
            self.hops.append(Hop(said.triggered_by, said.ms, expiry_ms))

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        end = self.end
        return {
            **({"interrupted": True} if self.interrupted else {}),
            "destination": self.destination,
            "reached": self.reached,
            "probes": self.probes,
            "hops": [
                {
                    "address": hop.address,
                    "ms": round(hop.ms, 3),
                    "expiryMs": hop.expiry_ms,
                    "probes": hop.probes,
                }
                for hop in self.hops
            ],
            "end": None
            if end is None
            else {
                "code": end.code or None,
                "message": end.message,
                "triggeredBy": end.triggered_by,
                "ms": round(end.ms, 3),
            },
        }


async def trace(
    prober: Prober,
    destination: str,
    *,
    amount: int,
    step_ms: int,
    expiry_ms_max: int,
    stopped: asyncio.Event,
    on_progress: Callable[[Trace], None] = lambda _trace: None,
) -> Trace:
    """Find the hops to a destination; ends early, with what is known, when `stopped` is set.

    Args:
        prober: sends the probes.
        destination: an ILP address.
        amount: of each probe.
        step_ms: by how much more time each probe has than the one before. A hop that shortens
            expiries by less may be missed.
        expiry_ms_max: the most time that a probe is given.
        stopped: see above.
        on_progress: is given what is known after each probe.

    Raises:
        ProbeError: a probe could not be sent.
    """
    found = Trace(destination)
    expiry_ms = step_ms
    silent = 0
    while expiry_ms <= expiry_ms_max:
        said: Said | None = await until_stopped(
            prober.probe(destination, amount, expiry_ms), stopped
        )
        if said is None:
            break
        found.probes += 1
        if said.code == "R02":
            found.note(said, expiry_ms)
            found.end, silent = said, 0
        elif said.code in ("R00", "T00", "lost") and silent < bounds.TRACE_ATTEMPTS_MAX:
            # A probe that expired on its way, or a hop that had to let go of it: try with more time.
            found.end, silent = said, silent + 1
        else:
            found.end = said
            on_progress(found)
            break
        on_progress(found)
        expiry_ms += step_ms
    found.interrupted = stopped.is_set()
    return found
