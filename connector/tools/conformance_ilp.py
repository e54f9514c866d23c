"""Checks of ILP (RFC 27): packets, addresses, codes, peer protocols; and of what a peer forwards."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any, Final

from connector import oer
from connector.base.errors import DecodeError
from connector.btp.packet import RESPONSE, BtpError, BtpPacket
from connector.ilp import address, ildcp
from connector.ilp.packet import Fulfill, Prepare, Reject, decode_prepare, encode, write_time
from connector.tools import bounds
from connector.tools.conformance import (
    Checks,
    FailedError,
    Level,
    Said,
    SkippedError,
    Target,
    ask,
    code_of,
    in_words,
    require,
    still_answers,
    unreachable,
)
from connector.tools.plain_btp import PlainBtp

CHECKS: Final = Checks()
_PREPARE: Final = 12
_INTERNALS: Final = (
    "{",
    "buffer",
    "undefined",
    "exception",
    "traceback",
    "stack",
    "balance=",
    "account=",
)


def _raw(target: Target, *, destination: bytes = b"", time: bytes = b"", data: bytes = b"",
         more: bytes = b"", condition: bytes = b"") -> bytes:  # fmt: skip
    """A Prepare with fields that our own encoder would not write."""
    amount = (0).to_bytes(8, "big")
    expiry = time or write_time(target.clock.now_ms() + bounds.CONFORMANCE_EXPIRY_MS)
    to = destination or f"example.conformance.{secrets.token_hex(8)}".encode()
    body = (
        amount + expiry + (condition or secrets.token_bytes(32)) + oer.var_octets(to)
        + oer.var_octets(data) + more
    )  # fmt: skip
    return bytes((_PREPARE,)) + oer.var_octets(body)


def _is_invalid(said: Said) -> bool:
    """Whether a packet was refused as malformed: by ILP or by BTP."""
    if isinstance(said, BtpError):
        return said.code.startswith("F")
    return code_of(said) in ("F00", "F01")


@CHECKS("no-route", 4, rule="an address that nobody has: F02")
async def _no_route(target: Target) -> None:
    async with target.guest() as btp:
        said = await ask(btp, unreachable(target))
        require(code_of(said) == "F02", f"it answers {in_words(said)}")


@CHECKS("triggered-by", 28, rule="a Reject names the address of who made it")
async def _triggered_by(target: Target) -> None:
    async with target.guest() as btp:
        said = await ask(btp, unreachable(target))
        require(isinstance(said, Reject), f"it answers {in_words(said)}")
        assert isinstance(said, Reject)
        named = address.is_address(said.triggered_by)
        require(named, f"triggered-by is {said.triggered_by!r}, no ILP address")


@CHECKS("peer-prefix", 2, 55, rule="`peer.` is never forwarded: an unknown protocol is refused")
async def _peer_prefix(target: Target) -> None:
    async with target.guest() as btp:
        said = await ask(btp, target.prepare(f"peer.conformance{secrets.token_hex(4)}", amount=0))
        require(code_of(said).startswith("F"), f"it answers {in_words(said)}")


@CHECKS("bad-address", 1, rule="malformed addresses are refused for good, and the link goes on")
async def _bad_address(target: Target) -> None:
    async with target.guest() as btp:
        for bad in (b"g", b"example..x", b"example.x.", b".example.x", b"nowhere.x", b"example.\xc3\xbc",
                    b"example." + b"x" * 1020):  # fmt: skip
            said = await ask(btp, _raw(target, destination=bad))
            refused = code_of(said).startswith("F") or isinstance(said, BtpError)
            require(refused, f"{bad[:20]!r}: it answers {in_words(said)}")
        await still_answers(btp, target)


@CHECKS(
    "bad-time",
    41,
    rule="impossible expiries (month 13, 31 April, hour 24) are refused as malformed",
)
async def _bad_time(target: Target) -> None:
    year = write_time(target.clock.now_ms())[:4].decode()
    year = str(int(year) + 1)
    async with target.guest() as btp:
        for bad in (
            "1301120000000",
            "0431120000000",
            "0101240000000",
            "0101126000000",
            "01011200x0000",
        ):
            said = await ask(btp, _raw(target, time=f"{year}{bad}".encode()))
            require(_is_invalid(said), f"{year}{bad}: it answers {in_words(said)}")


@CHECKS(
    "not-ilp", 18, 26, rule="what is no ILP packet is refused as malformed, and the link goes on"
)
async def _not_ilp(target: Target) -> None:
    async with target.guest() as btp:
        fulfill = encode(Fulfill(fulfillment=bytes(32)))
        whole = _raw(target)
        for bad in (b"", b"\x00", b"\xff\x01\x00", fulfill, whole[:40], whole[:-3]):
            said = await ask(btp, bad)
            refused = _is_invalid(said) or said is None
            require(refused, f"{bad[:6].hex() or 'nothing'}: it answers {in_words(said)}")
        await still_answers(btp, target)


@CHECKS("large-data", 27, rule="more than 32767 octets of data are refused")
async def _large_data(target: Target) -> None:
    async with target.guest() as btp:
        said = await ask(btp, _raw(target, data=bytes(32_768)))
        require(_is_invalid(said), f"it answers {in_words(said)}")


@CHECKS("trailing-octets", 39, rule="octets after the known fields of a packet are ignored")
async def _trailing_octets(target: Target) -> None:
    async with target.guest() as btp:
        said = await ask(btp, _raw(target, more=b"extension"))
        require(code_of(said) == "F02", f"it answers {in_words(said)}, and F02 without them")


@CHECKS("ildcp", 43, 44, 45, rule="`peer.config`: a child is told its address, others are refused")
async def _ildcp(target: Target) -> None:
    async with target.guest() as btp:
        request = ildcp.request(target.clock.now_ms() + bounds.CONFORMANCE_EXPIRY_MS)
        said = await ask(btp, request)
        if isinstance(said, Fulfill):
            try:
                ildcp.read_answer(said)
            except DecodeError as error:
                raise FailedError(f"its answer cannot be read: {error}") from None
            return
        require(code_of(said)[:1] in ("F", "T"), f"it answers {in_words(said)}")


# --- with a next hop


class _NextHop:
    """The second account: notes what it is sent, and answers as it is told."""

    def __init__(self, btp: PlainBtp, answer: Callable[[Prepare], object]) -> None:
        self.seen: list[Prepare] = []
        self._answer = answer
        btp.on_prepare = self._take

    def _take(self, octets: bytes) -> bytes | BtpPacket | BtpError | None:
        try:
            prepare = decode_prepare(octets)
        except DecodeError:
            return encode(Reject(code="F01", message="unreadable"))
        if prepare.destination.startswith("peer."):
            return encode(Reject(code="F01", message="unknown peer protocol"))
        self.seen.append(prepare)
        said = self._answer(prepare)
        if isinstance(said, Fulfill | Reject | Prepare):
            return encode(said)
        assert said is None or isinstance(said, bytes | BtpPacket | BtpError), said
        return said


def _keyed(target: Target, **fields: Any) -> tuple[Prepare, Fulfill]:
    """A Prepare for the next hop, and the Fulfill that fits."""
    fulfillment = secrets.token_bytes(32)
    prepare = target.prepare(condition=hashlib.sha256(fulfillment).digest(), **fields)
    return prepare, Fulfill(fulfillment=fulfillment, data=secrets.token_bytes(8))


def _one(seen: list[Prepare]) -> Prepare:
    require(len(seen) == 1, f"{len(seen)} packets came to the next hop")
    return seen[0]


@CHECKS(
    "forward", 30, 33, 5, rule="condition and data pass unchanged both ways, the expiry is reduced"
)
async def _forward(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        prepare, fulfill = _keyed(target)
        next_hop = _NextHop(receiver, lambda _prepare: fulfill)
        said = await ask(sender, prepare)
        require(isinstance(said, Fulfill), f"it answers {in_words(said)}")
        assert isinstance(said, Fulfill)
        came = _one(next_hop.seen)
        for name in ("condition", "data", "destination"):
            require(getattr(came, name) == getattr(prepare, name), f"{name} was changed")
        require(came.expires_at_ms < prepare.expires_at_ms, "the expiry was not reduced")
        require(said.fulfillment == fulfill.fulfillment, "the fulfillment was changed")
        require(said.data == fulfill.data, "the data of the Fulfill were changed")


@CHECKS("zero-amount", 37, level=Level.USUAL, rule="a packet without an amount is forwarded")
async def _zero_amount(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        prepare, fulfill = _keyed(target, amount=0)
        next_hop = _NextHop(receiver, lambda _prepare: fulfill)
        said = await ask(sender, prepare)
        require(isinstance(said, Fulfill), f"it answers {in_words(said)}")
        require(_one(next_hop.seen).amount == 0, "it has an amount when it is forwarded")


@CHECKS(
    "whole-segments", 3, rule="routes match whole segments: `g.al` is not a prefix of `g.alice`"
)
async def _whole_segments(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        next_hop = _NextHop(receiver, lambda _prepare: Reject(code="F99"))
        destination = f"{target.next_address}x{secrets.token_hex(4)}"
        await ask(sender, target.prepare(destination, amount=0))
        require(not next_hop.seen, f"{destination} came to the next hop")


@CHECKS("relayed-reject", 30, rule="a Reject of the next hop is relayed as it is")
async def _relayed_reject(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        reject = Reject(
            code="F99", triggered_by=f"{target.next_address}.x", message="no", data=b"why"
        )
        _NextHop(receiver, lambda _prepare: reject)
        said = await ask(sender, target.prepare())
        require(isinstance(said, Reject), f"it answers {in_words(said)}")
        for name in ("code", "triggered_by", "message", "data"):
            require(getattr(said, name) == getattr(reject, name), f"{name} was changed")


@CHECKS("wrong-fulfillment", 11, 34, rule="a Fulfill that does not fit the condition: F05")
async def _wrong_fulfillment(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        _NextHop(receiver, lambda _prepare: Fulfill(fulfillment=bytes(32)))
        said = await ask(sender, target.prepare())
        require(code_of(said) == "F05", f"it answers {in_words(said)}")


@CHECKS(
    "no-answer",
    35,
    52,
    level=Level.SHOULD,
    rule="R00 at the expiry when the next hop is silent; the late answer is discarded",
)
async def _no_answer(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        prepare, fulfill = _keyed(target, expiry_ms=3_000)
        next_hop = _NextHop(receiver, lambda _prepare: None)
        said = await ask(sender, prepare, seconds_max=6.0)
        require(code_of(said) == "R00", f"it answers {in_words(said)}")
        _one(next_hop.seen)
        # Answered too late: nobody may hear of it, and nothing may break.
        await receiver.answer_last(encode(fulfill))
        await still_answers(sender, target)
        require(not sender.unasked, "the late answer was relayed")


@CHECKS(
    "expired", 52, rule="a packet that has expired is refused with an R code, and not forwarded"
)
async def _expired(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        next_hop = _NextHop(receiver, lambda _prepare: None)
        said = await ask(sender, target.prepare(expiry_ms=-1_000))
        require(code_of(said)[:1] == "R", f"it answers {in_words(said)}")
        require(not next_hop.seen, "it was forwarded")


@CHECKS("too-little-time", 6, rule="a packet that cannot be answered in time is not forwarded")
async def _too_little_time(target: Target) -> None:
    async with target.pair() as (sender, receiver):
        next_hop = _NextHop(receiver, lambda _prepare: None)
        said = await ask(sender, target.prepare(expiry_ms=300))
        require(code_of(said)[:1] == "R", f"it answers {in_words(said)}")
        require(not next_hop.seen, "it was forwarded")


async def _is_transient(target: Target, answer: object) -> None:
    """What the next hop does wrong is no final failure of the payment, and no text of our insides."""
    async with target.pair() as (sender, receiver):
        _NextHop(receiver, lambda _prepare: answer)
        said = await ask(sender, target.prepare())
        require(code_of(said).startswith("T"), f"it answers {in_words(said)}")
        assert isinstance(said, Reject)
        told = next((word for word in _INTERNALS if word in said.message.lower()), None)
        require(told is None, f"the message shows its insides: {said.message!r}")


@CHECKS("malformed-answer", 28, rule="an unreadable answer of the next hop: a T code, a clean text")
async def _malformed_answer(target: Target) -> None:
    await _is_transient(target, b"\x0d\x05abc")


@CHECKS(
    "prepare-answer", 26, rule="a Prepare as the answer of the next hop: a T code, a clean text"
)
async def _prepare_answer(target: Target) -> None:
    await _is_transient(target, target.prepare("example.x"))


@CHECKS("empty-answer", 19, rule="a Response without an ILP packet: a T code, a clean text")
async def _empty_answer(target: Target) -> None:
    await _is_transient(target, BtpPacket(kind=RESPONSE, request_id=0))


@CHECKS("error-answer", 20, 21, rule="a BTP Error of the next hop: a T code, a clean text")
async def _error_answer(target: Target) -> None:
    now_ms = target.clock.now_ms()
    error = BtpError(
        request_id=0, code="F00", name="NotAcceptedError", triggered_at_ms=now_ms, data=b"secret"
    )
    await _is_transient(target, error)


@CHECKS("next-hop-away", 25, rule="a next hop that is not connected: a T code")
async def _next_hop_away(target: Target) -> None:
    async with target.pair():
        pass
    async with target.guest() as sender:
        said = await ask(sender, target.prepare())
        require(code_of(said).startswith("T"), f"it answers {in_words(said)}")


@CHECKS(
    "paid-is-paid",
    32,
    48,
    rule="what the next hop has fulfilled is fulfilled to the sender; over the limit T04",
)
async def _paid_is_paid(target: Target) -> None:
    if target.next_limit is None:
        raise SkippedError("needs --next-limit, what the peer may come to owe the next hop")
    amount = target.next_limit // 2 + 1
    async with target.pair() as (sender, receiver):
        keys: dict[bytes, Fulfill] = {}
        next_hop = _NextHop(receiver, lambda prepare: keys[prepare.condition])
        for _ in range(3):
            prepare, fulfill = _keyed(target, amount=amount)
            keys[prepare.condition] = fulfill
            before = len(next_hop.seen)
            said = await ask(sender, prepare)
            if isinstance(said, Fulfill):
                continue
            paid = len(next_hop.seen) > before
            require(
                not paid, f"the next hop was promised {amount}, and has fulfilled: {in_words(said)}"
            )
            require(code_of(said) == "T04", f"over the limit it answers {in_words(said)}")
            return
    raise FailedError(f"three packets of {amount} pass a limit of {target.next_limit}")
