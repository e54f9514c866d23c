"""Connections to the node that send any octets, with a codec that is not the product's."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final, Self

from connector.simulation import octets
from connector.simulation.octets import BtpSeen, UnreadableError
from tests.hostile.target import Target

SECONDS_MAX: Final = 20.0
"""For a connection, a handshake or a log-in; attackers do not wait for ever either."""
GONE: Final = (OSError, EOFError, UnreadableError)
"""What an attacker gets to see when the node closes; deadlines and TLS are among OSError."""
_READ_BYTES: Final = 65_536


class ClosedError(OSError):
    """The node has closed the connection, or refused the log-in."""


@cache
def _trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def connect(
    port: int,
    source: str,
    *,
    tls: ssl.SSLContext | None = None,
    receive_bytes: int | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from the address `source`, all of 127/8 being ours.

    Args:
        port: of the node.
        source: own address.
        tls: None: plain.
        receive_bytes: of the system's buffer; small for who will not read.
    """
    one = socket.socket()
    try:
        if receive_bytes is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.bind((source, 0))
        one.setblocking(False)
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
            return await asyncio.open_connection(
                sock=one,
                ssl=tls,
                server_hostname="127.0.0.1" if tls is not None else None,
                limit=receive_bytes or _READ_BYTES,
            )
    except BaseException:
        one.close()
        raise


class Wire:
    """One connection to the node's BTP listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.answers_pings = True
        self._frames: deque[tuple[int, bytes]] = deque()
        self._rest = b""
        self._next = 1

    @classmethod
    async def open(
        cls,
        target: Target,
        source: str,
        *,
        tls: ssl.SSLContext | None = None,
        upgrade: bool = True,
        receive_bytes: int | None = None,
    ) -> Self:
        """Through the TLS handshake and, with `upgrade`, that of the WebSocket.

        Raises:
            OSError: the node refuses; see `GONE`.
        """
        context = _trusting_all() if tls is None else tls
        reader, writer = await connect(
            target.btp_port, source, tls=context, receive_bytes=receive_bytes
        )
        wire = cls(reader, writer)
        if upgrade:
            try:
                async with asyncio.timeout(SECONDS_MAX):
                    wire.raw(octets.upgrade_request("127.0.0.1"))
                    head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 101"):
                    raise ClosedError(head[:40])
            except BaseException:
                wire.abort()
                raise
        return wire

    def abort(self) -> None:
        """Close without a word."""
        self.writer.transport.abort()

    # --- saying

    def raw(self, sent: bytes) -> None:
        """Octets as they are."""
        self.writer.write(sent)

    def frame(self, payload: bytes, opcode: int = octets.BINARY) -> None:
        """A whole WebSocket frame."""
        self.raw(octets.frame(opcode, payload))

    def btp(self, kind: int, request_id: int, protocols: list[tuple[str, int, bytes]]) -> None:
        """A BTP packet."""
        self.frame(octets.btp(kind, request_id, protocols))

    def request(self, ilp: bytes, packet_id: bytes = b"", *, again: bool = False) -> int:
        """An ILP packet in a Message; its request id."""
        self._next += 1
        self.frame(octets.btp_ilp(octets.MESSAGE, self._next, ilp, packet_id, again))
        return self._next

    def answer(self, request_id: int, ilp: bytes) -> None:
        """An ILP packet in a Response."""
        self.frame(octets.btp_ilp(octets.RESPONSE, request_id, ilp))

    async def log_in(self, user: str, token: str, *, ids: bool = False) -> None:
        """As a peer; `ids`: one that knows packet ids.

        Raises:
            OSError: the node refuses.
        """
        protocols = [
            ("auth", 0, b""),
            ("auth_username", 1, user.encode()),
            ("auth_token", 1, token.encode()),
        ]
        if ids:
            protocols.append(("packet-id", 0, b""))
        self.btp(octets.MESSAGE, 1, protocols)
        async with asyncio.timeout(SECONDS_MAX):
            async for seen in self.heard():
                if seen.kind != octets.RESPONSE:
                    raise ClosedError(f"log-in refused: {seen.code}")
                return
        raise ClosedError("closed before the log-in was answered")

    # --- hearing

    async def heard(self) -> AsyncIterator[BtpSeen]:
        """All BTP packets until the node closes; pings are answered."""
        while True:
            while self._frames:
                opcode, payload = self._frames.popleft()
                if opcode == octets.BINARY:
                    yield octets.read_btp(payload)
                elif opcode == octets.PING and self.answers_pings:
                    self.frame(payload, octets.PONG)
                elif opcode == octets.CLOSE:
                    return
            read = await self.reader.read(_READ_BYTES)
            if not read:
                return
            frames, self._rest = octets.read_frames(self._rest + read)
            self._frames.extend(frames)


@asynccontextmanager
async def opened(target: Target, source: str, **how: bool | int) -> AsyncIterator[Wire]:
    """A connection for as long as the block runs."""
    wire = await Wire.open(target, source, **how)  # type: ignore[arg-type]
    try:
        yield wire
    finally:
        wire.abort()


@asynccontextmanager
async def logged_in(
    target: Target, source: str, peer_id: str, token: str, *, ids: bool = False
) -> AsyncIterator[Wire]:
    """A peer for as long as the block runs."""
    async with opened(target, source) as wire:
        await wire.log_in(peer_id, token, ids=ids)
        yield wire
