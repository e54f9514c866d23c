"""Simulated connections: order, loss, windows, and hosts that vanish."""

from __future__ import annotations

from typing import Any

from connector.simulation.network import Network
from connector.simulation.transport import WINDOW_BYTES, Transport
from connector.simulation.world import World


class Side:
    """An asyncio protocol that takes notes."""

    def __init__(self) -> None:
        self.got = b""
        self.said: list[str] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> None:
        self.said.append("eof")

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.said.append("lost" if error is None else type(error).__name__)


class Pair:
    """Two hosts without processes, and a connection."""

    def __init__(self) -> None:
        self.world = World(1)
        self.network = Network(self.world)
        self.link = self.network.link("a", "b")
        self.servers: list[Side] = []
        self.failures: list[OSError] = []
        self.client = Side()
        self.network.listen("b", None, self._server)

    def _server(self) -> Side:
        self.servers.append(Side())
        return self.servers[-1]

    def connect(self) -> None:
        def made(transport: Transport) -> None:
            transport.begin(self.client)

        self.network.connect("a", None, "b", made, self.failures.append)
        self.wait(1.0)

    def wait(self, seconds: float) -> None:
        self.world.after(seconds + 1, lambda: None)
        self.world.run_until(lambda: False, self.world.now_s + seconds)


def test_octets_arrive_in_order() -> None:
    pair = Pair()
    pair.connect()
    for number in range(100):
        pair.client.transport.write(bytes([number]))
    pair.wait(1.0)
    assert pair.servers[0].got == bytes(range(100))


def test_nobody_listens() -> None:
    pair = Pair()
    pair.network.connect("a", None, "c", lambda _transport: None, pair.failures.append)
    pair.wait(5.0)
    assert [type(one) for one in pair.failures] == [ConnectionRefusedError]


def test_a_cut_loses_what_is_on_its_way_and_tells_both_sides() -> None:
    pair = Pair()
    pair.connect()
    pair.client.transport.write(b"gone")
    pair.network.cut(pair.link)
    pair.wait(1.0)
    assert pair.servers[0].got == b""
    assert pair.client.said == pair.servers[0].said == ["ConnectionResetError"]
    pair.network.connect("a", None, "b", lambda _transport: None, pair.failures.append)
    pair.wait(5.0)
    assert [type(one) for one in pair.failures] == [TimeoutError]


def test_a_link_that_holds_back_delivers_later_and_in_order() -> None:
    pair = Pair()
    pair.connect()
    pair.network.hold(pair.link, "a")
    pair.client.transport.write(b"one")
    pair.client.transport.write(b"two")
    pair.wait(10.0)
    assert pair.servers[0].got == b""
    pair.network.release(pair.link, "a")
    pair.wait(1.0)
    assert pair.servers[0].got == b"onetwo"


def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    pair = Pair()
    pair.connect()
    pair.servers[0].transport.pause_reading()
    for _ in range(8):
        pair.client.transport.write(bytes(WINDOW_BYTES // 4))
    pair.wait(1.0)
    assert pair.client.said == ["pause"]
    assert pair.client.transport.get_write_buffer_size() == WINDOW_BYTES
    pair.servers[0].transport.resume_reading()
    pair.wait(1.0)
    assert pair.client.said == ["pause", "resume"]
    assert len(pair.servers[0].got) == 2 * WINDOW_BYTES


def test_a_close_comes_behind_what_was_written() -> None:
    pair = Pair()
    pair.connect()
    pair.client.transport.write(b"bye")
    pair.client.transport.close()
    pair.wait(1.0)
    assert pair.servers[0].got == b"bye"
    assert pair.servers[0].said == ["eof", "lost"]
    assert pair.client.said == ["lost"]


def test_a_host_without_power_says_nothing() -> None:
    pair = Pair()
    pair.connect()
    pair.network.host_died("b", silent=True, keep_sent=False)
    pair.client.transport.write(b"hello?")
    pair.wait(5.0)
    assert pair.client.said == []
    pair.network.host_back("b")
    pair.wait(5.0)
    assert pair.client.said == ["ConnectionResetError"]
