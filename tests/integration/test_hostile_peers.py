"""Peers and strangers that break the rules: each gets a named answer, and other peers are served.

Every test runs on a `NodeUnderAttack`: a whole node, two good peers, and mallory, who knows her secret and
means no good. When a test is over, the good peers still pay each other, mallory's account is as it
was, the books add up on disk, and no secret stands in a log line.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import re
import shutil
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from websockets.frames import Frame, Opcode

import connector.node.lifecycle
from connector import ConfigError, Connector, Fulfill, PeerSettings, Prepare, Reject
from connector.base import limits
from connector.base.connections import Connections
from connector.btp import bounds as btp_bounds
from connector.btp.packet import (
    MESSAGE,
    RESPONSE,
    TRANSFER,
    BtpError,
    BtpPacket,
    Protocol,
    decode,
    encode,
    encode_ilp,
)
from connector.ilp.packet import encode as encode_ilp_packet
from connector.ilp.packet import write_time
from connector.oer import var_octets
from connector.tools.audit import audit
from connector.tools.sender import Order, Sender
from tests.support.daemons import CLOCK, Daemon, EventLog, RunningNodes, until
from tests.support.guest import AUTH_ID, ClosedError, Guest, auth_packet
from tests.support.patience import PATIENCE_SECONDS, allowed_s

# Bounds are lowered here, which are constants in compiled modules.
pytestmark = pytest.mark.interpreted

PREIMAGE = b"p" * 32
SECRETS = {name: f"{name}-hunter2" for name in ("alice", "bob", "mallory", "carol")}
WELCOME = BtpPacket(kind=RESPONSE, request_id=AUTH_ID)
CREDIT = 1000
FAR_MS = 32_472_144_000_000
"""The year 2999: an expiry in a parameter may not depend on when tests were collected."""
POLICY, UNSUPPORTED, PROTOCOL, TOO_BIG = 1008, 1003, 1002, 1009


EXPIRES_SOON_MS = 6_000
"""For a test that waits until a packet has expired; long enough for what it does before."""


def prepare(
    destination: str = "g.bob", amount: int = 10, *, left_ms: int = 20_000, **fields: Any
) -> Prepare:
    return Prepare(
        **{
            "amount": amount,
            "expires_at_ms": CLOCK.now_ms() + left_ms,
            "condition": hashlib.sha256(PREIMAGE).digest(),
            "destination": destination,
            **fields,
        }
    )


def refused(answer: object, code: str, message: str = "") -> None:
    """It is a Reject of the node's own."""
    assert isinstance(answer, Reject), answer
    assert answer.code == code, answer
    assert answer.triggered_by == "g.node"
    assert message in answer.message


class NodeUnderAttack:
    """A node with well-behaved peers, and connections for hostile ones."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.port = daemon.connector.btp_port
        self.guests = AsyncExitStack()
        self.alice: Guest
        self.bob: Guest
        self._ids = iter(range(100, 10**9))

    @property
    def log(self) -> EventLog:
        return self.daemon.log

    @property
    def ignored(self) -> int:
        return self.daemon.connector.links.ignored

    async def enter(self, name: str) -> Guest:
        """A peer, logged in. It dials again if it was too slow for `impatient` on a busy machine."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(ClosedError):
                    guest = await self.guests.enter_async_context(Guest.connect(self.port))
                    assert await guest.log_in(name, SECRETS[name]) == WELCOME
                    return guest

    async def stranger(self, **how: Any) -> Guest:
        """A connection without a log-in."""
        return await self.guests.enter_async_context(Guest.connect(self.port, **how))

    def number(self) -> int:
        return next(self._ids)

    def offer(self, **what: Any) -> int:
        """Alice sends a Prepare; its request id."""
        request_id = self.number()
        self.alice.send(MESSAGE, request_id, prepare(**what))
        return request_id

    async def at_bob(self) -> tuple[int, Prepare]:
        """The next Prepare that comes to bob, and the node's request id."""
        kind, request_id, packet = await self.bob.ilp()
        assert kind == MESSAGE
        assert isinstance(packet, Prepare)
        return request_id, packet

    async def to_alice(self, request_id: int) -> object:
        """The answer to what alice sent."""
        kind, answered, packet = await self.alice.ilp()
        assert (kind, answered) == (RESPONSE, request_id)
        return packet

    def nets(self) -> dict[str, int]:
        return {name: self.daemon.net(name) for name in ("alice", "bob", "mallory")}

    def held(self) -> int:
        books = self.daemon.connector.accounts.peers.values()
        return sum(one.peer.debits_pending + one.peer.credits_pending for one in books)

    async def all_is_well(self) -> None:
        """The good peers pay each other: 10 units."""
        before = self.nets()
        request_id = self.offer(amount=10)
        asked, packet = await self.at_bob()
        assert packet.amount == 10
        self.bob.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))
        assert isinstance(await self.to_alice(request_id), Fulfill)
        expected = {**before, "alice": before["alice"] + 10, "bob": before["bob"] - 10}
        assert self.nets() == expected
        assert self.held() == 0


@asynccontextmanager
async def playing(
    folder: Path, peers: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> AsyncIterator[NodeUnderAttack]:
    network = RunningNodes(folder)
    terms = {
        name: {"credit_limit": CREDIT, "routes": [f"g.{name}"], **(peers or {}).get(name, {})}
        for name in ("alice", "bob", "mallory")
    }
    async with network:
        daemon = await network.add(
            "node",
            [
                # What is read here is what a test asks for.
                PeerSettings(id=name, secret=SECRETS[name], receive_routes=False, **said)
                for name, said in terms.items()
            ],
            **{"receiver_secret": "00ff", **settings},
        )
        target = NodeUnderAttack(daemon)
        async with target.guests:
            target.alice = await target.enter("alice")
            target.bob = await target.enter("bob")
            yield target
            await target.all_is_well()
            assert target.nets()["mallory"] == 0
        assert await network.stop() == []
    said = str(target.log.events)
    assert not any(secret in said for secret in SECRETS.values())
    assert "hunter2" not in said


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[NodeUnderAttack]:
    async with playing(tmp_path) as target:
        yield target


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short deadlines, longer on a busy machine."""
    monkeypatch.setattr(connector.node.lifecycle, "SLOW_TICK_SECONDS", 0.02)
    monkeypatch.setattr(limits, "LOGIN_SECONDS_MAX", allowed_s(0.2))
    monkeypatch.setattr(btp_bounds, "CLOSE_SECONDS_MAX", 0.2)


# --- who is let in


@pytest.mark.parametrize(
    ("path", "username", "token"),
    [
        ("/", "mallory", "wrong-hunter2"),
        ("/", "mallory", ""),
        ("/", "mallory", SECRETS["alice"]),
        ("/", "mallory", SECRETS["mallory"] + "\0"),
        ("/", "nobody", "hunter2"),
        ("/", "nobody", ""),
        ("/", "Mallory", SECRETS["mallory"]),
        ("/", "", "hunter2"),
        ("/", "", ""),
        ("/", None, "hunter2"),
        ("/", "\0" * 32, "\0" * 32),
        ("/accounts/nobody/ilp/btp", "", SECRETS["mallory"]),
        ("/accounts/alice/ilp/btp", "", SECRETS["mallory"]),
        ("/accounts/alice/ilp/btp", "mallory", SECRETS["mallory"]),
        ("/accounts/%2e%2e/ilp/btp", "", SECRETS["mallory"]),
    ],
)
async def test_without_the_right_token_nobody_is_let_in(
    target: NodeUnderAttack, path: str, username: str | None, token: str
) -> None:
    stranger = await target.stranger(path=path)
    answer = await stranger.log_in(username, token)
    assert isinstance(answer, BtpError)
    assert (answer.code, answer.name, answer.request_id) == ("F00", "NotAcceptedError", AUTH_ID)
    closed = await stranger.closed()
    assert (closed.code, closed.reason) == (POLICY, "authentication failed")
    assert target.log.count("btp_authentication_failed", reason="unknown peer or wrong token") == 1
    assert target.daemon.connector.links.auth_failures == 1
    assert set(target.daemon.connector.links.live) == {"alice", "bob"}


@pytest.mark.parametrize(
    ("path", "username"),
    [
        ("/", "mallory"),
        ("/", ""),
        ("/", None),
        ("/accounts/mallory/ilp/btp", ""),
        ("/accounts/mallory/ilp/btp", None),
        ("/accounts/mallory/ilp/btp", "mallory"),
        ("/accounts/mallory/ilp/btp?x=y", ""),
        ("/any/other/path", "mallory"),
    ],
)
async def test_a_peer_is_named_by_user_path_or_token(
    target: NodeUnderAttack, path: str, username: str | None
) -> None:
    guest = await target.stranger(path=path)
    assert await guest.log_in(username, SECRETS["mallory"]) == WELCOME
    assert target.log.count("btp_connection_established", peer_id="mallory", direction="inbound")


async def test_the_newest_log_in_wins_and_the_old_connection_is_closed(
    target: NodeUnderAttack,
) -> None:
    first = await target.enter("mallory")
    second = await target.enter("mallory")
    closed = await first.closed()
    assert (closed.code, closed.reason) == (1000, "another connection serves")
    assert target.log.count(
        "btp_connection_lost", peer_id="mallory", reason="another connection serves"
    )
    assert target.daemon.connector.links.live["mallory"].remote.endswith(
        str(second.writer.get_extra_info("sockname")[1])
    )
    refused(await second.ask(1, prepare("g.nowhere")), "F02")


async def test_packets_under_way_when_a_peer_logs_in_again_are_not_left_without_an_answer(
    target: NodeUnderAttack,
) -> None:
    """Bob has no packet ids: it is not resent, and he may answer over the new connection."""
    request_id = target.offer(left_ms=EXPIRES_SOON_MS)
    await target.at_bob()
    target.bob = await target.enter("bob")
    refused(await target.to_alice(request_id), "R00", "next hop did not answer in time")


def not_a_log_in() -> Iterator[Any]:
    yield pytest.param(encode_ilp(MESSAGE, 7, encode_ilp_packet(prepare())), id="a Prepare")
    yield pytest.param(encode(auth_packet("mallory", None)), id="no token")
    yield pytest.param(encode(auth_packet("mallory", b"\xff\xfe")), id="a token that is no text")
    yield pytest.param(encode(auth_packet("mallory", b"t" * 1025)), id="a token that is too long")
    yield pytest.param(encode(auth_packet("m" * 1025, b"t")), id="a name that is too long")
    yield pytest.param(
        encode(
            BtpPacket(
                kind=MESSAGE,
                request_id=7,
                protocols=[Protocol("x", 0, b""), *auth_packet("mallory", b"t").protocols],
            )
        ),
        id="auth that does not come first",
    )
    yield pytest.param(encode(BtpPacket(kind=TRANSFER, request_id=7, amount=1)), id="a Transfer")
    yield pytest.param(encode(BtpPacket(kind=MESSAGE, request_id=7)), id="an empty Message")


@pytest.mark.parametrize("octets", list(not_a_log_in()))
async def test_what_comes_before_the_log_in_is_an_error_and_the_end(
    target: NodeUnderAttack, octets: bytes
) -> None:
    stranger = await target.stranger()
    stranger.frame(octets)
    answer = await stranger.heard()
    assert isinstance(answer, BtpError)
    assert (answer.code, answer.name) == ("F00", "NotAcceptedError")
    assert (await stranger.closed()).code == POLICY


async def test_a_second_log_in_on_one_connection_changes_nothing(target: NodeUnderAttack) -> None:
    """`auth` after the log-in is an unknown primary protocol, whoever it names."""
    mallory = await target.enter("mallory")
    answer = await mallory.log_in("alice", SECRETS["alice"])
    assert isinstance(answer, BtpError)
    assert answer.code == "F00"
    refused(await mallory.ask(2, prepare("g.mallory")), "F02", "back to the sender")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("websocket", [True, False])
async def test_who_never_logs_in_is_closed_in_time(
    target: NodeUnderAttack, websocket: bool
) -> None:
    """A peer that keeps silent after the handshake, and one that does not even begin it."""
    stranger = await target.stranger(websocket=websocket)
    closed = await stranger.closed()
    assert (closed.code, closed.reason) == (
        (POLICY, "no log-in in time") if websocket else (1006, "")
    )


@pytest.mark.usefixtures("impatient")
async def test_answers_to_nothing_do_not_put_the_log_in_off(target: NodeUnderAttack) -> None:
    stranger = await target.stranger()
    stranger.btp(BtpPacket(kind=RESPONSE, request_id=1))
    assert (await stranger.closed()).reason == "no log-in in time"
    assert target.ignored == 1


# --- who is no websocket at all


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000,
        b"GET /" + b"x" * 10_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000,
        b"GET / HTTP/1.1\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * 30,
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_handshake_is_closed_at_once(
    target: NodeUnderAttack, octets: bytes
) -> None:
    stranger = await target.stranger(websocket=False)
    stranger.raw(octets + (b"" if b"\r\n\r\n" in octets else b"\r\n\r\n"))
    assert (await stranger.closed()).code == 1006
    await until(lambda: len(target.daemon.connector.links._all) == 2)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", b" 426 "),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b" 400 "),
        ("PUT / HTTP/1.1\r\nHost: x\r\n\r\n", b" 405 "),
    ],
)  # fmt: skip
async def test_a_request_that_is_no_handshake_is_told_so(
    target: NodeUnderAttack, request_text: str, status: bytes
) -> None:
    stranger = await target.stranger(websocket=False)
    stranger.raw(request_text.encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert status in (await stranger.reader.read()).split(b"\r\n")[0]


async def test_compression_that_is_offered_is_refused_cleanly(target: NodeUnderAttack) -> None:
    """As the JS client offers it, which then goes on without."""
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    guest = await target.stranger(headers=offer)
    assert guest.response is not None
    assert guest.response.status_code == 101
    assert "Sec-WebSocket-Extensions" not in guest.response.headers
    assert await guest.log_in("mallory", SECRETS["mallory"]) == WELCOME


async def test_a_log_in_in_the_same_read_as_the_handshake_is_taken(target: NodeUnderAttack) -> None:
    stranger = await target.stranger(websocket=False)
    stranger.raw(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    stranger.frame(encode(auth_packet("mallory", SECRETS["mallory"].encode())))
    await target.log.seen("btp_connection_established", peer_id="mallory")


# --- how many are let in


async def test_beyond_the_bound_the_oldest_strangers_are_turned_away_and_peers_stay(
    target: NodeUnderAttack,
) -> None:
    links = target.daemon.connector.links
    links._strangers = Connections(count_max=3, per_address_max=3)
    strangers = [await target.stranger() for _ in range(23)]
    for turned_away in strangers[:20]:
        assert (await turned_away.closed()).code == 1006
    lines = target.log.count("btp_connection_refused", reason="too many connections")
    assert 1 <= lines <= 3 * limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX, "a flood of lines"
    await target.all_is_well()
    await target.enter("mallory")
    for stranger in strangers[20:]:
        stranger.writer.close()
    await until(lambda: len(links._strangers) == 0)


async def test_connections_are_bounded_in_all(
    target: NodeUnderAttack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(btp_bounds, "CONNECTIONS_MAX", 3)
    await target.enter("mallory")
    turned_away = await target.stranger(websocket=False)
    assert (await turned_away.closed()).code == 1006


async def test_wrong_log_ins_do_not_flood_the_log(target: NodeUnderAttack) -> None:
    for _ in range(40):
        async with Guest.connect(target.port) as stranger:
            await stranger.log_in("mallory", "wrong-hunter2")
    assert target.daemon.connector.links.auth_failures == 40
    assert target.log.count("btp_authentication_failed") < 40


async def test_a_sender_that_logs_in_too_often_waits_and_gets_in(target: NodeUnderAttack) -> None:
    clock = target.daemon.connector.links.clock
    log_ins = target.daemon.connector.links._links_of("mallory").log_ins
    while log_ins.allow(clock.monotonic_s()) is not None:
        pass
    stranger = await target.stranger()
    answer = await stranger.log_in("mallory", SECRETS["mallory"])
    assert isinstance(answer, BtpError)
    assert (answer.code, answer.data) == ("T00", b"too many log-ins in this second")
    sender = Sender(
        url=f"ws://127.0.0.1:{target.port}",
        username="mallory",
        token=SECRETS["mallory"],
        clock=CLOCK,
        log=structlog.get_logger(),
    )
    report = await sender.send(Order(destination="g.nowhere"))
    assert report.rejected == {"F02": 1}, report


# --- frames that are not allowed


@pytest.mark.parametrize("size", [limits.BTP_MESSAGE_BYTES_MAX + 1, 70_000, 10_000_000])
async def test_a_message_that_is_too_large_is_the_end_of_its_connection(
    target: NodeUnderAttack, size: int
) -> None:
    mallory = await target.enter("mallory")
    # Only the head: whoever announces that much is not listened to any longer.
    mallory.raw(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4))
    assert (await mallory.closed()).code == TOO_BIG
    await target.log.seen("btp_connection_lost", peer_id="mallory")


async def test_a_whole_message_of_70_kb_is_refused(target: NodeUnderAttack) -> None:
    mallory = await target.enter("mallory")
    mallory.frame(bytes(70_000))
    # What it sent last may have been lost on the way back: the rest of the message was unread.
    assert (await mallory.closed()).code in (TOO_BIG, 1006)
    await target.log.seen("btp_connection_lost", peer_id="mallory")


def bad_frames() -> Iterator[Any]:
    def case(name: str, code: int, say: Callable[[Guest], None]) -> Any:
        return pytest.param(code, say, id=name)

    yield case("text", UNSUPPORTED, lambda guest: guest.frame(b"hello", Opcode.TEXT))
    yield case(
        "text in fragments", UNSUPPORTED, lambda guest: guest.frame(b"h", Opcode.TEXT, fin=False)
    )
    yield case("compressed", PROTOCOL, lambda guest: guest.raw(b"\xc2\x81\0\0\0\0x"))
    yield case("unmasked", PROTOCOL, lambda guest: guest.frame(b"\x00", mask=False))
    yield case("continuation of nothing", PROTOCOL, lambda guest: guest.frame(b"x", Opcode.CONT))
    yield case("unknown opcode", PROTOCOL, lambda guest: guest.raw(b"\x83\x80\0\0\0\0"))
    yield case("long ping", PROTOCOL, lambda guest: guest.raw(b"\x89\xfe\x00\x7e" + bytes(130)))
    yield case("close of one octet", PROTOCOL, lambda guest: guest.raw(b"\x88\x81\0\0\0\0\x03"))

    def interrupted(guest: Guest) -> None:
        guest.frame(b"first", fin=False)
        guest.frame(b"second")

    yield case("a message within another", POLICY, interrupted)

    def too_many(guest: Guest) -> None:
        guest.frame(bytes(40_000), fin=False)
        guest.frame(bytes(40_000), Opcode.CONT)

    yield case("too large in fragments", TOO_BIG, too_many)


@pytest.mark.parametrize(("code", "say"), list(bad_frames()))
async def test_frames_that_are_not_allowed_end_their_connection(
    target: NodeUnderAttack, code: int, say: Callable[[Guest], None]
) -> None:
    mallory = await target.enter("mallory")
    say(mallory)
    assert (await mallory.closed()).code == code
    await target.log.seen("btp_connection_lost", peer_id="mallory")


async def test_a_message_in_fragments_is_one_message(target: NodeUnderAttack) -> None:
    """Clumsy, but allowed; with a ping between, and behind it the short way goes on."""
    mallory = await target.enter("mallory")
    octets = encode_ilp(MESSAGE, 5, encode_ilp_packet(prepare("g.nowhere")))
    mallory.frame(octets[:10], fin=False)
    mallory.frame(b"?", Opcode.PING)
    for at in range(10, len(octets) - 1):
        mallory.frame(octets[at : at + 1], Opcode.CONT, fin=False)
    mallory.frame(octets[-1:], Opcode.CONT)
    kind, request_id, answer = await mallory.ilp()
    assert (kind, request_id) == (RESPONSE, 5)
    refused(answer, "F02")
    refused(await mallory.ask(6, prepare("g.nowhere")), "F02")


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
)


async def test_fragments_without_end_take_no_memory(target: NodeUnderAttack) -> None:
    mallory = await target.enter("mallory")
    mallory.frame(b"", fin=False)
    mallory.raw(b"\x00\x80\0\0\0\0" * 500)
    link = target.daemon.connector.links.live["mallory"]
    await until(lambda: link._fragments is not None)
    assert link._fragments == b""
    assert len(link._splitter._rest) < 6


@pytest.mark.parametrize("octets", [b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x00\x80\0\0\0\0"])
@pytest.mark.parametrize("is_plain", [True, False])
async def test_frames_that_are_dear_to_read_are_bounded_also_of_strangers(
    target: NodeUnderAttack, octets: bytes, is_plain: bool
) -> None:
    """256 KB of pings, pongs or empty fragments in one read took the event loop half a second."""
    stranger = await target.stranger(websocket=is_plain)
    # What comes in the same read as the handshake takes the long way, as all after it.
    handshake = b"" if is_plain else HANDSHAKE + b"\r\n\r\n"
    stranger.raw(handshake + b"\x02\x80\0\0\0\0" + octets * 40_000)
    with contextlib.suppress(ConnectionError):
        while await stranger.reader.read(1 << 16):
            pass
    await target.log.seen("btp_connection_established", peer_id="alice")
    links = target.daemon.connector.links
    await until(lambda: len(links._all) == len(links.live))


async def test_what_begins_behind_a_long_handshake_is_read_whole(target: NodeUnderAttack) -> None:
    """Wherever the parts end in which it is parsed: also just behind the handshake."""
    size = btp_bounds.NOT_PLAIN_BYTES_AT_ONCE
    head = HANDSHAKE + b"\r\nX: "
    log_in = encode(auth_packet("mallory", SECRETS["mallory"].encode()))
    for missing in (0, 1, 3, -1, -20):
        handshake = head + b"x" * (size - missing - len(head) - 4) + b"\r\n\r\n"
        stranger = await target.stranger(websocket=False)
        stranger.raw(handshake + Frame(Opcode.BINARY, log_in).serialize(mask=True))
        answer = await stranger.reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101")
        frame = await stranger.reader.readexactly(2)
        welcome = await stranger.reader.readexactly(frame[1])
        assert (frame[0], decode(welcome)) == (0x82, WELCOME)


async def test_a_frame_that_never_becomes_whole_keeps_only_what_came(
    target: NodeUnderAttack,
) -> None:
    mallory = await target.enter("mallory")
    mallory.raw(b"\x82\xfe\xff\xff" + bytes(4) + bytes(1000))
    link = target.daemon.connector.links.live["mallory"]
    await until(lambda: len(link._splitter._rest) == 1008)


# --- BTP that is not allowed


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x06",
        b"garbage",
        b"\x00" * 50,
        b"\xff" * 50,
        b"\x06\x00\x00\x00\x01",
        b"\x06\x00\x00\x00\x01\x88" + b"\xff" * 8,
        b"\x06\x00\x00\x00\x01\x02\x01\x05",
        b"\x06\x00\x00\x00\x01\x09\x08" + b"\xff" * 8,
        encode_ilp(MESSAGE, 1, b"x" * 40)[:-1],
        b"\x06\x00\x00\x00\x01\x0e\x01\x02" + b"\x03ilp\x00\x00" * 2,
        b"\x09\x00\x00\x00\x01\x02\x01\x00",
    ],
)
async def test_garbage_in_the_place_of_btp_ends_its_connection(
    target: NodeUnderAttack, octets: bytes
) -> None:
    """Unreadable packets get no answer (RFC 23); as the JS peer does, we close."""
    mallory = await target.enter("mallory")
    mallory.frame(octets)
    closed = await mallory.closed()
    assert closed.code == POLICY
    assert closed.reason.startswith("BTP: ")


@pytest.mark.parametrize(
    "packet",
    [
        BtpPacket(kind=TRANSFER, request_id=9, amount=2**64 - 1),
        BtpPacket(kind=MESSAGE, request_id=9, protocols=[Protocol("unheard", 2, b"{}")]),
        BtpPacket(kind=MESSAGE, request_id=9, protocols=[Protocol("", 255, b"")]),
    ],
)
async def test_what_we_do_not_serve_is_a_btp_error_and_no_more(
    target: NodeUnderAttack, packet: BtpPacket
) -> None:
    mallory = await target.enter("mallory")
    mallory.btp(packet)
    answer = await mallory.heard()
    assert isinstance(answer, BtpError)
    assert (answer.request_id, answer.code) == (9, "F00")
    refused(await mallory.ask(10, prepare("g.nowhere")), "F02")


# --- packets that are not allowed


def raw_prepare(expiry: bytes, destination: bytes = b"g.bob") -> bytes:
    head = struct.pack(">Q17s32s", 10, expiry, bytes(32))
    return b"\x0c" + var_octets(head + var_octets(destination) + var_octets(b""))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x0c",
        b"\x0c\x00",
        b"\xff" * 100,
        encode_ilp_packet(prepare(expires_at_ms=FAR_MS))[:-1],
        encode_ilp_packet(Fulfill(fulfillment=PREIMAGE)),
        encode_ilp_packet(Reject(code="F00")),
        raw_prepare(b"20261301000000000"),
        raw_prepare(b"20260230000000000"),
        raw_prepare(b"20260101240000000"),
        raw_prepare(b"20260101000060000"),
        raw_prepare(b"00000101000000000"),
        raw_prepare(b"not a date at all"),
        raw_prepare(write_time(FAR_MS), b"not an address"),
        raw_prepare(write_time(FAR_MS), b"g.\xff"),
        raw_prepare(write_time(FAR_MS), b""),
        raw_prepare(write_time(FAR_MS), b"g." + b"a" * 1022),
    ],
)
async def test_a_packet_that_cannot_be_read_is_rejected_with_f01(
    target: NodeUnderAttack, octets: bytes
) -> None:
    mallory = await target.enter("mallory")
    refused(await mallory.ask(3, octets), "F01", "unreadable packet")
    refused(await mallory.ask(4, prepare("g.nowhere")), "F02", "no route found")


@pytest.mark.parametrize(
    ("offer", "code", "message"),
    [
        ({"left_ms": -1}, "R00", "packet expired"),
        ({"left_ms": -(10**11)}, "R00", "packet expired"),
        ({"left_ms": 1500}, "R02", "not enough time left"),
        ({"amount": 2**64 - 1}, "T04", "credit limit reached"),
        ({"amount": CREDIT + 1}, "T04", "credit limit reached"),
        ({"destination": "g.nowhere"}, "F02", "no route found"),
        ({"destination": "g.bobby"}, "F02", "no route found"),
        ({"destination": "g.mallory.x"}, "F02", "back to the sender"),
        ({"destination": "test.bob"}, "F02", "other network"),
        ({"destination": "peer.bob"}, "F01", "unknown peer protocol"),
        ({"destination": "peer.config"}, "F01", "not a peer protocol's amount"),
        ({"destination": "g.node"}, "F06", "unexpected payment"),
    ],
)
async def test_an_offer_that_cannot_be_taken_is_rejected_with_its_code(
    target: NodeUnderAttack, offer: dict[str, Any], code: str, message: str
) -> None:
    mallory = await target.enter("mallory")
    refused(await mallory.ask(3, prepare(**offer)), code, message)
    assert target.nets() == {"alice": 0, "bob": 0, "mallory": 0}
    await until(lambda: target.held() == 0)


async def test_the_credit_limit_holds_on_the_line_and_one_step_over(
    target: NodeUnderAttack,
) -> None:
    """What is held counts: two halves at a time, and one unit more is refused."""
    half = {"amount": CREDIT // 2, "left_ms": EXPIRES_SOON_MS}
    first, second = target.offer(**half), target.offer(**half)
    await target.at_bob()
    await target.at_bob()
    third = target.offer(amount=1)
    refused(await target.to_alice(third), "T04", "credit limit reached")
    await target.guests.enter_async_context(Guest.connect(target.port))
    target.bob = await target.enter("bob")
    refused(await target.to_alice(first), "R00")
    refused(await target.to_alice(second), "R00")


async def test_a_packet_over_the_agreed_amount_is_f08_with_both_amounts(tmp_path: Path) -> None:
    async with playing(tmp_path, {"mallory": {"max_packet_amount": 100}}) as target:
        mallory = await target.enter("mallory")
        answer = await mallory.ask(3, prepare(amount=101))
        refused(answer, "F08")
        assert isinstance(answer, Reject)
        assert struct.unpack(">QQ", answer.data) == (101, 100)
        mallory.send(MESSAGE, 4, prepare(amount=100))
        request_id, packet = await target.at_bob()
        assert packet.amount == 100
        target.bob.send(RESPONSE, request_id, Reject(code="F99"))
        assert await mallory.ilp() == (RESPONSE, 4, Reject(code="F99"))


@pytest.mark.parametrize("amount", [0, 1])
async def test_the_smallest_amounts_pass_and_zero_is_not_booked(
    target: NodeUnderAttack, amount: int
) -> None:
    request_id = target.offer(amount=amount)
    asked, packet = await target.at_bob()
    assert packet.amount == amount
    target.bob.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))
    assert isinstance(await target.to_alice(request_id), Fulfill)
    assert target.nets()["alice"] == amount


async def test_an_expiry_far_in_the_future_is_shortened_onward(target: NodeUnderAttack) -> None:
    offer = prepare()
    offer.expires_at_ms = 253_402_300_799_999  # the last moment of the year 9999
    target.alice.send(MESSAGE, 1, offer)
    asked, packet = await target.at_bob()
    assert packet.expires_at_ms <= CLOCK.now_ms() + 29_000
    target.bob.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))
    assert isinstance(await target.to_alice(1), Fulfill)


async def test_a_flood_is_rate_limited_and_others_are_not(tmp_path: Path) -> None:
    async with playing(tmp_path, {"mallory": {"rate_limit": 5}}) as target:
        mallory = await target.enter("mallory")
        for request_id in range(200):
            mallory.send(MESSAGE, request_id, prepare("g.nowhere"))
        await target.all_is_well()
        codes = [(await mallory.ilp())[2] for _ in range(200)]
        assert all(isinstance(answer, Reject) for answer in codes)
        limited = [
            answer for answer in codes if isinstance(answer, Reject) and answer.code == "T05"
        ]
        assert 180 <= len(limited) <= 195
        refused(limited[0], "T05", "too many packets per second")
        lines = target.log.count("packet_rejected", peer_id="mallory")
        assert lines < 50, "rejects are sampled"


async def test_packets_in_flight_are_bounded_per_peer(
    target: NodeUnderAttack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT_PER_PEER_MAX", 3)
    mallory = await target.enter("mallory")
    for request_id in range(4):
        mallory.send(MESSAGE, request_id, prepare(amount=1))
    kind, request_id, answer = await mallory.ilp()
    assert (kind, request_id) == (RESPONSE, 3)
    refused(answer, "T05", "in flight")
    for _ in range(3):
        asked, _ = await target.at_bob()
        target.bob.send(RESPONSE, asked, Reject(code="F99"))
        await mallory.ilp()


# --- answers that are not allowed


async def test_a_wrong_preimage_pays_nobody(target: NodeUnderAttack) -> None:
    request_id = target.offer()
    asked, _ = await target.at_bob()
    target.bob.send(RESPONSE, asked, Fulfill(fulfillment=b"w" * 32))
    refused(await target.to_alice(request_id), "F05", "does not match the condition")
    target.bob.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))  # too late to think again
    await until(lambda: target.ignored == 1)
    await until(lambda: target.held() == 0)
    assert target.nets() == {"alice": 0, "bob": 0, "mallory": 0}


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x0d",
        b"garbage",
        encode_ilp_packet(Fulfill(fulfillment=PREIMAGE))[:-1],
        encode_ilp_packet(prepare(expires_at_ms=FAR_MS)),
        b"\x0e\x07\x66\x6f\x6f\x00\x00\x00\x00",
    ],
)
async def test_a_garbage_answer_is_a_t00_and_counted(
    target: NodeUnderAttack, octets: bytes
) -> None:
    request_id = target.offer()
    asked, _ = await target.at_bob()
    target.bob.send(RESPONSE, asked, octets)
    refused(await target.to_alice(request_id), "T00", "next hop answered")
    assert target.daemon.connector.peers["bob"].counters.answers_malformed == 1
    await until(lambda: target.held() == 0)


@pytest.mark.parametrize(
    "answer",
    [
        BtpPacket(kind=RESPONSE, request_id=0),
        BtpPacket(kind=RESPONSE, request_id=0, protocols=[Protocol("other", 0, b"x")]),
        BtpError(request_id=0, code="F00", name="NotAcceptedError", triggered_at_ms=0),
        BtpError(request_id=0, code="T00", name="", triggered_at_ms=0, data=bytes(8192)),
    ],
)
async def test_a_btp_answer_without_a_packet_is_a_t00(
    target: NodeUnderAttack, answer: BtpPacket | BtpError
) -> None:
    request_id = target.offer()
    answer.request_id, _ = await target.at_bob()
    target.bob.btp(answer)
    refused(await target.to_alice(request_id), "T00", "could not handle the packet")


async def test_answers_to_requests_of_others_or_of_nobody_are_ignored_and_counted(
    target: NodeUnderAttack,
) -> None:
    """Request ids are of one connection: mallory knows the right one and the right preimage."""
    mallory = await target.enter("mallory")
    request_id = target.offer()
    asked, _ = await target.at_bob()
    for number in (asked, asked + 1, 0, 2**32 - 1):
        mallory.send(RESPONSE, number, Fulfill(fulfillment=PREIMAGE))
    mallory.btp(BtpError(request_id=asked, code="F00", name="x", triggered_at_ms=0))
    refused(await mallory.ask(7, prepare("g.nowhere")), "F02")
    assert target.ignored == 5
    target.bob.send(RESPONSE, asked, Reject(code="F99", message="mine"))
    assert await target.to_alice(request_id) == Reject(code="F99", message="mine")
    assert target.nets() == {"alice": 0, "bob": 0, "mallory": 0}


async def test_only_the_first_answer_counts(target: NodeUnderAttack) -> None:
    request_id = target.offer()
    asked, _ = await target.at_bob()
    for _ in range(3):
        target.bob.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))
    assert isinstance(await target.to_alice(request_id), Fulfill)
    await until(lambda: target.ignored == 2)
    assert target.nets() == {"alice": 10, "bob": -10, "mallory": 0}


async def test_a_late_fulfill_pays_nobody_and_is_counted(tmp_path: Path) -> None:
    async with playing(tmp_path, message_window_ms=100, max_hold_ms=30_000) as target:
        request_id = target.offer(left_ms=300)
        asked, packet = await target.at_bob()
        refused(await target.to_alice(request_id), "R00", "did not answer in time")
        assert CLOCK.now_ms() >= packet.expires_at_ms
        target.bob.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))
        await until(lambda: target.ignored == 1)
        await until(lambda: target.held() == 0)
        assert target.nets() == {"alice": 0, "bob": 0, "mallory": 0}


async def test_a_peer_that_leaves_with_a_packet_leaves_its_outcome_unknown(
    target: NodeUnderAttack,
) -> None:
    request_id = target.offer()
    await target.at_bob()
    target.bob.writer.transport.abort()
    refused(await target.to_alice(request_id), "T00", "link to the next hop lost")
    again = target.offer()
    refused(await target.to_alice(again), "T01", "next hop not connected")
    target.bob = await target.enter("bob")


async def test_a_sender_that_leaves_does_not_stop_its_packet(target: NodeUnderAttack) -> None:
    """We still owe the next hop when it fulfils."""
    mallory = await target.enter("mallory")
    mallory.send(MESSAGE, 1, prepare(amount=7))
    asked, _ = await target.at_bob()
    mallory.writer.transport.abort()
    await target.log.seen("btp_connection_lost", peer_id="mallory")
    target.bob.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))
    await until(lambda: target.nets() == {"alice": 0, "bob": -7, "mallory": 7})
    # So that mallory's account is as it was: bob pays her the same.
    mallory = await target.enter("mallory")
    target.bob.send(MESSAGE, 1, prepare("g.mallory", 7))
    kind, asked, _ = await mallory.ilp()
    assert kind == MESSAGE
    mallory.send(RESPONSE, asked, Fulfill(fulfillment=PREIMAGE))
    assert isinstance((await target.bob.ilp())[2], Fulfill)


# --- peers that do not read


def pending_octets(target: NodeUnderAttack, peer_id: str) -> int:
    link = target.daemon.connector.links.live.get(peer_id)
    if link is None or link._transport is None:
        return 0
    return link._transport.get_write_buffer_size()


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_does_not_read_its_answers_is_not_read_from_and_then_closed(
    target: NodeUnderAttack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(btp_bounds, "WRITE_BUFFER_PAUSE_BYTES", 100_000)
    monkeypatch.setattr(btp_bounds, "KEEPALIVE_SILENCE_SECONDS_MAX", 0.5)
    mallory = await target.stranger(receive_buffer=4096)
    assert await mallory.log_in("mallory", SECRETS["mallory"]) == WELCOME
    mallory.reader._transport.pause_reading()  # type: ignore[attr-defined]
    most = 0
    request = encode_ilp(MESSAGE, 1, encode_ilp_packet(prepare("g.nowhere")))
    batch = b"".join(
        b"\x82\xfe" + len(request).to_bytes(2, "big") + bytes(4) + request for _ in range(100)
    )
    try:
        async with asyncio.timeout(15):
            while True:
                mallory.raw(batch)
                await mallory.writer.drain()
                most = max(most, pending_octets(target, "mallory"))
    except ConnectionError:
        pass  # what a node does to those who do not read
    await target.log.seen("btp_connection_lost", peer_id="mallory")
    assert most < 400_000, "what is kept for her stays near the bound"
    monkeypatch.setattr(btp_bounds, "KEEPALIVE_SILENCE_SECONDS_MAX", 50.0)
    for name in ("alice", "bob"):
        setattr(target, name, await target.enter(name))


@pytest.mark.usefixtures("impatient")
async def test_a_next_hop_that_does_not_read_is_busy_and_then_closed(
    target: NodeUnderAttack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(btp_bounds, "WRITE_BUFFER_PAUSE_BYTES", 100_000)
    mallory = await target.stranger(receive_buffer=4096)
    assert await mallory.log_in("mallory", SECRETS["mallory"]) == WELCOME
    mallory.reader._transport.pause_reading()  # type: ignore[attr-defined]
    counters = target.daemon.connector.peers["mallory"].counters
    # As long as the sockets between take more, offers go out; then they come back.
    asked = 0
    while not target.alice.reader._buffer:  # type: ignore[attr-defined]
        asked += 1
        target.offer(destination="g.mallory", amount=0, data=bytes(32_000))
        await until(lambda: target.daemon.connector.peers["alice"].counters.prepares_in == asked)  # noqa: B023
    refused((await target.alice.ilp())[2], "T02", "next hop is too slow")
    assert counters.prepares_out == asked - 1
    assert pending_octets(target, "mallory") < 200_000
    monkeypatch.setattr(btp_bounds, "KEEPALIVE_SILENCE_SECONDS_MAX", 0.1)
    for _ in range(asked - 1):
        refused((await target.alice.ilp())[2], "T00", "link to the next hop lost")
    assert target.log.count("btp_connection_lost", peer_id="mallory", reason="silent for too long")
    monkeypatch.setattr(btp_bounds, "KEEPALIVE_SILENCE_SECONDS_MAX", 50.0)
    for name in ("alice", "bob"):
        setattr(target, name, await target.enter(name))


# --- what we dial


@asynccontextmanager
async def listener(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
) -> AsyncIterator[str]:
    """Someone who listens, and says what `talk` says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"220 smtp.example ESMTP\r\n")
    await reader.read()


async def forbidden(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    await reader.read()


async def endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n")
    while True:
        writer.write(b"X: y\r\n" * 1000)
        await writer.drain()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (not_http, "valid HTTP response"),
        (forbidden, "403"),
        (endless_head, "too many HTTP headers|too large"),
        (hangs_up, "closed by the other side"),
        (says_nothing, "no log-in in time"),
    ],
)
async def test_who_is_dialled_and_is_no_peer_is_named_and_dialled_again(
    tmp_path: Path, talk: Callable[..., Any], reason: str
) -> None:
    async with listener(talk) as url, playing(tmp_path, {"mallory": {"url": url}}) as target:
        state = target.daemon.connector.links.dialler.states["mallory"]
        # On a busy machine an attempt may fail for another reason first: out of time.
        await until(lambda: state.attempts >= 3 and bool(re.search(reason, state.last_error)))
        reasons = [
            fields["reason"] for _, event, fields in target.log.events if event == "btp_dial_failed"
        ]
        assert any(re.search(reason, one) for one in reasons)
        assert all(one != later for one, later in itertools.pairwise(reasons)), "logged once"


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_does_not_let_us_in_is_named(tmp_path: Path) -> None:
    """Its Error is repeated in our log; the token that it refused is not."""
    async with playing(tmp_path / "one") as target:
        network = RunningNodes(tmp_path / "two")
        async with network:
            other = await network.add(
                "stranger",
                [PeerSettings(id="node", secret="wrong-hunter2", url=f"ws://127.0.0.1:{target.port}")],
            )  # fmt: skip
            await other.log.seen("btp_dial_failed", peer_id="node")
            error = other.connector.links.dialler.states["node"].last_error
            assert error == "log-in refused: F00 'invalid username or token'"
            assert "hunter2" not in str(other.log.events)


@pytest.mark.usefixtures("impatient")
async def test_nobody_at_the_other_end_is_named(tmp_path: Path) -> None:
    async with playing(tmp_path, {"mallory": {"url": "ws://127.0.0.1:9"}}) as target:
        await target.log.seen("btp_dial_failed", peer_id="mallory")
        # asyncio and uvloop have different words for it.
        error = target.daemon.connector.links.dialler.states["mallory"].last_error
        assert re.search("refused|call failed", error), error


# --- TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only who knows it trusts, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(key), "-out", str(cert),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"openssl cannot make a certificate: {made.stderr.strip()}")
    return cert, key


async def test_over_tls_peers_log_in_and_pay(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a", [PeerSettings(id="b", secret="s")], btp_tls_cert=cert, btp_tls_key=key
        )
        url = f"wss://127.0.0.1:{a.connector.btp_port}"
        b = await network.add("b", [PeerSettings(id="a", secret="s", url=url, routes=["g.a"])])
        await b.linked("a")
        assert isinstance(await b.connector.send("g.a", 5), Fulfill)
        assert (a.net("b"), b.net("a")) == (5, -5)
        trusting = ssl.create_default_context(cafile=str(cert))
        async with Guest.connect(a.connector.btp_port, tls=trusting) as guest:
            guest.frame(bytes(70_000))
            assert (await guest.closed()).code in (TOO_BIG, 1006)
        async with Guest.connect(a.connector.btp_port, websocket=False) as plain:
            plain.raw(b"GET / HTTP/1.1\r\n\r\n")
            assert (await plain.closed()).code == 1006
        assert isinstance(await b.connector.send("g.a", 5), Fulfill)


async def test_sockets_that_never_begin_a_tls_handshake_keep_nobody_out(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    monkeypatch.setattr(btp_bounds, "TLS_HANDSHAKES_MAX", 4)
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a", [PeerSettings(id="b", secret="s")], btp_tls_cert=cert, btp_tls_key=key
        )
        port = a.connector.btp_port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        for reader, _ in silent[:26]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b"", "the oldest are closed"
        url = f"wss://127.0.0.1:{port}"
        b = await network.add("b", [PeerSettings(id="a", secret="s", url=url, routes=["g.a"])])
        await b.linked("a")
        assert isinstance(await b.connector.send("g.a", 5), Fulfill)
        # One slow handshake is given up.
        monkeypatch.setattr(btp_bounds, "TLS_HANDSHAKE_SECONDS_MAX", 0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        for _, one in (*silent, (reader, writer)):
            one.close()
        assert isinstance(await b.connector.send("g.a", 5), Fulfill)


async def test_a_certificate_that_is_not_trusted_is_not_dialled(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a", [PeerSettings(id="b", secret="s")], btp_tls_cert=cert, btp_tls_key=key
        )
        url = f"wss://127.0.0.1:{a.connector.btp_port}"
        b = await network.add("b", [PeerSettings(id="a", secret="s", url=url)])
        await b.log.seen("btp_dial_failed", peer_id="a")
        error = b.connector.links.dialler.states["a"].last_error
        assert "CERTIFICATE_VERIFY_FAILED" in error or "certificate verify failed" in error
        assert not a.log.count("btp_connection_established")


async def test_a_certificate_that_cannot_be_used_is_an_error_that_names_its_settings(
    tmp_path: Path,
) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    for cert in (tmp_path / "cert.pem", tmp_path / "missing.pem"):
        settings = connector.Settings(
            data_dir=tmp_path / "data", btp_server_port=0, http_port=0,
            btp_tls_cert=cert, btp_tls_key=cert,
        )  # fmt: skip
        with pytest.raises(
            ConfigError, match=f"BTP_TLS_CERT={cert} (holds no certificate|cannot be read: No such)"
        ):
            async with Connector(settings, log=EventLog()):
                pass


async def test_the_audit_finds_nothing_while_a_peer_misbehaves(target: NodeUnderAttack) -> None:
    """Beside the running node, with money held."""
    target.offer(amount=5)
    asked, _ = await target.at_bob()
    report = await audit(target.daemon.settings, CLOCK)
    assert report.ok, report.checks
    target.bob.send(RESPONSE, asked, Reject(code="F99"))
    await target.alice.ilp()
