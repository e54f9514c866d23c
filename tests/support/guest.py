"""A BTP peer under the control of a test: it sends any octets, and records all answers.

async with Guest.connect(port) as guest:
    assert await guest.log_in("alice", "secret") == WELCOME
    guest.send(MESSAGE, 7, encode(prepare))
    kind, request_id, ilp = await guest.ilp()
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from connector.btp.packet import (
    MESSAGE,
    RESPONSE,
    BtpError,
    BtpPacket,
    ContentType,
    Protocol,
    decode,
    encode,
    encode_ilp,
)
from connector.ilp.packet import Packet
from connector.ilp.packet import decode as decode_ilp
from connector.ilp.packet import encode as encode_packet
from tests.support.patience import PATIENCE_SECONDS

AUTH_ID = 1


class ClosedError(Exception):
    """The other side has closed: with this code (1006: without a word) and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def auth_packet(username: str | None, token: bytes | None, request_id: int = AUTH_ID) -> BtpPacket:
    """A log-in; None leaves the field out."""
    protocols = [Protocol("auth", ContentType.OCTET_STREAM, b"")]
    if username is not None:
        protocols.append(Protocol("auth_username", ContentType.TEXT, username.encode()))
    if token is not None:
        protocols.append(Protocol("auth_token", ContentType.TEXT, token))
    return BtpPacket(kind=MESSAGE, request_id=request_id, protocols=protocols)


class Guest:
    """One connection to a node's BTP listener, over which anything can be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.websocket: ClientProtocol | None = None
        self.response: Response | None = None
        self._frames: list[Frame] = []

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        port: int,
        *,
        path: str = "/",
        headers: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        websocket: bool = True,
    ) -> AsyncIterator[Guest]:
        """Connected, and through the websocket handshake unless `websocket` is false."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(
            sock=sock,
            ssl=tls,
            server_hostname="127.0.0.1" if tls is not None else None,
            limit=receive_buffer or 2**16,
        )
        guest = cls(reader, writer)
        try:
            if websocket:
                await guest.shake_hands(port, path, headers or {})
            yield guest
        finally:
            writer.transport.abort()

    async def shake_hands(self, port: int, path: str, headers: dict[str, str]) -> None:
        self.websocket = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{path}"))
        request = self.websocket.connect()
        for name, value in headers.items():
            request.headers[name] = value
        self.websocket.send_request(request)
        self.raw(b"".join(self.websocket.data_to_send()))
        while self.response is None:
            await self._read()

    # --- saying

    def raw(self, octets: bytes) -> None:
        self.writer.write(octets)

    def frame(
        self,
        data: bytes,
        opcode: Opcode = Opcode.BINARY,
        *,
        fin: bool = True,
        mask: bool = True,
    ) -> None:
        self.raw(Frame(opcode, data, fin).serialize(mask=mask))

    def btp(self, packet: BtpPacket | BtpError) -> None:
        self.frame(encode(packet))

    def send(
        self,
        kind: int,
        request_id: int,
        ilp: Packet | bytes,
        packet_id: int = 0,
        *,
        again: bool = False,
    ) -> None:
        """An ILP packet, or octets in the place of one."""
        octets = ilp if isinstance(ilp, bytes) else encode_packet(ilp)
        self.frame(encode_ilp(kind, request_id, octets, packet_id, again))

    async def log_in(
        self, username: str | None, token: str | None, *, with_ids: bool = False
    ) -> BtpPacket | BtpError:
        """The answer to a log-in; `with_ids`: that says it knows packet ids."""
        packet = auth_packet(username, None if token is None else token.encode())
        if with_ids:
            packet.protocols = [*packet.protocols, Protocol("packet-id", 0, b"")]
        self.btp(packet)
        return await self.heard()

    async def ask(self, request_id: int, ilp: Packet | bytes, **how: Any) -> Packet:
        """What an ILP packet is answered with; other requests meanwhile are an error."""
        self.send(MESSAGE, request_id, ilp, **how)
        kind, answered, answer = await self.ilp()
        assert (kind, answered) == (RESPONSE, request_id)
        return answer

    # --- hearing

    async def heard(self) -> BtpPacket | BtpError:
        """The next BTP packet.

        Raises:
            ClosedError: there is none.
        """
        return decode(bytes((await self.next_frame()).data))

    async def ilp(self) -> tuple[int, int, Packet]:
        """The next BTP packet's kind, request id and ILP packet."""
        packet = await self.heard()
        assert isinstance(packet, BtpPacket), packet
        return packet.kind, packet.request_id, decode_ilp(packet.protocols[0].data)

    async def next_frame(self) -> Frame:
        """The next binary frame; pings are answered, and requests about routes are left without an answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                while self._frames:
                    frame = self._frames.pop(0)
                    if frame.opcode is Opcode.BINARY and b"peer.route." not in bytes(frame.data):
                        return frame
                await self._read()

    async def closed(self) -> ClosedError:
        """Wait until the other side has closed, reading all that it says until then."""
        try:
            while True:
                await self.next_frame()
        except ClosedError as error:
            return error

    async def _read(self) -> None:
        try:
            octets = await self.reader.read(2**16)
        except ConnectionError:
            octets = b""
        websocket = self.websocket
        if not octets:
            said = websocket.close_rcvd if websocket is not None else None
            raise ClosedError(*((said.code, said.reason) if said is not None else (1006, "")))
        if websocket is None:
            return
        websocket.receive_data(octets)
        for event in websocket.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                self._frames.append(event)
        self.raw(b"".join(websocket.data_to_send()))
