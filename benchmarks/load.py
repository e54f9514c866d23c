"""Load for any BTP/ILPv4 connector: a sender and a receiver, both BTP clients, in one process.

    python benchmarks/load.py --url ws://127.0.0.1:3000 --destination g.hub.bob --packets 30000
    python benchmarks/load.py --url ws://127.0.0.1:3000 --idle 1000      peers that do nothing
    python benchmarks/load.py --url ws://127.0.0.1:8080/ws --viewers 5   pages that look on
    python benchmarks/load.py --url ws://127.0.0.1:8080/ws --stalled     one that does not read

The sender keeps `--window` Prepares in flight; the receiver fulfils each at once. Every Prepare is
another one, so a connector that remembers packets has the full work. Prints one line of JSON:
packets/s, answers by kind, latency in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

RESPONSE, ERROR, MESSAGE = 1, 2, 6
PREPARE, FULFILL, REJECT = 12, 13, 14
FULFILLMENT = bytes(32)
CONDITION = hashlib.sha256(FULFILLMENT).digest()
IDLE_AT_ONCE = 50


def octets(value: bytes) -> bytes:
    """`value` with its length in front (RFC 30)."""
    if len(value) < 128:
        return bytes((len(value),)) + value
    size = (len(value).bit_length() + 7) // 8
    return bytes((0x80 | size,)) + len(value).to_bytes(size, "big") + value


def skip_length(buffer: bytes, at: int) -> int:
    """Where the octets begin whose length stands at `at`."""
    return at + 1 + (buffer[at] & 0x7F if buffer[at] & 0x80 else 0)


def btp(kind: int, request_id: int, *protocols: tuple[bytes, int, bytes]) -> bytes:
    """A BTP packet (RFC 23)."""
    body = bytes((1, len(protocols))) + b"".join(
        octets(name) + bytes((content_type,)) + octets(data)
        for name, content_type, data in protocols
    )
    return struct.pack(">BI", kind, request_id) + octets(body)


ILP_ALONE = b"\x01\x01\x03ilp\x00"


def ilp_in(packet: bytes) -> bytes | None:
    """The ILP packet in a BTP packet; None where there is none.

    A connector answers with `ilp` alone; anything else counts as no answer.
    """
    at = skip_length(packet, 5)
    if packet[at : at + len(ILP_ALONE)] != ILP_ALONE:
        return None
    return packet[skip_length(packet, at + len(ILP_ALONE)) :]


FULFILL_BODY = (b"ilp", 0, bytes((FULFILL,)) + octets(FULFILLMENT + octets(b"")))


class Client(WSListener):  # type: ignore[misc]  # picows is compiled
    """A BTP client: logs in, then hands messages and answers to its subclass."""

    def __init__(self, user: str, token: str, *, packet_ids: bool = False) -> None:
        """`packet_ids`: offer them at the log-in (docs/protocol.md)."""
        super().__init__()
        self._user = user
        self._token = token
        self._offers = ((b"packet-id", 0, b""),) if packet_ids else ()
        self.logged_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        auth = btp(
            MESSAGE,
            1,
            (b"auth", 0, b""),
            (b"auth_username", 1, self._user.encode()),
            (b"auth_token", 1, self._token.encode()),
            *self._offers,
        )
        transport.send(WSMsgType.BINARY, auth)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            return
        if frame.msg_type is not WSMsgType.BINARY:
            return
        packet = frame.get_payload_as_bytes()
        kind, request_id = struct.unpack_from(">BI", packet)
        if kind == MESSAGE:
            self.on_message(transport, request_id, ilp_in(packet))
        elif self.logged_in.done():
            self.on_answer(transport, kind, request_id, packet)
        elif kind == RESPONSE:
            self.logged_in.set_result(None)
        else:
            self.logged_in.set_exception(ConnectionError(f"log-in refused: {packet!r}"))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if not self.logged_in.done():
            self.logged_in.set_exception(ConnectionError("closed before the log-in was answered"))

    def on_message(self, transport: WSTransport, request_id: int, ilp: bytes | None) -> None:
        transport.send(WSMsgType.BINARY, btp(RESPONSE, request_id))

    def on_answer(self, transport: WSTransport, kind: int, request_id: int, packet: bytes) -> None:
        """An answer to a request that was not ours to send: nothing."""


class Receiver(Client):
    """Fulfils every Prepare."""

    def on_message(self, transport: WSTransport, request_id: int, ilp: bytes | None) -> None:
        protocols = () if ilp is None else (FULFILL_BODY,)
        transport.send(WSMsgType.BINARY, btp(RESPONSE, request_id, *protocols))


class Sender(Client):
    """Keeps a window of Prepares in flight until all are answered."""

    def __init__(self, options: argparse.Namespace) -> None:
        user, _, token = options.sender.partition(":")
        super().__init__(user, token, packet_ids=options.packet_ids)
        self._options = options
        self._first_packet_id = time.time_ns() << 64
        self._destination = octets(options.destination.encode())
        self._amount = struct.pack(">Q", options.amount)
        self._padding = os.urandom(max(0, options.data - 8))
        self._salt = int.from_bytes(os.urandom(6), "big")
        self._head = b""
        self._head_until_s = 0.0
        self._started: dict[int, float] = {}
        self.sent = self.answered = 0
        self.latency_s = array("d")
        self.kinds = {"fulfilled": 0, "rejected": 0, "error": 0}
        self.first_failure: str | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _refresh_head(self, now_s: float) -> None:
        expiry = datetime.now(UTC) + timedelta(seconds=self._options.expiry)
        digits = expiry.strftime("%Y%m%d%H%M%S%f")[:17].encode()
        self._head = self._amount + digits + CONDITION + self._destination
        self._head_until_s = now_s + 1

    def pump(self, transport: WSTransport) -> None:
        """Fill the window."""
        now_s = time.perf_counter()
        if now_s > self._head_until_s:
            self._refresh_head(now_s)
        while (
            self.sent < self._options.packets and self.sent - self.answered < self._options.window
        ):
            self.sent += 1
            request_id = self.sent + 1
            data = self._padding + struct.pack(">Q", self._salt + self.sent)
            prepare = bytes((PREPARE,)) + octets(self._head + octets(data))
            self._started[request_id] = now_s
            protocols = [(b"ilp", 0, prepare)]
            if self._offers:
                packet_id = (self._first_packet_id + self.sent).to_bytes(16, "big")
                protocols.append((b"packet-id", 0, packet_id))
            transport.send(WSMsgType.BINARY, btp(MESSAGE, request_id, *protocols))

    def on_answer(self, transport: WSTransport, kind: int, request_id: int, packet: bytes) -> None:
        started_s = self._started.pop(request_id, None)
        if started_s is None:
            return
        self.latency_s.append(time.perf_counter() - started_s)
        self.answered += 1
        ilp = ilp_in(packet) if kind == RESPONSE else None
        if ilp and ilp[0] == FULFILL:
            self.kinds["fulfilled"] += 1
        else:
            self.kinds["rejected" if ilp else "error"] += 1
            self.first_failure = self.first_failure or repr(packet[:300])
        if self.answered == self._options.packets:
            self.done.set_result(None)
        else:
            self.pump(transport)


async def connect(url: str, make: Callable[[], Any]) -> tuple[WSTransport, Any]:
    """A logged-in client."""
    transport, client = await ws_connect(make, url)
    async with asyncio.timeout(20):
        await client.logged_in
    return transport, client


async def load(options: argparse.Namespace) -> int:
    """Send, and print what came back."""
    user, _, token = options.receiver.partition(":")
    receiving, _ = await connect(options.receiver_url or options.url, lambda: Receiver(user, token))
    sending, sender = await connect(options.url, lambda: Sender(options))
    await asyncio.sleep(options.settle)
    began_s = time.perf_counter()
    sender.pump(sending)
    await asyncio.wait(
        (sender.done, sender.lost), timeout=options.timeout, return_when=asyncio.FIRST_COMPLETED
    )
    elapsed_s = time.perf_counter() - began_s
    if not sender.done.done():
        lost = "connection lost" if sender.lost.done() else "timed out"
        sender.first_failure = sender.first_failure or lost
    latency_s = sorted(sender.latency_s) or [0.0]

    def percentile(share: float) -> float:
        return round(latency_s[min(len(latency_s) - 1, int(len(latency_s) * share))] * 1000, 3)

    result = {
        "packets_per_second": round(sender.answered / elapsed_s),
        "seconds": round(elapsed_s, 3),
        "answered": sender.answered,
        **sender.kinds,
        "window": options.window,
        "p50_ms": percentile(0.5),
        "p99_ms": percentile(0.99),
        "max_ms": percentile(1.0),
        "first_failure": sender.first_failure,
    }
    print(json.dumps(result), flush=True)
    for transport in (sending, receiving):
        transport.disconnect()
    return 0 if sender.kinds["fulfilled"] == options.packets else 1


async def idle(options: argparse.Namespace) -> int:
    """Log in as `idle-0`, `idle-1`, ... with the id as token; stay until stdin is closed."""
    limit = asyncio.Semaphore(IDLE_AT_ONCE)
    began_s = time.perf_counter()

    async def one(name: str) -> Any:
        async with limit:
            return await connect(options.url, lambda: Client(name, name))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(f"idle-{number}")) for number in range(options.idle)]
    clients = [task.result()[1] for task in tasks]
    ready = {"idle": len(clients), "seconds": round(time.perf_counter() - began_s, 3)}
    print(json.dumps(ready), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"lost": sum(client.lost.done() for client in clients)}), flush=True)
    return 0


class Looker(WSListener):  # type: ignore[misc]  # picows is compiled
    """A viewer of the live feed, which reads all it is sent."""

    frames = octets = lost = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            return
        self.frames += 1
        self.octets += len(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.lost = 1


async def look(options: argparse.Namespace) -> int:
    """Watch the live feed until stdin is closed."""
    lookers = [(await ws_connect(Looker, options.url))[1] for _ in range(options.viewers)]
    print(json.dumps({"viewers": len(lookers)}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    seen = {
        name: sum(getattr(one, name) for one in lookers) for name in ("frames", "octets", "lost")
    }
    print(json.dumps(seen), flush=True)
    return 0


async def stall(options: argparse.Namespace) -> int:
    """Ask for the live feed, and read none of it, until stdin is closed."""
    place = urlsplit(options.url)
    ask = (
        f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.socket() as one:
        # So little fits that the connector's side fills at once.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect((place.hostname, place.port))
        one.sendall(ask.encode())
        print(json.dumps({"viewers": 1}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return 0


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="BTP listener of the connector")
    parser.add_argument("--sender", default="alice:sa", metavar="USER:TOKEN")
    parser.add_argument("--receiver", default="bob:sb", metavar="USER:TOKEN")
    parser.add_argument("--receiver-url", help="where the receiver connects, if elsewhere")
    parser.add_argument("--destination", default="g.hub.bob", help="routed to the receiver")
    parser.add_argument("--packets", type=int, default=30_000)
    parser.add_argument("--window", type=int, default=100, help="Prepares in flight")
    parser.add_argument("--amount", type=int, default=100)
    parser.add_argument("--data", type=int, default=100, help="octets of data in each Prepare")
    parser.add_argument("--expiry", type=float, default=28.0, help="seconds from sending")
    parser.add_argument("--settle", type=float, default=0.5, help="seconds after the log-in")
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument(
        "--packet-ids", action="store_true", help="the sender gives its packets ids"
    )
    parser.add_argument("--idle", type=int, default=0, help="only log in so many idle peers")
    parser.add_argument("--viewers", type=int, default=0, help="only watch the feed at --url")
    parser.add_argument("--stalled", action="store_true", help="only ask for the feed at --url")
    options = parser.parse_args()
    if options.stalled:
        return uvloop.run(stall(options))
    if options.viewers:
        return uvloop.run(look(options))
    return uvloop.run(idle(options) if options.idle else load(options))


if __name__ == "__main__":
    raise SystemExit(main())
