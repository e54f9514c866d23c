"""A proxy between two nodes that knows BTP: delays messages, loses some, and cuts the connection.

What is lost is either a Prepare, which the next hop has never seen then: who has sent it says R00 in the end. Or any packet, and
soon afterwards the connection, as it happens where a machine dies: nodes with packet ids send again what has no answer, and
nothing is lost at all. (A lost Fulfill on a connection that stays would leave both at odds, as RFC 22 allows.)
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

_ILP = b"\x03ilp\x00"
_PREPARE = 12
_BINARY = 2
_BREAKS_S = 0.02
DELAY_S = (0.02, 0.2)


class BtpProxy:
    """Listens on `port`, and connects each client with `target`, a port of this machine."""

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.port = 0
        self.prepares = 0
        self.lost = 0
        self.delayed = 0
        self.delay_share = 0.0
        """Of all messages."""
        self.loss_share = 0.0
        """Of messages."""
        self.breaks = False
        """Whether any message with a packet may be lost, and the connection with it; else Prepares only."""
        self.losses_max = 0
        self._target = target
        self._dice = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[BtpProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            there_in, there_out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_out}

        def hang_up() -> None:
            writer.transport.abort()
            there_out.transport.abort()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, there_out, hang_up))
                group.create_task(self._carry(there_in, writer, hang_up))
        finally:
            self._writers -= {writer, there_out}

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hang_up: Callable[[], None],
    ) -> None:
        """One direction: what opens the WebSocket as it is, then frame by frame."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            while True:
                opcode, octets, payload = await _frame(reader)
                if self._is_cut:
                    break
                message = payload if opcode == _BINARY else b""
                if self._loses(message):
                    if not self.breaks:
                        continue
                    # Nothing that follows arrives either: no connection has gaps.
                    await asyncio.sleep(_BREAKS_S)
                    hang_up()
                    return
                if message and self._dice.random() < self.delay_share:
                    # What follows waits, too: no connection changes the order.
                    self.delayed += 1
                    await asyncio.sleep(self._dice.uniform(*DELAY_S))
                writer.write(octets)
        hang_up() if self._is_cut else writer.close()

    def _loses(self, message: bytes) -> bool:
        is_packet = _is_packet(message)
        self.prepares += is_packet
        # A connection that is lost while it logs in is dialled again ever later: that is another test.
        may_be_lost = (self.breaks and _ILP in message) or is_packet
        if not may_be_lost or self.lost >= self.losses_max:
            return False
        is_lost = self._dice.random() < self.loss_share
        self.lost += is_lost
        return is_lost


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """The opcode of a frame, the frame, and its payload without the mask (RFC 6455, 5.2)."""
    head = await reader.readexactly(2)
    size, more = head[1] & 0x7F, b""
    if size >= 126:
        more = await reader.readexactly(2 if size == 126 else 8)
        size = int.from_bytes(more, "big")
    mask = await reader.readexactly(4) if head[1] & 0x80 else b""
    payload = await reader.readexactly(size)
    octets = head + more + mask + payload
    if mask:
        whole = int.from_bytes(payload, "big") ^ int.from_bytes(
            (mask * (size // 4 + 1))[:size], "big"
        )
        payload = whole.to_bytes(size, "big")
    return head[0] & 0x0F, octets, payload


def _is_packet(message: bytes) -> bool:
    """Whether a BTP message carries a Prepare that is no request between neighbours."""
    at = message.find(_ILP)
    if at < 0:
        return False
    at += len(_ILP)
    at += 1 + (message[at] & 0x7F if message[at] & 0x80 else 0)
    return (
        message[at] == _PREPARE
        and b"\x0bpeer.config" not in message
        and (b"peer.route." not in message)
    )
