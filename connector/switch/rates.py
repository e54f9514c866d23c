"""Live exchange rates: a source that is asked beside the packet path, and what came of it.

The port is `PriceSource`; the one implementation asks a URL for JSON:

    {"base": "USD", "rates": {"EUR": 0.92, "MXN": "17.05"}, "timestamp": 1764239000}

`rates`: units of each currency for one unit of `base`, as numbers or as decimal texts; both are read
exactly, never as floats. `timestamp`, optional: seconds since the epoch at which the prices were right;
without it they were when they were asked for. Every pair of currencies follows from these, exactly.

A source may be wrong or hostile. What it says is bounded before it is parsed; a price that is zero,
negative, beyond all measure or no number is refused alone, an answer that is no such JSON, or older
than the limit, as a whole. Nothing is guessed: prices that were good are used until they are too
old, and then none are.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import urlsplit

from connector.base.backoff import Backoff
from connector.base.clock import Clock
from connector.base.errors import HttpAnswerError, HttpError, HttpTimeoutError
from connector.base.http import HttpClient, Transport, check_json, off_loop
from connector.base.limits import CLOCK_ERROR_MS
from connector.base.log import Log
from connector.switch import bounds
from connector.switch.terms import Prices, Rates

_CODE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
# Bounded: a number with a large exponent takes very long to compute.
_NUMBER: Final = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?")


class Fault(StrEnum):
    """Why an answer of the source, or one price in it, is not used."""

    UNREACHABLE = "unreachable"
    SLOW = "slow"
    STATUS = "status"
    """The HTTP status is not one of success."""
    MALFORMED = "malformed"
    """The answer is not JSON of this form, or too long."""
    STALE = "stale"
    """By its own timestamp it is older than the limit."""
    FUTURE = "future"
    """Its timestamp is ahead of this node's clock."""
    # Of one price:
    MISSING = "missing"
    """There is none for the currency of a peer."""
    NOT_A_NUMBER = "not_a_number"
    NEGATIVE = "negative"
    ZERO = "zero"
    HUGE = "huge"
    TINY = "tiny"


class PricesError(Exception):
    """An answer of the source that is not used as a whole."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


@dataclass(slots=True, kw_only=True)
class Quote:
    """What a source said."""

    base: str
    by_code: dict[str, Fraction]
    """With the base itself, at 1."""
    at_ms: int | None = None
    """When it was right, in milliseconds since the epoch, by the source; None: it does not say."""
    refused: dict[str, Fault] = field(default_factory=dict)
    """By currency: prices that are not used."""


class PriceSource(Protocol):
    """Where live prices come from."""

    @property
    def name(self) -> str:
        """For logs and views; without credentials."""

    async def ask(self) -> Quote:
        """The prices now.

        Raises:
            PricesError: there are none.
        """

    async def close(self) -> None:
        """Give back what was opened."""


class HttpPriceSource:
    """Asks one URL."""

    def __init__(self, url: str, *, seconds_max: float, transport: Transport | None = None) -> None:
        """Nothing is asked yet.

        Args:
            url: http or https; may have credentials, which are never shown.
            seconds_max: for one answer.
            transport: replaces the network in tests.
        """
        self._url = url
        self._client = HttpClient(
            seconds_max=seconds_max,
            answer_bytes_max=bounds.RATES_ANSWER_BYTES_MAX,
            connections_max=1,
            transport=transport,
        )

    @property
    def name(self) -> str:
        """Scheme and host: path and query may hold a key."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    async def ask(self) -> Quote:
        """See `PriceSource`."""
        try:
            answer = await self._client.ask("GET", self._url)
            if not answer.ok:
                raise PricesError(Fault.STATUS, f"HTTP {answer.status}")
            return await off_loop(read_quote, answer.body)
        except HttpTimeoutError as error:
            raise PricesError(Fault.SLOW, str(error)) from None
        except HttpAnswerError as error:
            raise PricesError(Fault.MALFORMED, str(error)) from None
        except HttpError as error:
            # The library's own words may have the URL; those of the system do not.
            detail = str(error) if self._url not in str(error) else "no connection"
            raise PricesError(Fault.UNREACHABLE, detail) from None

    async def close(self) -> None:
        """See `PriceSource`."""
        await self._client.close()


def http_price_source(url: str | None, max_age_s: float) -> HttpPriceSource | None:
    """The source of RATES_URL; None: it is not set. An answer that takes too long would be too old."""
    if url is None:
        return None
    return HttpPriceSource(url, seconds_max=min(bounds.RATES_ANSWER_SECONDS_MAX, max_age_s))


class _Number(str):
    """A number of a JSON text, as it was written."""

    __slots__ = ()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that comes twice could mean either value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def read_quote(octets: bytes) -> Quote:
    """Read the JSON of a source; see the module for its form.

    Raises:
        PricesError: it is not of that form.
    """
    try:
        check_json(octets)
        value = json.loads(
            octets.decode("utf-8"), parse_float=_Number, parse_int=_Number,
            parse_constant=_Number, object_pairs_hook=_once,
        )  # fmt: skip
    except (ValueError, RecursionError, HttpAnswerError):
        _malformed("it is not JSON that can be read")
    if not isinstance(value, dict):
        _malformed("it is not a JSON object")
    base, prices = value.get("base"), value.get("rates")
    if type(base) is not str or not _CODE.fullmatch(base):
        _malformed("it has no `base` that is a currency")
    if not isinstance(prices, dict) or len(prices) > bounds.RATES_CURRENCIES_MAX:
        _malformed("it has no `rates`, or too many")
    quote = Quote(base=base, by_code={base: Fraction(1)}, at_ms=_timestamp_ms(value))
    for code, said in prices.items():
        if not _CODE.fullmatch(code):
            _malformed("`rates` has a name that is no currency")
        price = _price(said)
        if code == base and price != 1:
            _malformed("the price of the base is not 1")
        if isinstance(price, Fault):
            quote.refused[code] = price
        else:
            quote.by_code[code] = price
    return quote


def _malformed(detail: str) -> NoReturn:
    raise PricesError(Fault.MALFORMED, detail)


def _timestamp_ms(value: dict[str, Any]) -> int | None:
    at = value.get("timestamp")
    if at is None:
        return None
    if not isinstance(at, _Number) or not _NUMBER.fullmatch(at):
        _malformed("`timestamp` is not a number of seconds")
    number = Fraction(str(at))
    if not 0 <= number <= bounds.RATES_TIMESTAMP_MAX:
        _malformed("`timestamp` is not in seconds since 1970")
    return int(number * 1000)


def _price(said: Any) -> Fraction | Fault:
    if not isinstance(said, str) or not _NUMBER.fullmatch(said):
        return Fault.NOT_A_NUMBER
    price = Fraction(str(said))
    if price < 0:
        return Fault.NEGATIVE
    if price == 0:
        return Fault.ZERO
    if price > bounds.RATE_MAX:
        return Fault.HUGE
    return Fault.TINY if price < Fraction(1, bounds.RATE_MAX) else price


class LiveRates:
    """Asks a source again and again, and lets the switch use what it said."""

    def __init__(
        self,
        *,
        source: PriceSource,
        rates: Rates,
        clock: Clock,
        log: Log,
        max_age_s: float,
        wanted: Callable[[], Iterable[str]],
        random: Callable[[], float],
    ) -> None:
        """Nothing is asked before `run`.

        Args:
            source: of prices.
            rates: the rates of the switch, which are given the prices.
            clock: for the age of prices.
            log: for what is refused, each reason once in a while.
            max_age_s: from this age on a price is not used.
            wanted: the currencies of all peers and of this node.
            random: a number from 0 to 1, for waits.
        """
        self._source = source
        self._rates = rates
        self._clock = clock
        self._log = log
        self._max_age_s = max_age_s
        self._wanted = wanted
        self._random = random
        often_s = max(bounds.RATES_SECONDS_MIN, max_age_s / bounds.RATES_ASKED_PER_AGE)
        self._every_s = min(often_s, bounds.RATES_SECONDS_MAX)
        self._backoff = Backoff(
            min_s=bounds.RATES_SECONDS_MIN,
            max_s=self._every_s,
            jitter=0.5,
        )
        self._failures = 0
        self._told_s: dict[tuple[Fault, str], float] = {}
        self._last_told_s: dict[Fault, float] = {}
        """When each fault was told last, whatever it was about."""
        self._was_fresh: bool | None = None
        self.prices: Prices | None = None
        """The last that were good, however old."""
        self.refused: dict[str, Fault] = {}
        """By currency: what the last answer had and was refused, or did not have."""
        self.counts: Counter[str] = Counter({"ok": 0})
        """Answers by result, `ok` or a fault."""
        self.prices_refused: Counter[str] = Counter()
        """Single prices that were refused, by fault."""
        self.error = ""
        """Of the last answer; empty: it was good."""

    @property
    def name(self) -> str:
        """Of the source, without credentials."""
        return self._source.name

    @property
    def fresh(self) -> bool:
        """Whether there are prices that are young enough to be used."""
        return self.prices is not None and self._clock.monotonic_s() < self.prices.until_s

    @property
    def age_s(self) -> float | None:
        """Of the prices in seconds; None: there are none."""
        if self.prices is None:
            return None
        return self._max_age_s - (self.prices.until_s - self._clock.monotonic_s())

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            await self.ask()
            if self._failures:
                wait_s = self._backoff.wait_s(self._failures, self._random)
            else:
                wait_s = self._every_s
            # Not beyond the end of what is in use, so that an end is told when it comes.
            until_s = wait_s
            if self.prices is not None and self._was_fresh:
                left_s = self.prices.until_s - self._clock.monotonic_s()
                until_s = min(wait_s, max(left_s, 0.0) + 0.001)
            await asyncio.sleep(until_s)
            self._look_at_age()
            await asyncio.sleep(wait_s - until_s)

    async def ask(self) -> None:
        """Ask the source once, and use what it says if it is good."""
        # The age counts from here: the answer cannot be older than the question.
        began_s, began_ms = self._clock.monotonic_s(), self._clock.now_ms()
        try:
            quote = await self._source.ask()
            age_s = self._age_s(quote, began_ms)
        except PricesError as error:
            self._failures += 1
            self.counts[error.fault.value] += 1
            self.error = f"{error.fault.value}: {error}"
            self._tell(error.fault, "", "rates_failed", detail=str(error))
            self._look_at_age()
            return
        self._failures = 0
        self.counts["ok"] += 1
        self.error = ""
        self.prices = Prices(quote.base, quote.by_code, began_s + self._max_age_s - age_s)
        self._rates.use(self.prices)
        self._note_refused(quote)
        self._look_at_age()

    def _age_s(self, quote: Quote, began_ms: int) -> float:
        if quote.at_ms is None:
            return 0.0
        ahead_ms = quote.at_ms - self._clock.now_ms()
        if ahead_ms > CLOCK_ERROR_MS:
            raise PricesError(Fault.FUTURE, "its timestamp is ahead of this node's clock")
        age_s = max(0, began_ms - quote.at_ms) / 1000
        if age_s >= self._max_age_s:
            raise PricesError(Fault.STALE, f"its prices are {age_s:.0f} s old")
        return age_s

    def _note_refused(self, quote: Quote) -> None:
        refused = dict(quote.refused)
        for code in self._wanted():
            if code not in quote.by_code:
                refused.setdefault(code, Fault.MISSING)
        self.refused = refused
        for fault in set(refused.values()):
            codes = sorted(code for code, why in refused.items() if why is fault)
            self.prices_refused[fault.value] += len(codes)
            shown = ",".join(codes[: bounds.RATES_SHOWN_MAX])
            self._tell(fault, shown, "rates_refused", currencies=shown, count=len(codes))

    def _look_at_age(self) -> None:
        """Tell once when rates begin or cease to be used."""
        fresh = self.fresh
        if fresh == self._was_fresh or (not fresh and self._was_fresh is None):
            return
        self._was_fresh = fresh
        if fresh:
            assert self.prices is not None
            self._told_s = {key: at_s for key, at_s in self._told_s.items() if key[1]}
            self._log.info("rates_in_use", source=self.name, currencies=len(self.prices.by_code))
        else:
            self._log.warning(
                "rates_too_old",
                source=self.name,
                detail="packets that need a live rate get T00 until there is a younger one",
            )

    def _tell(self, fault: Fault, about: str, event: str, **fields: Any) -> None:
        """Log a fault once, and once more after a while if it is still there."""
        now_s = self._clock.monotonic_s()
        key = (fault, about)
        last_s = self._told_s.get(key)
        if last_s is not None and now_s - last_s < bounds.RATES_TOLD_AGAIN_SECONDS:
            return
        # What it is about is for the source to choose, with each answer anew.
        if now_s - self._last_told_s.get(fault, -math.inf) < bounds.RATES_TOLD_SECONDS_MIN:
            return
        self._last_told_s[fault] = now_s
        if len(self._told_s) >= bounds.RATES_FAULTS_REMEMBERED_MAX:
            self._told_s.clear()
        self._told_s[key] = now_s
        self._log.warning(event, source=self.name, reason=fault.value, **fields)

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()


@functools.lru_cache(maxsize=1024)  # a few hundred currencies, shown again and again
def as_text(number: Fraction) -> str:
    """A price as an exact decimal text where there is one that is short, else as a fraction."""
    digits = number.denominator
    twos = fives = 0
    while digits % 2 == 0:
        digits, twos = digits // 2, twos + 1
    while digits % 5 == 0:
        digits, fives = digits // 5, fives + 1
    places = max(twos, fives)
    if digits != 1 or places > bounds.RATE_PLACES_SHOWN_MAX:
        return str(number)
    if not places:
        return str(number.numerator)
    whole = number.numerator * 10**places // number.denominator
    text = f"{abs(whole):0{places + 1}d}"
    return f"{'-' if whole < 0 else ''}{text[:-places]}.{text[-places:]}"
