"""Live rates: what a source says is read exactly or refused, and never used for too long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base import limits
from connector.ilp.packet import Code, Reject
from connector.peering.model import Asset, PeerTerms
from connector.switch import bounds
from connector.switch.rates import (
    Fault,
    HttpPriceSource,
    LiveRates,
    PricesError,
    Quote,
    as_text,
    read_quote,
)
from connector.switch.terms import Amounts, Prices, Rates, amounts
from tests.support.ledgers import ManualClock
from tests.support.outside_http import FakeNetwork

USD, EUR = Asset("USD", 2), Asset("EUR", 4)
MAX_AGE_S = 60.0


def quoted(rates: Any, **fields: Any) -> bytes:
    return json.dumps({"base": "USD", "rates": rates, **fields}).encode()


class Source:
    """A source whose next answers the test decides."""

    name = "http://rates"

    def __init__(self) -> None:
        self.says: Quote | PricesError = Quote(
            base="USD", by_code={"USD": Fraction(1), "EUR": Fraction(1, 2)}
        )

    async def ask(self) -> Quote:
        if isinstance(self.says, PricesError):
            raise self.says
        return self.says

    async def close(self) -> None:
        """Nothing is open."""


class Lines:
    """A log that remembers its lines."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    warning = debug = error = info

    def told(self, event: str) -> int:
        return sum(name == event for name, _ in self.events)


class Setup:
    def __init__(self, *wanted: str, **options: Any) -> None:
        self.clock = ManualClock()
        self.source = Source()
        self.log = Lines()
        self.rates = Rates({}, monotonic_s=self.clock.monotonic_s, **options)
        self.live = LiveRates(
            source=self.source,
            rates=self.rates,
            clock=self.clock,
            log=self.log,
            max_age_s=MAX_AGE_S,
            wanted=lambda: wanted,
            random=lambda: 0.5,
        )


# --- reading


@pytest.mark.parametrize(
    ("said", "price"),
    [
        ('{"EUR": 0.92}', Fraction(23, 25)),
        ('{"EUR": "0.92"}', Fraction(23, 25)),
        ('{"EUR": 0.1}', Fraction(1, 10)),
        ('{"EUR": 92e-2}', Fraction(23, 25)),
        ('{"EUR": 12345678901234567890.000000000000000001}',
         Fraction(12345678901234567890 * 10**18 + 1, 10**18)),
    ],
)  # fmt: skip
def test_a_price_is_read_to_its_last_digit(said: str, price: Fraction) -> None:
    quote = read_quote(f'{{"base": "USD", "rates": {said}}}'.encode())
    assert quote.by_code == {"USD": 1, "EUR": price}
    assert quote.refused == {}


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("0", Fault.ZERO), ("0.000", Fault.ZERO), ('"-0"', Fault.ZERO), ("-0.92", Fault.NEGATIVE),
        ("NaN", Fault.NOT_A_NUMBER), ('"NaN"', Fault.NOT_A_NUMBER), ("Infinity", Fault.NOT_A_NUMBER),
        ("null", Fault.NOT_A_NUMBER), ("true", Fault.NOT_A_NUMBER), ("[1]", Fault.NOT_A_NUMBER),
        ('"1/3"', Fault.NOT_A_NUMBER), ('""', Fault.NOT_A_NUMBER), ("1e999", Fault.NOT_A_NUMBER),
        ('"' + "9" * 41 + '"', Fault.NOT_A_NUMBER),
        ("1e31", Fault.HUGE), ("1e-31", Fault.TINY),
    ],
)  # fmt: skip
def test_a_price_that_cannot_be_is_refused_alone(said: str, fault: Fault) -> None:
    quote = read_quote(f'{{"base": "USD", "rates": {{"EUR": {said}, "XRP": 2}}}}'.encode())
    assert quote.refused == {"EUR": fault}
    assert quote.by_code == {"USD": 1, "XRP": 2}


@pytest.mark.parametrize("said", ["1e30", "1e-30"])
def test_the_largest_and_the_smallest_price_are_taken(said: str) -> None:
    assert "EUR" in read_quote(f'{{"base": "USD", "rates": {{"EUR": {said}}}}}'.encode()).by_code


@pytest.mark.parametrize(
    "octets",
    [
        b"", b"\xff", b"[]", b"null", b"{}", b'"USD"',
        b'{"base": "USD"}', b'{"base": 1, "rates": {}}', b'{"base": "", "rates": {}}',
        b'{"base": "U S", "rates": {}}', b'{"base": "USD", "rates": []}',
        b'{"base": "USD", "rates": {"EUR": 1, "EUR": 2}}',
        b'{"base": "USD", "rates": {"USD": 2}}', b'{"base": "USD", "rates": {"USD": 0}}',
        b'{"base": "USD", "rates": {"E R": 2}}',
        b'{"base": "USD", "rates": {}, "timestamp": "soon"}',
        b'{"base": "USD", "rates": {}, "timestamp": -1}',
        b'{"base": "USD", "rates": {}, "timestamp": 1764239000000}',
        b'{"base": "USD", "rates": {}, "timestamp": 1e999}',
        b"[" * 100_000,
        quoted({f"C{number}": 1 for number in range(bounds.RATES_CURRENCIES_MAX + 1)}),
    ],
    ids=lambda octets: str(octets[:40]),
)  # fmt: skip
def test_an_answer_of_another_form_is_refused_as_a_whole(octets: bytes) -> None:
    with pytest.raises(PricesError) as refused:
        read_quote(octets)
    assert refused.value.fault is Fault.MALFORMED


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_octets_do_more_than_be_refused(octets: bytes) -> None:
    found: object
    try:
        found = read_quote(octets).base
    except PricesError as error:
        found = error.fault
    assert found


# --- the source


async def ask(
    handler: Callable[[httpx.Request], Any], *, seconds_max: float = 5.0
) -> Quote | PricesError:
    source = HttpPriceSource(
        "http://user:word@rates/v1?key=secret",
        seconds_max=seconds_max,
        transport=FakeNetwork(handler),
    )
    assert source.name == "http://rates"
    said: Quote | PricesError
    try:
        said = await source.ask()
    except PricesError as error:
        said = error
    await source.close()
    assert "secret" not in str(said)
    assert "word" not in str(said)
    return said


async def test_a_source_is_asked_over_http() -> None:
    said = await ask(lambda _request: httpx.Response(200, content=quoted({"EUR": 0.5})))
    assert isinstance(said, Quote)
    assert said.by_code["EUR"] == Fraction(1, 2)


async def test_a_long_answer_is_read_beside_the_event_loop() -> None:
    rates = {f"C{number}": number + 1 for number in range(9_000)}
    octets = quoted(rates, padding=" " * 70_000)
    said = await ask(lambda _request: httpx.Response(200, content=octets))
    assert isinstance(said, Quote)
    assert len(said.by_code) == 9_001


def _fail(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("http://user:word@rates/v1?key=secret is away")


async def _never(_request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (lambda _: httpx.Response(500), Fault.STATUS),
        (lambda _: httpx.Response(302, headers={"Location": "http://else"}), Fault.STATUS),
        (lambda _: httpx.Response(200, content=b"no"), Fault.MALFORMED),
        (lambda _: httpx.Response(200, content=b" " * (bounds.RATES_ANSWER_BYTES_MAX + 1)),
         Fault.MALFORMED),
        (_fail, Fault.UNREACHABLE),
        (_never, Fault.SLOW),
    ],
)  # fmt: skip
async def test_what_a_source_does_wrong_has_a_name(handler: Any, fault: Fault) -> None:
    said = await ask(handler, seconds_max=0.05 if fault is Fault.SLOW else 5.0)
    assert isinstance(said, PricesError)
    assert said.fault is fault


# --- their age


async def test_a_rate_is_used_until_it_has_reached_its_age_and_not_a_moment_longer() -> None:
    setup = Setup()
    assert setup.rates.ratio(USD, EUR) is None
    await setup.live.ask()
    assert setup.rates.ratio(USD, EUR) == (50, 1)
    assert setup.rates.ratio(EUR, USD) == (1, 50)
    setup.clock.advance(seconds=MAX_AGE_S - 0.001)
    assert setup.rates.ratio(USD, EUR) == (50, 1)
    setup.source.says = PricesError(Fault.SLOW, "no answer")
    await setup.live.ask()
    assert setup.live.fresh
    setup.clock.advance(seconds=0.001)
    assert setup.rates.ratio(USD, EUR) is None
    assert not setup.live.fresh
    refused = amounts(
        PeerTerms(peer_id="a", asset=USD),
        PeerTerms(peer_id="b", asset=EUR),
        100,
        setup.rates,
        "g.us",
    )
    assert isinstance(refused, Reject)
    assert refused.code == Code.T00_INTERNAL_ERROR.value


async def test_the_age_counts_from_the_timestamp_of_the_source() -> None:
    setup = Setup()
    quote = setup.source.says
    assert isinstance(quote, Quote)
    quote.at_ms = setup.clock.now_ms() - 59_000
    await setup.live.ask()
    assert setup.live.age_s == pytest.approx(59)
    assert setup.rates.ratio(USD, EUR) is not None
    setup.clock.advance(seconds=1)
    assert setup.rates.ratio(USD, EUR) is None
    await setup.live.ask()
    assert setup.live.counts == {"ok": 1, "stale": 1}
    assert setup.rates.ratio(USD, EUR) is None


async def test_a_timestamp_of_the_future_is_refused_beyond_what_clocks_differ() -> None:
    setup = Setup()
    quote = setup.source.says
    assert isinstance(quote, Quote)
    quote.at_ms = setup.clock.now_ms() + limits.CLOCK_ERROR_MS + 1
    await setup.live.ask()
    assert setup.live.counts["future"] == 1
    assert setup.live.prices is None
    quote.at_ms -= 1
    await setup.live.ask()
    assert setup.live.age_s == 0


async def test_new_prices_replace_all_former_ones() -> None:
    setup = Setup()
    await setup.live.ask()
    assert setup.rates.ratio(USD, EUR) == (50, 1)
    setup.source.says = Quote(base="XRP", by_code={"XRP": Fraction(1), "USD": Fraction(2)})
    await setup.live.ask()
    assert setup.rates.ratio(USD, EUR) is None
    assert setup.rates.ratio(Asset("XRP", 2), USD) == (2, 1)


async def test_a_static_rate_comes_before_a_live_one_and_has_no_age() -> None:
    rates = Rates({("USD", "EUR"): Fraction(2)}, monotonic_s=lambda: 99.0)
    rates.use(Prices("USD", {"USD": Fraction(1), "EUR": Fraction(1, 2)}, until_s=50.0))
    assert rates.ratio(USD, EUR) == (200, 1)
    assert rates.ratio(EUR, USD) is None
    assert rates.ratio(USD, Asset("USD", 3)) == (10, 1)


async def test_each_fault_is_counted_and_told_once_for_a_while() -> None:
    setup = Setup("USD", "GBP")
    quote = setup.source.says
    assert isinstance(quote, Quote)
    quote.refused["XRP"] = Fault.ZERO
    for _ in range(3):
        await setup.live.ask()
    assert setup.live.refused == {"XRP": Fault.ZERO, "GBP": Fault.MISSING}
    assert setup.live.prices_refused == {"zero": 3, "missing": 3}
    assert setup.log.told("rates_refused") == 2
    setup.source.says = PricesError(Fault.SLOW, "no answer")
    for _ in range(3):
        await setup.live.ask()
    assert setup.live.counts == {"ok": 3, "slow": 3}
    assert setup.log.told("rates_failed") == 1
    setup.clock.advance(seconds=bounds.RATES_TOLD_AGAIN_SECONDS)
    await setup.live.ask()
    assert setup.log.told("rates_failed") == 2
    assert setup.log.told("rates_too_old") == 1
    setup.source.says = quote
    await setup.live.ask()
    assert setup.log.told("rates_in_use") == 2


async def test_a_source_that_refuses_other_currencies_each_time_fills_no_log() -> None:
    setup = Setup("EUR")
    for number in range(400):
        setup.source.says = Quote(
            base="USD", by_code={"USD": Fraction(1), "EUR": Fraction(1)},
            refused={f"C{number}": Fault.ZERO, f"D{number}": Fault.HUGE},
        )  # fmt: skip
        await setup.live.ask()
        setup.clock.advance(0.25)
    lines = setup.log.told("rates_refused")
    assert lines == 2 * 100 / bounds.RATES_TOLD_SECONDS_MIN
    assert setup.live.prices_refused == {"zero": 400, "huge": 400}


async def test_it_asks_several_times_within_an_age(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        setup.clock.advance(seconds=seconds)
        if len(waits) == 8:
            raise asyncio.CancelledError

    monkeypatch.setattr("connector.switch.rates.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await setup.live.run()
    assert setup.live.counts["ok"] == 4
    assert sum(waits) == pytest.approx(MAX_AGE_S)


async def test_the_end_of_live_rates_is_told_when_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    began_s = setup.clock.monotonic_s()

    async def sleep(seconds: float) -> None:
        setup.source.says = PricesError(Fault.SLOW, "no answer")
        setup.clock.advance(seconds=seconds)
        if setup.log.told("rates_too_old"):
            raise asyncio.CancelledError

    monkeypatch.setattr("connector.switch.rates.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await setup.live.run()
    # One sleep more than that which ended with the age.
    assert MAX_AGE_S <= setup.clock.monotonic_s() - began_s < MAX_AGE_S + MAX_AGE_S / 2


# --- arithmetic

scales = st.integers(0, 255)
prices = st.fractions(min_value=Fraction(1, 10**30), max_value=10**30)
spreads = st.integers(0, 10_000)


@given(
    amount=st.integers(1, limits.AMOUNT_MAX), here=scales, there=scales, one=prices, other=prices,
    spread=spreads,
)  # fmt: skip
def test_conversion_is_exact_over_all_scales_and_rounded_against_the_sender(
    amount: int, here: int, there: int, one: Fraction, other: Fraction, spread: int
) -> None:
    rates = Rates({}, spread_basis_points=spread)
    rates.use(Prices("USD", {"USD": Fraction(1), "AAA": one, "BBB": other}, until_s=1.0))
    source = PeerTerms(peer_id="a", asset=Asset("AAA", here))
    target = PeerTerms(peer_id="b", asset=Asset("BBB", there))
    exact = (
        amount * other / one * Fraction(10_000 - spread, 10_000)
        * Fraction(10) ** there / Fraction(10) ** here
    )  # fmt: skip
    found = amounts(source, target, amount, rates, "g.us")
    whole = exact.numerator // exact.denominator
    if isinstance(found, Amounts):
        assert found.onward == whole > 0
    elif found.code == Code.R01_INSUFFICIENT_SOURCE_AMOUNT.value:
        assert whole == 0
    else:
        assert found.code == Code.F08_AMOUNT_TOO_LARGE.value
        assert whole > limits.AMOUNT_MAX


@pytest.mark.parametrize("spread", [0, 20, 10_000])
def test_the_spread_is_kept_of_static_rates_too_and_of_no_other_scale(spread: int) -> None:
    rates = Rates({("USD", "EUR"): Fraction(2)}, spread_basis_points=spread)
    found = rates.ratio(Asset("USD", 0), Asset("EUR", 0))
    assert found is not None
    assert Fraction(*found) == 2 * Fraction(10_000 - spread, 10_000)
    assert rates.ratio(Asset("USD", 0), Asset("USD", 1)) == (10, 1)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(23, 25), "0.92"), (Fraction(5), "5"), (Fraction(1, 3), "1/3"),
        (Fraction(-1, 8), "-0.125"), (Fraction(10**30), str(10**30)),
        (Fraction(1, 2**100), f"1/{2**100}"), (Fraction(1705, 100), "17.05"),
    ],
)  # fmt: skip
def test_a_price_is_shown_as_it_is(number: Fraction, text: str) -> None:
    assert as_text(number) == text
