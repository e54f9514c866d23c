"""What is offered to the next hop: amount and expiry. Integers only, rounded against the sender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final

from connector.base import limits
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, amount_too_large_data, reject
from connector.peering.model import Asset, Peer, PeerTerms
from connector.stream.connection import Arrival, Connection

BASIS_POINTS: Final = 10_000
_USUAL_MAX: Final = (1 << 60) - 1
"""Amounts beyond it are compared with the highest one, which costs a call."""


class Amounts:
    """The division of an incoming amount."""

    __slots__ = ("fee", "onward")

    def __init__(self, fee: int, onward: int) -> None:
        self.fee = fee
        """Kept, in the incoming asset."""
        self.onward = onward
        """Offered to the next hop, in its asset."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amounts) and (self.fee, self.onward) == (other.fee, other.onward)

    def __hash__(self) -> int:
        return hash((self.fee, self.onward))

    def __repr__(self) -> str:
        return f"Amounts(fee={self.fee}, onward={self.onward})"


class Offer:
    """What is offered to the next hop or to this node's receiver for a Prepare."""

    __slots__ = (
        "amount", "arrival", "deadline_ms", "fee", "hop_id", "key", "known", "lap_ms", "mark_ms",
        "next_hop", "paid", "payee", "prepare", "source",
    )  # fmt: skip

    def __init__(
        self,
        source: Peer,
        prepare: Prepare,
        next_hop: Peer | None,
        payee: PeerTerms,
        amount: int,
        fee: int,
        deadline_ms: int,
        known: Fulfill | None = None,
    ) -> None:
        self.source = source
        self.prepare = prepare
        """As received."""
        self.next_hop = next_hop
        """None: the packet is for this node."""
        self.payee = payee
        """The terms of the account that is credited."""
        self.hop_id: str = payee.peer_id
        self.amount = amount
        """In the payee's asset."""
        self.fee = fee
        """In the sender's asset."""
        self.deadline_ms = deadline_ms
        """The expiry for the next hop, in milliseconds since the epoch."""
        self.known = known
        """The Fulfill of a packet that this node answers itself; see `Switch.answers_itself`."""
        self.arrival: Arrival | None = None
        """A packet of a payment to a wallet here: fulfilled once its money is held."""
        self.paid: Connection | None = None
        """The payment to a wallet here that the packet is counted in when it is posted."""
        self.key: tuple[bytes, str, bytes] | None = None
        """Condition, destination and data, where `loops` has asked for it."""
        self.lap_ms = 0
        """See `loops.lap_ms`; zero: it is no copy."""
        self.mark_ms = 0
        """By how much more than by terms `deadline_ms` is shortened; see `loops.mark_ms`."""


class Prices:
    """Live prices of currencies, in units for one unit of a common base, and how long they hold."""

    __slots__ = ("base", "by_code", "until_s")

    def __init__(self, base: str, by_code: Mapping[str, Fraction], until_s: float) -> None:
        self.base = base
        self.by_code = dict(by_code)
        """Units of the currency for one unit of the base, above zero; the base itself is 1."""
        self.until_s = until_s
        """By the monotonic clock: from then on they are too old to be used."""


class Rates:
    """Exchange rates between currencies: a static table (`RATES`), and live prices for the rest.

    Exact: a rate is a fraction, whatever the scales (0 to 255).
    """

    def __init__(
        self,
        rates: Mapping[tuple[str, str], Fraction],
        *,
        spread_basis_points: int = 0,
        monotonic_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Without live prices until `use` is called.

        Args:
            rates: `rates[a, b]`: units of currency b for one unit of currency a.
            spread_basis_points: kept of what is exchanged between two currencies; 0 to 10000.
            monotonic_s: never goes back; read only for pairs that have a live price.
        """
        self._rates = dict(rates)
        self._kept_back = Fraction(BASIS_POINTS - spread_basis_points, BASIS_POINTS)
        self._monotonic_s = monotonic_s
        self._ratios: dict[tuple[Asset, Asset], tuple[int, int] | None] = {}
        self._prices: Prices | None = None
        self._live_ratios: dict[tuple[Asset, Asset], tuple[int, int] | None] = {}

    def use(self, prices: Prices) -> None:
        """Use these live prices from now on, instead of all earlier ones."""
        self._prices = prices
        self._live_ratios.clear()

    def ratio(self, source: Asset, target: Asset) -> tuple[int, int] | None:
        """Numerator and denominator from units of `source` to units of `target`.

        None if there is no rate, or only one that is too old. The same currency in two scales needs
        none.
        """
        key = (source, target)
        if key not in self._ratios:
            self._ratios[key] = self._ratio(source, target, self._static(source.code, target.code))
        ratio = self._ratios[key]
        if ratio is not None or self._prices is None:
            return ratio
        prices = self._prices
        if self._monotonic_s() >= prices.until_s:
            return None
        if key not in self._live_ratios:
            here, there = prices.by_code.get(source.code), prices.by_code.get(target.code)
            rate = None if here is None or there is None else there / here * self._kept_back
            self._live_ratios[key] = self._ratio(source, target, rate)
        return self._live_ratios[key]

    def known(self, source: Asset, target: Asset) -> Fraction | None:
        """Units of `target` for one of `source`; None: no rate, or only one that is too old.

        For assets that others have named: unlike `ratio` it remembers nothing.
        """
        rate = self._static(source.code, target.code)
        prices = self._prices
        if rate is None and prices is not None and self._monotonic_s() < prices.until_s:
            here, there = prices.by_code.get(source.code), prices.by_code.get(target.code)
            if here is not None and there is not None:
                rate = there / here * self._kept_back
        ratio = self._ratio(source, target, rate)
        return None if ratio is None else Fraction(*ratio)

    def _static(self, source: str, target: str) -> Fraction | None:
        if source == target:
            return Fraction(1)
        rate = self._rates.get((source, target))
        return None if rate is None else rate * self._kept_back

    def _ratio(self, source: Asset, target: Asset, rate: Fraction | None) -> tuple[int, int] | None:
        if rate is None:
            return None
        rate = rate * Fraction(10) ** target.scale / Fraction(10) ** source.scale
        return rate.numerator, rate.denominator


def amounts(
    source: PeerTerms, next_hop: PeerTerms, amount: int, rates: Rates, own_address: str
) -> Amounts | Reject:
    """Divide `amount`: the fee rounded up, the onward amount rounded down (RFC 27).

    Zero stays zero and passes: STREAM probes rates with it.
    """
    if amount == 0:
        return Amounts(0, 0)
    basis_points = source.fee_basis_points
    fee = -(-amount * basis_points // BASIS_POINTS) if basis_points else 0
    rest = amount - fee
    assert 0 <= fee <= amount, (fee, amount)
    here, there = source.asset, next_hop.asset
    # Not `==`: that of a dataclass is a call into the interpreter.
    if here.scale == there.scale and here.code == there.code:
        onward, numerator, denominator = rest, 1, 1
    else:
        ratio = rates.ratio(source.asset, next_hop.asset)
        if ratio is None:
            return reject(Code.T00_INTERNAL_ERROR, own_address, "no exchange rate")
        numerator, denominator = ratio
        onward = rest * numerator // denominator
    # What may be held at a time, or sent in a time, for the next hop bounds each packet for it.
    held_max, sent_max = next_hop.max_in_flight_value, next_hop.throughput_out
    onward_max = _USUAL_MAX if held_max is None else held_max
    if sent_max is not None and (held_max is None or sent_max < onward_max):
        onward_max = sent_max
    if onward > onward_max and held_max is None and sent_max is None:
        onward_max = limits.AMOUNT_MAX
    if onward > onward_max:
        amount_max = min(onward_max * denominator // numerator, limits.AMOUNT_MAX)
        return reject(
            Code.F08_AMOUNT_TOO_LARGE,
            own_address,
            "packet amount too large",
            amount_too_large_data(amount, amount_max),
        )
    if onward == 0:
        return reject(
            Code.R01_INSUFFICIENT_SOURCE_AMOUNT, own_address, "nothing is left to forward"
        )
    assert 0 < onward <= onward_max, (onward, onward_max)
    return Amounts(fee, onward)


def answer_by_ms(expires_at_ms: int, now_ms: int, window_ms: int, hold_ms_max: int) -> int:
    """The expiry for the next hop: `window_ms` earlier, and capped (RFC 18, RFC 27)."""
    return min(expires_at_ms, now_ms + hold_ms_max) - window_ms


def onward_expiry_ms(
    expires_at_ms: int, now_ms: int, window_ms: int, hold_ms_max: int, own_address: str
) -> int | Reject:
    """`answer_by_ms` of a new packet.

    At least one window must remain, or the next hop could not forward the packet.
    """
    onward = answer_by_ms(expires_at_ms, now_ms, window_ms, hold_ms_max)
    if onward - now_ms < window_ms:
        return reject(Code.R02_INSUFFICIENT_TIMEOUT, own_address, "not enough time left to forward")
    # The next hop has to answer before our own sender stops waiting.
    assert onward < expires_at_ms, (onward, expires_at_ms)
    return onward


def is_metered(offer: Offer) -> bool:
    """Whether a limit of value per time concerns a packet: the sender's, or the next hop's."""
    if offer.source.terms.throughput_in is not None:
        return True
    return offer.next_hop is not None and offer.next_hop.terms.throughput_out is not None


def meter(offer: Offer, now_ms: int, own_address: str) -> Reject | None:
    """Take a packet's share of the limits of value per time; a Reject if one is used up.

    Once for each packet: a resent one has taken it before.
    """
    source, next_hop = offer.source, offer.next_hop
    here, amount = source.terms, offer.prepare.amount
    limit = here.throughput_in
    if limit is not None and not source.throughput_in.take(
        amount, limit, here.throughput_window_ms, now_ms
    ):
        return reject(
            Code.T04_INSUFFICIENT_LIQUIDITY, own_address, "too much value of yours for now"
        )
    if next_hop is None:
        return None
    there = next_hop.terms
    limit = there.throughput_out
    if limit is None or next_hop.throughput_out.take(
        here.peer_id, offer.amount, limit, there.throughput_window_ms, now_ms
    ):
        return None
    if here.throughput_in is not None:
        source.throughput_in.give_back(
            amount, here.throughput_in, here.throughput_window_ms, now_ms, now_ms
        )
    return reject(
        Code.T04_INSUFFICIENT_LIQUIDITY, own_address, "too much value for the next hop for now"
    )


def give_back(offer: Offer, taken_ms: int, now_ms: int) -> None:
    """A packet was rejected: give back the share that it took at `taken_ms`, less what has leaked."""
    source, next_hop = offer.source, offer.next_hop
    here = source.terms
    if here.throughput_in is not None:
        source.throughput_in.give_back(
            offer.prepare.amount, here.throughput_in, here.throughput_window_ms, taken_ms, now_ms
        )
    if next_hop is not None and next_hop.terms.throughput_out is not None:
        there = next_hop.terms
        assert there.throughput_out is not None
        next_hop.throughput_out.give_back(
            here.peer_id,
            offer.amount,
            there.throughput_out,
            there.throughput_window_ms,
            taken_ms,
            now_ms,
        )
