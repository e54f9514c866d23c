"""The cost of telemetry: `python benchmarks/telemetry.py bus`, `load` and `store [--hours 24]`.

`bus`: microseconds a packet on the packet path and in the flushes, at 5,000 packets a second of
simulated time, without viewers and with 1 and 5 that read everything.

`load`: milliseconds of CPU a second for the events of 200 packets a second, in the event loop and
in the whole process with the store's thread.

`store`: writes so many hours of 200 whole packets a second into a store with the default limits;
prints its size, its rows and the time of typical queries.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))

from connector.base.clock import SystemClock
from connector.base.disk import SystemDisk
from connector.ilp.packet import Prepare
from connector.peering.model import Asset, Peer, PeerTerms
from connector.switch.driver import Flight, ReplyTo, Story
from connector.switch.observer import PacketObserver
from connector.switch.switch import Result
from connector.telemetry.bus import EventBus
from connector.telemetry.events import (
    AccountBalance,
    Event,
    PacketForwarded,
    PacketFulfilled,
    PacketReceived,
)
from connector.telemetry.store import EventStore
from connector.telemetry.store_query import EventQuery

PER_SECOND = 5000
USD = Asset("USD", 9)


class Clock:
    """Simulated time."""

    def __init__(self) -> None:
        self.ns = SystemClock().now_ns()

    def now_ms(self) -> int:
        return self.ns // 1_000_000

    def now_ns(self) -> int:
        return self.ns

    def monotonic_s(self) -> float:
        return self.ns / 1e9


class Quiet:
    """A log that nobody reads."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None:
        print(event, fields)

    error = warning


def bus(viewers: int, seconds: int = 20) -> tuple[float, float]:
    """Microseconds a packet: on its path, and in the flushes."""
    clock = Clock()
    events = EventBus(node_id="me", clock=clock)
    readers = [events.join(None)[0] for _ in range(viewers)]
    observer = PacketObserver(
        emit=events.emit,
        log=Quiet(),
        monotonic_s=clock.monotonic_s,
        packets_per_second=200,
        own_address=lambda: "g.me",
    )
    source = Peer(PeerTerms(peer_id="alice", asset=USD))
    prepare = Prepare(amount=1, expires_at_ms=0, condition=bytes(32), destination="g.bob.x")
    result = Result(b"", code=None, next_hop="bob", amount_out=1)
    packets = PER_SECOND // 20
    flights = [
        Flight(cast(Story, None), source, prepare, number << 8, 0, cast(ReplyTo, None), 0)
        for number in range(packets)
    ]
    path_s = flush_s = 0.0
    for _ in range(20 * seconds):
        clock.ns += 50_000_000
        now_s = clock.monotonic_s()
        began_s = process_time()
        for flight in flights:
            flight.began_s = now_s
            flight.trace = observer.began(flight)
            observer.ended(flight, result)
        path_s += process_time() - began_s
        began_s = process_time()
        for net, peer in enumerate(("alice", "bob")):
            events.emit(_balance(peer, net))
        events.flush()
        flush_s += process_time() - began_s
        for reader in readers:
            reader.clear()
    count = 20 * seconds * packets
    return path_s / count * 1e6, flush_s / count * 1e6


def _balance(peer_id: str, net: int) -> AccountBalance:
    return AccountBalance(
        peer_id=peer_id,
        asset_code="USD",
        asset_scale=9,
        debit_balance=net,
        credit_balance=0,
        net_balance=net,
        pending_debits=0,
        pending_credits=0,
        credit_limit=10**9,
        available_credit=10**9,
        settlement_threshold=None,
    )


async def store(hours: float, events_max: int) -> None:
    """Replay and ask."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.sqlite"
        kept = EventStore(
            path=path,
            disk=SystemDisk(),
            node_id="me",
            clock=clock,
            log=Quiet(),
            events_max=events_max,
            bytes_max=1 << 30,
            retention_days=7,
        )
        await kept.open()
        events = EventBus(node_id="me", clock=clock)
        events.hand_to(kept.take)
        observer = PacketObserver(
            emit=events.emit,
            log=Quiet(),
            monotonic_s=clock.monotonic_s,
            packets_per_second=200,
            own_address=lambda: "g.me",
        )
        peers = [Peer(PeerTerms(peer_id=f"peer-{n}", asset=USD)) for n in range(10)]
        prepare = Prepare(amount=1, expires_at_ms=0, condition=bytes(32), destination="g.bob.x")
        began_s = perf_counter()
        number = 0
        for _ in range(int(hours * 3600)):
            clock.ns += 1_000_000_000
            for _ in range(200):
                number += 1
                source, target = peers[number % 10], peers[number % 9]
                flight = Flight(
                    cast(Story, None), source, prepare, number << 8, 0, cast(ReplyTo, None), 0
                )
                flight.began_s = clock.monotonic_s()
                flight.trace = observer.began(flight)
                observer.ended(flight, Result(b"", code=None, next_hop=target.peer_id))
            for peer in peers:
                events.emit(_balance(peer.peer_id, number))
            events.flush()
            await kept.write()
        took_s = perf_counter() - began_s
        print(f"{hours} h replayed in {took_s:.0f} s: {number:,} packets, {kept.dropped} dropped")
        print(f"{kept.stored:,} events of at most {events_max:,}; {kept.history_points:,} balances")
        print(f"file {path.stat().st_size / 1e6:.0f} MB")
        now_ms = clock.now_ms()
        for name, query in (
            ("newest", EventQuery()),
            ("one type", EventQuery(types=["PACKET_FULFILLED"], count=1000)),
            ("a rare type", EventQuery(types=["SETTLEMENT_FAILED"])),
            ("one peer", EventQuery(peer="peer-3")),
            (
                "a time",
                EventQuery(
                    types=["PACKET_RECEIVED"], from_ms=now_ms - 600_000, to_ms=now_ms - 500_000
                ),
            ),
            ("a packet", EventQuery(packet=f"{(number - 5) << 8:032x}")),
        ):
            print(f"{name}: {await _best_ms(kept.events(query) for _ in range(5)):.1f} ms")
        for name, range_s in (("an hour", 3600), ("a day", 86_400)):
            best = await _best_ms(
                kept.history("peer-3", USD, now_ms - range_s * 1000, now_ms, 300) for _ in range(5)
            )
            print(f"history of {name}: {best:.1f} ms")
        await kept.close()


async def load(seconds: int = 30) -> None:
    """Emit, flush and write the events of 200 packets a second."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        kept = EventStore(
            path=Path(folder) / "events.sqlite",
            disk=SystemDisk(),
            node_id="me",
            clock=clock,
            log=Quiet(),
            events_max=1_000_000,
            bytes_max=1 << 30,
            retention_days=7,
        )
        await kept.open()
        events = EventBus(node_id="me", clock=clock)
        events.hand_to(kept.take)
        number = 0
        loop_s = process_s = 0.0
        for flush in range(20 * seconds):
            clock.ns += 50_000_000
            began_s = thread_time(), process_time()
            for _ in range(10):
                number += 1
                for event in _packet(number << 8, clock.now_ms()):
                    events.emit(event)
            events.flush()
            if flush % 10 == 9:
                await kept.write()
            loop_s += thread_time() - began_s[0]
            process_s += process_time() - began_s[1]
        await kept.close()
    print(
        f"600 events a second: {loop_s / seconds * 1000:.1f} ms a second in the event loop, "
        f"{process_s / seconds * 1000:.1f} ms in the process"
    )


def _packet(packet_id: int, now_ms: int) -> tuple[Event, ...]:
    packet: dict[str, Any] = {
        "packet_id": packet_id,
        "peer_id": "alice",
        "destination": "g.hub.bob.x",
        "amount": 1,
    }
    return (
        PacketReceived(**packet, expires_at=now_ms + 30_000, execution_condition=bytes(32)),
        PacketForwarded(**packet, next_hop="bob", fee=0),
        PacketFulfilled(
            **packet,
            next_hop="bob",
            duration_ms=1.5,
            reserved_ms=0.1,
            forwarded_ms=0.2,
            answered_ms=1.3,
            posted_ms=1.5,
            reserve_ids=f"{packet_id:032x} {packet_id + 1:032x}",
            resolve_ids=f"{packet_id + 2:032x} {packet_id + 3:032x}",
        ),
    )


async def _best_ms(asked: Any) -> float:
    took = []
    for one in asked:
        began_s = perf_counter()
        await one
        took.append((perf_counter() - began_s) * 1000)
    return min(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("bus", "load", "store"))
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--max-events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.what == "store":
        asyncio.run(store(arguments.hours, arguments.max_events))
        return
    if arguments.what == "load":
        asyncio.run(load())
        return
    for viewers in (0, 1, 5):
        path_us, flush_us = bus(viewers)
        print(
            f"{viewers} viewers: {path_us:.2f} us a packet on its path, {flush_us:.2f} in flushes"
        )


if __name__ == "__main__":
    main()
