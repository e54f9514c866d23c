"""Attacks at the HTTP port, without a key or with one that only reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Final

from connector.simulation import octets
from tests.hostile.attack import PAUSE_SECONDS, Attack, together
from tests.hostile.strangers import Held
from tests.hostile.target import ADMIN_KEY, READ_KEY, SENDER
from tests.hostile.wire import GONE, SECONDS_MAX, connect

READER: Final = f"Authorization: Bearer {READ_KEY}\r\n"
_READ_BYTES: Final = 65_536


def request(
    path: str, headers: str = "", *, method: str = "GET", body: bytes = b"", close: bool = True
) -> bytes:
    """A request of HTTP."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    closing = "Connection: close\r\n" if close else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}{length}{closing}\r\n"
    return head.encode("latin-1", "replace") + body


class Visitor(Attack):
    """Asks by HTTP."""

    @property
    def port(self) -> int:
        """Where it asks: the page and the API, unless it says otherwise."""
        return self.target.http_port

    async def ask(self, sent: bytes, which: int = 1) -> int:
        """The status of the answer, which is read to its end; 0: none."""
        try:
            reader, writer = await connect(self.port, self.source(which))
        except GONE:
            self.done["refused"] += 1
            return 0
        first = b""
        try:
            writer.write(sent)
            async with asyncio.timeout(SECONDS_MAX):
                while read := await reader.read(_READ_BYTES):
                    first = first or read[:20]
        except GONE:
            pass
        finally:
            writer.transport.abort()
        words = first.split()
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        self.done[f"answered {status}" if status else "closed by the node"] += 1
        if status == 500:
            self.find(f"answered 500: {sent[:80]!r}")
        return status


class IdleVisitors(Visitor):
    """Connections over which nothing is ever asked."""

    name = "http-idle"
    rate = "10 connections from 3 addresses, 400 held"

    async def run(self) -> None:
        held = Held(400)
        async for count in self.ticks(10):
            with contextlib.suppress(*GONE):
                _, writer = await connect(self.target.http_port, self.source(1 + count % 3))
                held.add(writer.transport.abort)
                self.done["connections"] += 1


class SlowVisitors(Visitor):
    """Headers and bodies an octet a second, and answers that nobody reads."""

    name = "http-slow"
    rate = "20 slow requests at a time, 2 unread answers, 60 held"

    async def run(self) -> None:
        await together(*(self.keep(self._slowly) for _ in range(20)), self._unread())

    async def _slowly(self) -> None:
        body = b'{"key": "' + b"k" * 60 + b'"}'
        sent = request("/login", "Content-Type: application/json\r\n", method="POST", body=body)
        at_once = self.chance.choice((0, 40, len(sent) - len(body)))
        _, writer = await connect(self.target.http_port, self.source(self.chance.randint(1, 4)))
        self.done["connections"] += 1
        try:
            writer.write(sent[:at_once])
            for octet in sent[at_once:]:
                if writer.transport.is_closing():
                    return
                writer.write(bytes((octet,)))
                await asyncio.sleep(1)
        finally:
            writer.transport.abort()

    async def _unread(self) -> None:
        held = Held(60)
        paths = ("/api/events?limit=1000", "/api/accounts", "/metrics", "/api/openapi.json")
        async for count in self.ticks(2):
            with contextlib.suppress(*GONE):
                _, writer = await connect(
                    self.target.http_port, self.source(5 + count % 3), receive_bytes=2048
                )
                writer.write(request(paths[count % len(paths)], READER))
                held.add(writer.transport.abort)
                self.done["answers unread"] += 1


class Cookies(Visitor):
    """Cookie headers that are dear to parse, and headers without end."""

    name = "http-cookies"
    rate = "3 requests of up to 64 KB"

    async def run(self) -> None:
        async def one(_: int) -> None:
            cookie = self.chance.choice(
                (
                    'connector-hub="' + '\\"' * 7000 + '"',
                    'connector-hub="' + '\\"' * 30_000 + '"',
                    "; ".join(f"a{number}=b" for number in range(1500)),
                    "connector-hub=" + "=" * 15_000,
                    'x="' * 5000,
                    "connector-hub=" + "ab" * 32,
                )
            )
            await self.ask(request("/api/status", f"Cookie: {cookie}\r\n"))

        await self.each(3, one)


class OddRequests(Visitor):
    """Requests that break HTTP, JSON or the limits of the API."""

    name = "http-odd"
    rate = "8 requests"

    async def run(self) -> None:
        as_json = "Content-Type: application/json\r\n"
        operator = f"{as_json}Authorization: Bearer {ADMIN_KEY}\r\n"
        deep = b"[" * 50_000
        odd = (
            b"\x00" * 100,
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
            b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
            b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
            b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
            b"POST /api/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345x",
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            request("/login", as_json, method="POST", body=deep),
            request("/login", as_json, method="POST", body=b'{"key": ' + b"9" * 9000 + b"}"),
            request("/login", as_json, method="POST", body=b" " * 200_000),
            request("/api/status", "X-Forwarded-For: " + "1.2.3.4, " * 1000 + "\r\n"),
            request("/api/status", "Host: evil.example\r\n"),
            request("/api/../../etc/passwd"),
            request("/%00%ff%2e%2e/x"),
            request("/api/packets/" + "z" * 5000, READER),
            request("/api/events?limit=-1&from=9999-99-99&cursor=%00", READER),
            request("/api/events?peer=" + "p" * 8000, READER),
            request("/api/accounts/alice/history?points=1000&from=0&to=99999999999999", READER),
            request("/api/routes/explain?destination=" + "g." * 3000, READER),
            request("/admin/peers", READER + as_json, method="POST", body=b"{}"),
            # The page of an operator whose browser was led astray: right key, odd bodies.
            request("/admin/packets", operator, method="POST", body=deep),
            request("/admin/packets", operator, method="POST", body=b'{"destination": "\\ud800"}'),
            request("/admin/peers", operator, method="POST", body=b'{"id": "' + b"x" * 900_000),
            request("/", "Origin: https://evil.example\r\n", method="POST"),
            request("/ws", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
        await self.each(8, lambda _: self.ask(self.chance.choice(odd), self.chance.randint(1, 5)))


class WrongKeys(Visitor):
    """Keys that are guessed, from an address whose operator has the right one."""

    name = "wrong-keys"
    rate = "5 wrong keys and 0.1 right ones, from one address"

    async def run(self) -> None:
        login = "Content-Type: application/json\r\n"

        async def one(count: int) -> None:
            if count % 50 == 49:
                right = f"Authorization: Bearer {ADMIN_KEY}\r\n"
                status = await self.ask(request("/admin/peers", right))
                if status not in (0, 200):
                    self.find(f"the right key was answered {status}")
                return
            key = f"guess-{count:032d}"
            wrong = self.chance.choice(
                (
                    request("/admin/peers", f"Authorization: Bearer {key}\r\n"),
                    request("/admin/peers", f"Authorization: Basic {'é' * 30}\r\n"),
                    request("/metrics", f"Authorization: Bearer {key}\r\n"),
                    request("/login", login, method="POST", body=json.dumps({"key": key}).encode()),
                    request("/settlement/accounts/alice/settlements", method="POST", body=b"{}"),
                )
            )
            # Where no key shows balances, /metrics is open and a key of no account.
            if await self.ask(wrong) in (200, 201) and b"/metrics" not in wrong:
                self.find(f"a wrong key was taken: {wrong[:60]!r}")

        await self.each(5, one)


class Readers(Visitor):
    """Everything that may be read, again and again; what is dear as often as what is not."""

    name = "http-readers"
    rate = "4 requests, 1 of them searches of events and past balances"

    async def run(self) -> None:
        await together(self._cheap(), self._dear())

    async def _cheap(self) -> None:
        paths = ("/health", "/health/ready", "/metrics", "/api/peers", "/api/accounts", "/api/keys")

        async def one(count: int) -> None:
            path = paths[count % len(paths)]
            status = await self.ask(request(path, READER), 1 + count % 3)
            if status not in (0, 200):
                self.find(f"{path} was answered {status}")

        await self.each(3, one)

    async def _dear(self) -> None:
        paths = (
            "/api/events?limit=1000",
            f"/api/events?limit=1000&peer={SENDER}&type=PACKET_REJECTED",
            "/api/events?limit=1000&from=2020-01-01&to=2020-01-02",
            f"/api/accounts/{SENDER}/history?points=1000",
            "/api/events?type=ADMIN_ACTION&limit=1000&peer=nobody",
        )
        await self.each(
            1, lambda count: self.ask(request(paths[count % len(paths)], READER), 1 + count % 3)
        )


class Viewers(Visitor):
    """Live feeds: some that are read, some that never are, and some that come and go or speak."""

    name = "viewers"
    rate = "6 feeds read, 12 never read, 1 that comes and goes or speaks"

    async def run(self) -> None:
        await together(
            *(self.keep(self._reads) for _ in range(6)),
            *(self.keep(self._never_reads) for _ in range(12)),
            self._come_and_go(),
        )

    async def _feed(
        self, which: int, receive_bytes: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await connect(
            self.target.http_port, self.source(which), receive_bytes=receive_bytes
        )
        upgrade = octets.upgrade_request("127.0.0.1").replace(b"GET /", b"GET /ws")
        writer.write(upgrade[:-2] + READER.encode() + b"\r\n")
        self.done["feeds"] += 1
        return reader, writer

    async def _reads(self) -> None:
        reader, writer = await self._feed(1)
        try:
            while read := await reader.read(_READ_BYTES):
                self.done["octets read"] += len(read)
        finally:
            writer.transport.abort()

    async def _never_reads(self) -> None:
        _, writer = await self._feed(2, receive_bytes=2048)
        try:
            while not writer.transport.is_closing():
                await asyncio.sleep(60)
                writer.write(octets.frame(octets.PING, b""))
        finally:
            writer.transport.abort()

    async def _come_and_go(self) -> None:
        async for count in self.ticks(1):
            with contextlib.suppress(*GONE):
                reader, writer = await self._feed(3)
                await reader.read(100)
                match count % 4:
                    case 0:
                        writer.write(octets.frame(1, b"x" * 2_000_000))
                    case 1:
                        writer.write(octets.frame(1, b"x") * 500)
                    case 2:
                        writer.write(b"\xff" * 500)
                    case _:
                        pass
                await asyncio.sleep(PAUSE_SECONDS / 4)
                writer.transport.abort()
