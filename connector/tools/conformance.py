"""Checks a BTP and ILP peer from outside: what it is told, what it answers, one verdict for each rule.

Every check has a name, the numbers of the requirements that it is for (docs/conformance.md), and a time
in which it must be decided. It uses connections of its own, so that what one check breaks is not held
against the next. The rules about forwarding need a second account at the peer, which plays the next
hop. Amounts are small, and move only between these two accounts.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import KeyRefusedError
from connector.btp.packet import BtpError
from connector.ilp.packet import Answer, Fulfill, Prepare, Reject, encode
from connector.tools import bounds
from connector.tools.plain_btp import ClosedByPeerError, NoPeerError, PlainBtp, connected
from connector.tools.probe import until_stopped

Said = Answer | BtpError | None
"""What came for an ILP packet; None: a Response without an ILP answer."""


class Level(StrEnum):
    """How binding a requirement is."""

    MUST = "must"
    SHOULD = "should"
    USUAL = "usual"
    """What existing software does, though no specification says so."""


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    SKIP = "skip"
    """It needs something that was not given."""


class FailedError(Exception):
    """The peer does not do what is required; the message says what it does."""


class SkippedError(Exception):
    """The check cannot be made; the message says what it needs."""


_VERDICTS: Final = (
    SkippedError,
    FailedError,
    TimeoutError,
    ClosedByPeerError,
    NoPeerError,
    KeyRefusedError,
)
"""How a check can end, other than well."""


def require(holds: bool, otherwise: str) -> None:
    """Fail the check unless `holds`.

    Raises:
        FailedError: with the text `otherwise`.
    """
    if not holds:
        raise FailedError(otherwise)


@dataclass(slots=True, frozen=True, kw_only=True)
class Account:
    """An account at the peer."""

    url: str
    username: str
    token: str


@dataclass(slots=True, frozen=True, kw_only=True)
class Target:
    """The peer that is checked."""

    account: Account
    clock: Clock
    amount: int = 100
    """Of packets that are forwarded, in units of the asset of the account."""
    next_hop: Account | None = None
    """A second account, which packets for `next_address` are forwarded to."""
    next_address: str = ""
    next_limit: int | None = None
    """What the peer may come to owe the second account by its own settings; None: not checked."""

    @asynccontextmanager
    async def stranger(self, compression: str | None = None) -> AsyncIterator[PlainBtp]:
        """A connection without a log-in."""
        seconds = bounds.CONFORMANCE_ANSWER_SECONDS_MAX
        async with connected(self.account.url, seconds_max=seconds, compression=compression) as btp:
            yield btp

    @asynccontextmanager
    async def guest(self, account: Account | None = None) -> AsyncIterator[PlainBtp]:
        """A connection that is logged in."""
        seconds = bounds.CONFORMANCE_ANSWER_SECONDS_MAX
        one = account or self.account
        async with connected(one.url, seconds_max=seconds) as btp:
            await btp.log_in(one.username, one.token, seconds)
            yield btp

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[tuple[PlainBtp, PlainBtp]]:
        """Connections of the sender and of the next hop.

        Raises:
            SkippedError: no second account was given.
        """
        if self.next_hop is None or not self.next_address:
            raise SkippedError("needs a second account: --next-auth and --next-address")
        async with self.guest(self.next_hop) as receiver, self.guest() as sender:
            yield sender, receiver

    def prepare(self, destination: str = "", **fields: Any) -> Prepare:
        """A Prepare that is like no other; for the next hop unless `destination` says otherwise."""
        expiry_ms = fields.pop("expiry_ms", bounds.CONFORMANCE_EXPIRY_MS)
        values: dict[str, Any] = {
            "amount": self.amount,
            "destination": destination or f"{self.next_address}.{secrets.token_hex(4)}",
            "condition": hashlib.sha256(secrets.token_bytes(32)).digest(),
            "expires_at_ms": self.clock.now_ms() + expiry_ms,
            "data": secrets.token_bytes(16),
        }
        return Prepare(**{**values, **fields})


def unreachable(target: Target, **fields: Any) -> Prepare:
    """A Prepare without an amount for an address that nobody has."""
    destination = f"example.conformance.{secrets.token_hex(8)}"
    return target.prepare(destination, **{"amount": 0, **fields})


async def ask(btp: PlainBtp, packet: Prepare | bytes, **options: Any) -> Said:
    """Send an ILP packet and wait for what comes.

    Raises:
        FailedError: nothing does.
    """
    octets = packet if isinstance(packet, bytes) else encode(packet)
    seconds = options.pop("seconds_max", bounds.CONFORMANCE_ANSWER_SECONDS_MAX)
    try:
        return await btp.ask_ilp(octets, seconds, **options)
    except TimeoutError:
        raise FailedError(f"no answer within {seconds:g} s") from None
    except ClosedByPeerError as error:
        raise FailedError(f"the connection was closed instead of an answer: {error}") from None


def in_words(said: Said) -> str:
    """An answer, for the detail of a verdict."""
    match said:
        case Fulfill():
            return "a Fulfill"
        case Reject():
            return f"{said.code} {said.message!r}"
        case BtpError():
            return f"BTP Error {said.code} {said.name}"
        case None:
            return "a Response without an ILP answer"


def code_of(said: Said) -> str:
    """The code of a Reject; empty: it is none."""
    return said.code if isinstance(said, Reject) else ""


async def still_answers(btp: PlainBtp, target: Target) -> None:
    """Fail unless the connection goes on as before.

    Raises:
        FailedError: it does not.
    """
    said = await ask(btp, unreachable(target))
    require(isinstance(said, Reject), f"afterwards the connection answers {in_words(said)}")


Run = Callable[[Target], Awaitable[None]]


@dataclass(slots=True, frozen=True, kw_only=True)
class Check:
    """One rule, and how it is checked."""

    name: str
    requirements: tuple[int, ...]
    """By docs/conformance.md."""
    level: Level
    rule: str
    """What is required, in a few words."""
    run: Run
    seconds_max: float = bounds.CONFORMANCE_CHECK_SECONDS_MAX


@dataclass(slots=True, frozen=True, kw_only=True)
class Result:
    """The verdict of one check."""

    check: Check
    verdict: Verdict
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        check = self.check
        return {
            "name": check.name,
            "requirements": list(check.requirements),
            "level": check.level.value,
            "rule": check.rule,
            "verdict": self.verdict.value,
            "detail": self.detail,
        }


class Checks:
    """The checks of a module, in its order; `checks(...)` decorates the function that runs one."""

    def __init__(self) -> None:
        self.all: Final[list[Check]] = []

    def __call__(
        self, name: str, *requirements: int, level: Level = Level.MUST, rule: str, **more: Any
    ) -> Callable[[Run], Run]:
        """See `Check`."""

        def add(run: Run) -> Run:
            self.all.append(
                Check(name=name, requirements=requirements, level=level, rule=rule, run=run, **more)
            )
            return run

        return add


async def run_check(check: Check, target: Target) -> Result:
    """Run one check; whatever the peer does, there is a verdict within its time."""
    try:
        async with asyncio.timeout(check.seconds_max):
            await check.run(target)
    except (ExceptionGroup, *_VERDICTS) as error:
        return _verdict_of(check, error)
    return Result(check=check, verdict=Verdict.PASS)


def _verdict_of(check: Check, error: Exception) -> Result:
    while isinstance(error, ExceptionGroup):
        # Of a check that asks several things at a time.
        error = error.exceptions[0]
    match error:
        case SkippedError():
            return Result(check=check, verdict=Verdict.SKIP, detail=str(error))
        case FailedError() | NoPeerError() | KeyRefusedError():
            detail = str(error)
        case TimeoutError():
            detail = f"not decided within {check.seconds_max:g} s"
        case ClosedByPeerError():
            detail = f"the connection was closed: {error}"
        case _:
            raise error
    return Result(check=check, verdict=Verdict.FAIL, detail=_cut(detail))


def _cut(text: str) -> str:
    return text[: bounds.CONFORMANCE_DETAIL_CHARACTERS_MAX]


async def run_checks(
    checks: Iterable[Check],
    target: Target,
    *,
    stopped: asyncio.Event,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> list[Result]:
    """Run checks one after the other; ends early, with the verdicts so far, when `stopped` is set.

    Raises:
        NoPeerError: the peer cannot be reached at all.
        KeyRefusedError: it refuses the account that was given.
    """
    async with target.guest():
        pass
    results: list[Result] = []
    for check in checks:
        result: Result | None = await until_stopped(run_check(check, target), stopped)
        if result is None:
            break
        results.append(result)
        on_result(result)
    return results
