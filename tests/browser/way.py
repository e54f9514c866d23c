"""A proxy between browser and daemon that can be slow, or forward nothing for a while."""

from __future__ import annotations

import asyncio
import socket
from typing import Self

READ_BYTES = 16_384
WINDOW_BYTES = 8_192
"""Little is under way on it: who sends soon notices that nobody reads."""


class Way:
    """Listens at a port of its own and carries everything to the one of a daemon, and back."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        """How much later everything from the daemon arrives."""
        self._to = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._carriers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def block(self) -> None:
        """Take nothing more from the daemon: what it sends piles up there."""
        self._is_open.clear()

    def unblock(self) -> None:
        self._is_open.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._carriers:
            task.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carriers.add(task)
        task.add_done_callback(self._carriers.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = socket.socket()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        there.setblocking(False)
        arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        try:
            await asyncio.get_running_loop().sock_connect(there, ("127.0.0.1", self._to))
            back, forth = await asyncio.open_connection(sock=there, limit=READ_BYTES)
            try:
                async with asyncio.TaskGroup() as group:
                    sending = group.create_task(self._send(reader, forth))
                    group.create_task(self._take(back, arrived))
                    await self._give(arrived, writer)
                    sending.cancel()
            finally:
                forth.close()
        except* OSError:
            pass  # one of the two has gone, and so does the other
        finally:
            there.close()
            writer.close()

    async def _send(self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
        while octets := await reader.read(READ_BYTES):
            forth.write(octets)
            await forth.drain()
        forth.close()

    async def _take(
        self, back: asyncio.StreamReader, arrived: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        octets = b"-"
        while octets:
            await self._is_open.wait()
            octets = await back.read(READ_BYTES)
            arrived.put_nowait((asyncio.get_running_loop().time(), octets))

    async def _give(
        self, arrived: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        """Until the daemon has ended its side."""
        loop = asyncio.get_running_loop()
        while True:
            at_s, octets = await arrived.get()
            while loop.time() < at_s + self.delay_s:
                await asyncio.sleep(0.02)
            if not octets:
                return
            writer.write(octets)
            await writer.drain()
