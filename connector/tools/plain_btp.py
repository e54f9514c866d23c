"""One BTP connection on which anything can be said: for `ping`, `trace` and `conformance`.

Unlike the links of a node it has no rules of its own: no log-in unless asked for, no reconnecting, and
octets go out as they are given. What comes in is bounded, as from any stranger.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
)

from connector.base import limits
from connector.base.errors import DecodeError, EnvironmentFault, KeyRefusedError
from connector.base.words import words_of
from connector.btp.packet import (
    MESSAGE,
    REQUEST_ID_MAX,
    BtpError,
    BtpPacket,
    ContentType,
    Protocol,
    decode,
    encode,
)
from connector.ilp.packet import Answer, Fulfill, Reject
from connector.ilp.packet import decode as decode_ilp
from connector.ilp.packet import encode as encode_ilp_packet
from connector.tools import bounds
from connector.tools.knock import what_is_there

_MESSAGE_BYTES_MAX: Final = 4 * limits.BTP_MESSAGE_BYTES_MAX


_REFUSED: Final = "the log-in is refused: check --auth USER:TOKEN ({})"


class NoPeerError(EnvironmentFault):
    """There is no BTP peer at a URL."""


class ClosedByPeerError(Exception):
    """The other side has closed the connection."""


class PlainBtp:
    """See the module. Made by `connected`."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._waiting: dict[int, asyncio.Future[BtpPacket | BtpError]] = {}
        self._last_id = 0
        self._last_asked = 0
        self.closed: Final[asyncio.Future[str]] = asyncio.get_running_loop().create_future()
        """Why the other side has closed the connection, once it has."""
        self.unasked: Final[list[BtpPacket | BtpError]] = []
        """Answers to nothing that was asked, at most `PLAIN_BTP_UNASKED_MAX`."""
        self.unreadable = 0
        """Messages that were no BTP."""
        self.on_prepare: Callable[[bytes], bytes | BtpPacket | BtpError | None] = _refuse
        """Answers an ILP packet of the other side: with one, with any BTP packet, or not at all."""

    def new_id(self) -> int:
        """A request id that was not used on this connection."""
        self._last_id = (self._last_id + 1) & REQUEST_ID_MAX
        return self._last_id

    async def say(self, octets: bytes | str) -> None:
        """Send one WebSocket message.

        Raises:
            ClosedByPeerError: the connection is closed.
        """
        try:
            await self._websocket.send(octets)
        except ConnectionClosed as error:
            raise ClosedByPeerError(str(error)) from None

    async def ask(
        self, packet: BtpPacket | bytes, request_id: int, seconds_max: float
    ) -> BtpPacket | BtpError:
        """Send a request and wait for its answer.

        Raises:
            ClosedByPeerError: the connection was closed instead.
            TimeoutError: there is no answer in time.
        """
        answered: asyncio.Future[BtpPacket | BtpError] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answered
        try:
            await self.say(packet if isinstance(packet, bytes) else encode(packet))
            async with asyncio.timeout(seconds_max):
                await asyncio.wait((answered, self.closed), return_when=asyncio.FIRST_COMPLETED)
            if answered.done():
                return answered.result()
            raise ClosedByPeerError(self.closed.result())
        finally:
            self._waiting.pop(request_id, None)

    async def log_in(self, username: str | None, token: str, seconds_max: float) -> None:
        """Log in.

        Raises:
            NoPeerError: there is no answer.
            KeyRefusedError: it is refused.
        """
        request_id = self.new_id()
        try:
            answer = await self.ask(
                auth_packet(username, token, request_id), request_id, seconds_max
            )
        except ClosedByPeerError as error:
            raise KeyRefusedError(_REFUSED.format(error)) from None
        except TimeoutError:
            raise NoPeerError("the log-in is not answered") from None
        if isinstance(answer, BtpError):
            raise KeyRefusedError(_REFUSED.format(f"{answer.code} {answer.name}"))

    async def ask_ilp(
        self,
        ilp: bytes,
        seconds_max: float,
        others: tuple[Protocol, ...] = (),
    ) -> Answer | BtpError | None:
        """Send an ILP packet; the answer, or None where it holds no Fulfill or Reject.

        Raises:
            ClosedByPeerError, TimeoutError: see `ask`.
        """
        request_id = self.new_id()
        protocols = [Protocol("ilp", ContentType.OCTET_STREAM, ilp), *others]
        message = BtpPacket(kind=MESSAGE, request_id=request_id, protocols=protocols)
        answer = await self.ask(message, request_id, seconds_max)
        if isinstance(answer, BtpError):
            return answer
        held = next((one.data for one in answer.protocols if one.name == "ilp"), b"")
        try:
            said = decode_ilp(held)
        except DecodeError:
            return None
        return said if isinstance(said, Fulfill | Reject) else None

    async def answer_last(self, ilp: bytes) -> None:
        """Answer the last request of the other side, whatever was answered before.

        Raises:
            ClosedByPeerError: see `say`.
        """
        await self.say(_answer(self._last_asked, ilp))

    async def ping(self, seconds_max: float) -> None:
        """Send a WebSocket ping and wait for its pong.

        Raises:
            ClosedByPeerError, TimeoutError: see `ask`.
        """
        try:
            pong = await self._websocket.ping()
            async with asyncio.timeout(seconds_max):
                await pong
        except ConnectionClosed as error:
            raise ClosedByPeerError(str(error)) from None

    async def is_closed(self, seconds_max: float) -> bool:
        """Whether the other side closes within this time."""
        await asyncio.wait((self.closed,), timeout=seconds_max)
        return self.closed.done()

    async def read(self) -> None:
        """Take what comes in, until the connection ends."""
        try:
            async for message in self._websocket:
                await self._take(message)
            reason = self._websocket.close_reason or f"closed ({self._websocket.close_code})"
        except ConnectionClosed as error:
            reason = str(error)
        if not self.closed.done():
            self.closed.set_result(reason)

    async def _take(self, message: bytes | str) -> None:
        try:
            packet = decode(message if isinstance(message, bytes) else message.encode())
        except DecodeError:
            self.unreadable += 1
            return
        if packet.kind != MESSAGE:
            waiting = self._waiting.get(packet.request_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(packet)
            elif len(self.unasked) < bounds.PLAIN_BTP_UNASKED_MAX:
                self.unasked.append(packet)
            return
        self._last_asked = packet.request_id
        ilp = next((one.data for one in packet.protocols if one.name == "ilp"), None)
        said = None if ilp is None else self.on_prepare(ilp)
        if said is not None:
            await self.say(_answer(packet.request_id, said))


def _answer(request_id: int, said: bytes | BtpPacket | BtpError) -> bytes:
    if isinstance(said, bytes):
        protocols = [Protocol("ilp", ContentType.OCTET_STREAM, said)]
        said = BtpPacket(kind=1, request_id=request_id, protocols=protocols)
    said.request_id = request_id
    return encode(said)


def _refuse(_ilp: bytes) -> bytes:
    return encode_ilp_packet(Reject(code="F02", message="this is a client"))


def auth_packet(username: str | None, token: str | None, request_id: int) -> BtpPacket:
    """A log-in; None leaves the part out."""
    protocols = [Protocol("auth", ContentType.OCTET_STREAM, b"")]
    if username is not None:
        protocols.append(Protocol("auth_username", ContentType.TEXT, username.encode()))
    if token is not None:
        protocols.append(Protocol("auth_token", ContentType.TEXT, token.encode()))
    return BtpPacket(kind=MESSAGE, request_id=request_id, protocols=protocols)


@asynccontextmanager
async def connected(
    url: str, *, seconds_max: float, compression: str | None = None
) -> AsyncIterator[PlainBtp]:
    """Connect to the BTP listener at `url`, and read from it while the block runs.

    Args:
        url: ws:// or wss://, perhaps with `btp+` before it.
        seconds_max: to open the connection.
        compression: `deflate` to offer permessage-deflate.

    Raises:
        NoPeerError: there is none.
    """
    options: dict[str, Any] = {"proxy": None, "max_size": _MESSAGE_BYTES_MAX}
    try:
        websocket = await connect(
            url.removeprefix("btp+"),
            compression=compression,
            open_timeout=seconds_max,
            close_timeout=bounds.PLAIN_BTP_CLOSE_SECONDS_MAX,
            ping_interval=None,
            **options,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        said = await what_is_there(url) or f"{url} answers HTTP {status}: is it a BTP port?"
        raise NoPeerError(said) from None
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ssl.SSLError) as error:
        why = words_of(error) or "no answer"
        raise NoPeerError(await what_is_there(url) or f"cannot connect to {url}: {why}") from None
    btp = PlainBtp(websocket)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(btp.read())
        try:
            yield btp
        except Exception as error:  # noqa: BLE001 - raised below: the group would wrap it
            failure = error
        finally:
            await websocket.close()
            reading.cancel()
    if failure is not None:
        raise failure
