"""Checks of BTP (RFC 23): log-in, framing, errors."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from connector.base.errors import KeyRefusedError
from connector.btp.packet import (
    ERROR,
    MESSAGE,
    RESPONSE,
    BtpError,
    BtpPacket,
    ContentType,
    Protocol,
    encode,
)
from connector.ilp.packet import Reject
from connector.ilp.packet import encode as encode_ilp
from connector.tools import bounds
from connector.tools.conformance import (
    Checks,
    FailedError,
    Level,
    Target,
    ask,
    in_words,
    require,
    still_answers,
    unreachable,
)
from connector.tools.plain_btp import ClosedByPeerError, NoPeerError, PlainBtp, auth_packet

CHECKS: Final = Checks()
_SECONDS: Final = bounds.CONFORMANCE_ANSWER_SECONDS_MAX
_SHORT_SECONDS: Final = 1.0
_ERROR_CODES: Final = frozenset(("T00", "F00", "F01", "F03", "F04", "F05", "F06", "F07", "F08"))


async def _refused(btp: PlainBtp, packet: BtpPacket) -> None:
    """The peer must answer with an Error and close."""
    try:
        answer = await btp.ask(packet, packet.request_id, _SECONDS)
    except ClosedByPeerError:
        raise FailedError("it closes without a BTP Error") from None
    except TimeoutError:
        raise FailedError("it does not answer") from None
    require(isinstance(answer, BtpError), "it accepts this as a log-in")
    require(await btp.is_closed(_SECONDS), "it answers with an Error, but does not close")


@CHECKS("log-in", 12, 16, rule="the right token is answered with a Response")
async def _log_in(target: Target) -> None:
    async with target.guest():
        pass


@CHECKS("first-packet", 12, 15, rule="anything before the log-in: Error, then close")
async def _first_packet(target: Target) -> None:
    async with target.stranger() as btp:
        protocols = [Protocol("ilp", ContentType.OCTET_STREAM, encode_ilp(unreachable(target)))]
        await _refused(btp, BtpPacket(kind=MESSAGE, request_id=7, protocols=protocols))


@CHECKS("wrong-token", 12, rule="a wrong token: Error, then close")
async def _wrong_token(target: Target) -> None:
    async with target.stranger() as btp:
        await _refused(btp, auth_packet(target.account.username, secrets.token_hex(16), 7))


@CHECKS("no-token", 12, rule="a log-in without auth_token: Error, then close")
async def _no_token(target: Target) -> None:
    async with target.stranger() as btp:
        await _refused(btp, auth_packet(target.account.username, None, 7))


@CHECKS("auth-first", 12, rule="`auth` that is not the primary protocol: Error, then close")
async def _auth_first(target: Target) -> None:
    async with target.stranger() as btp:
        packet = auth_packet(None, target.account.token, 7)
        packet.protocols = packet.protocols[::-1]
        await _refused(btp, packet)


@CHECKS("no-username", 13, level=Level.USUAL, rule="a log-in without auth_username is accepted")
async def _no_username(target: Target) -> None:
    async with target.stranger() as btp:
        try:
            await btp.log_in(None, target.account.token, _SECONDS)
        except (NoPeerError, KeyRefusedError) as error:
            raise FailedError(str(error)) from None


@CHECKS("log-in-time", 14, rule="a connection that does not log in is closed in a bounded time")
async def _log_in_time(target: Target) -> None:
    async with target.stranger() as btp:
        seconds = bounds.CONFORMANCE_LOGIN_SECONDS_MAX
        require(await btp.is_closed(seconds), f"it is still open after {seconds:g} s")


@CHECKS("early-ping", 24, level=Level.USUAL, rule="a WebSocket ping before the log-in is answered")
async def _early_ping(target: Target) -> None:
    async with target.stranger() as btp:
        try:
            await btp.ping(_SECONDS)
        except TimeoutError:
            raise FailedError("no pong") from None


@CHECKS("deflate", 24, level=Level.USUAL, rule="permessage-deflate is accepted or refused cleanly")
async def _deflate(target: Target) -> None:
    async with target.stranger("deflate") as btp:
        await btp.log_in(target.account.username, target.account.token, _SECONDS)
        await still_answers(btp, target)


@CHECKS("newer-link", 23, level=Level.USUAL, rule="a newer connection takes the place of the older")
async def _newer_link(target: Target) -> None:
    async with target.guest(), target.guest() as newer:
        await still_answers(newer, target)


@CHECKS("other-protocols", 17, rule="unknown protocols beside `ilp` are ignored")
async def _other_protocols(target: Target) -> None:
    async with target.guest() as btp:
        others = (Protocol("conformance", ContentType.JSON, b"{}"),)
        said = await ask(btp, unreachable(target), others=others)
        require(isinstance(said, Reject), f"it answers {in_words(said)}")


@CHECKS("unknown-primary", 17, rule="an unknown primary protocol: Error, and the link goes on")
async def _unknown_primary(target: Target) -> None:
    async with target.guest() as btp:
        request_id = btp.new_id()
        protocols = [Protocol("conformance", ContentType.OCTET_STREAM, b"")]
        packet = BtpPacket(kind=MESSAGE, request_id=request_id, protocols=protocols)
        answer = await btp.ask(packet, request_id, _SECONDS)
        require(answer.kind == ERROR, "it answers with a Response")
        await still_answers(btp, target)


@CHECKS("error-form", 21, rule="a BTP Error has a known code, a time, and at most 8192 octets")
async def _error_form(target: Target) -> None:
    async with target.stranger() as btp:
        packet = auth_packet(target.account.username, secrets.token_hex(16), 7)
        try:
            # An Error with a bad code or time cannot be decoded: then there is no answer.
            answer = await btp.ask(packet, 7, _SECONDS)
        except (ClosedByPeerError, TimeoutError):
            raise FailedError("there is no readable Error") from None
        require(isinstance(answer, BtpError), "there is no Error")
        assert isinstance(answer, BtpError)
        require(answer.code in _ERROR_CODES, f"its code is {answer.code}")
        require(len(answer.data) <= 8192, f"its data has {len(answer.data)} octets")


@CHECKS("unreadable", 18, rule="an unreadable BTP packet gets no answer")
async def _unreadable(target: Target) -> None:
    async with target.guest() as btp:
        await btp.say(b"\xff\x00\x00\x00\x07\xff")
        await btp.is_closed(_SHORT_SECONDS)  # closing is allowed
        require(not btp.unasked, "it is answered")


@CHECKS("unasked-response", 18, 25, rule="a Response that answers nothing is ignored")
async def _unasked_response(target: Target) -> None:
    async with target.guest() as btp:
        await btp.say(encode(BtpPacket(kind=RESPONSE, request_id=0xFFFF0001)))
        await still_answers(btp, target)
        require(not btp.unasked, "it is answered")


@CHECKS("ilp-response", 19, 22, rule="an ILP answer comes as primary protocol `ilp`, type 0")
async def _ilp_response(target: Target) -> None:
    async with target.guest() as btp:
        request_id = btp.new_id()
        octets = encode_ilp(unreachable(target))
        protocols = [Protocol("ilp", ContentType.OCTET_STREAM, octets)]
        packet = BtpPacket(kind=MESSAGE, request_id=request_id, protocols=protocols)
        answer = await btp.ask(packet, request_id, _SECONDS)
        require(answer.kind == RESPONSE and bool(answer.protocols), "it is no such Response")
        first = answer.protocols[0]
        require(first.name == "ilp", f"the primary protocol is {first.name!r}")
        require(first.content_type == 0, f"its content type is {first.content_type}")


@CHECKS("request-ids", 16, 51, rule="requests under way at a time are each answered under their id")
async def _request_ids(target: Target) -> None:
    async with target.guest() as btp:
        packets = [unreachable(target) for _ in range(bounds.CONFORMANCE_PIPELINED)]
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(btp, one)) for one in packets]
        require(all(isinstance(one.result(), Reject) for one in asked), "some are not answered")
        protocols = [Protocol("ilp", ContentType.OCTET_STREAM, encode_ilp(unreachable(target)))]
        highest = BtpPacket(kind=MESSAGE, request_id=0xFFFFFFFF, protocols=protocols)
        answer = await btp.ask(highest, 0xFFFFFFFF, _SECONDS)
        require(answer.kind == RESPONSE, "the highest id gets an Error")


@CHECKS("duplicate-names", 17, rule="two protocols of one name are an error")
async def _duplicate_names(target: Target) -> None:
    async with target.guest() as btp:
        names = ("conformance1", "conformance2")
        request_id = btp.new_id()
        octets = encode_ilp(unreachable(target))
        protocols = [Protocol("ilp", ContentType.OCTET_STREAM, octets)]
        protocols += [Protocol(name, ContentType.OCTET_STREAM, b"") for name in names]
        packet = encode(BtpPacket(kind=MESSAGE, request_id=request_id, protocols=protocols))
        # Our own encoder does not write it.
        packet = packet.replace(b"conformance2", b"conformance1")
        try:
            answer = await btp.ask(packet, request_id, _SHORT_SECONDS)
        except (ClosedByPeerError, TimeoutError):
            return  # taken as unreadable
        require(answer.kind == ERROR, "it is answered as if there were one")


@CHECKS(
    "large-message",
    8,
    level=Level.SHOULD,
    rule="a BTP message of 4 MiB is refused, and no harm done",
)
async def _large_message(target: Target) -> None:
    async with target.guest() as btp:
        data = bytes(bounds.CONFORMANCE_LARGE_BYTES)
        protocols = [Protocol("ilp", ContentType.OCTET_STREAM, data)]
        request_id = btp.new_id()
        packet = BtpPacket(kind=MESSAGE, request_id=request_id, protocols=protocols)
        try:
            answer = await btp.ask(packet, request_id, _SECONDS)
            ilp = [one.data[:1] for one in answer.protocols if one.name == "ilp"]
            require(answer.kind == ERROR or ilp == [b"\x0e"], "it is not refused")
        except (ClosedByPeerError, TimeoutError):
            pass  # closed, or left without an answer: bounded in either case
    async with target.guest() as again:
        await still_answers(again, target)
