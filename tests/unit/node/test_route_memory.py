"""Learned routes on disk: what one process has written, the next begins with; what cannot be read costs nothing else."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import structlog

from connector.base.disk import SystemDisk
from connector.node import bounds
from connector.node.route_memory import FILE_NAME, RouteMemory
from connector.peering.routing import RoutingTable
from connector.routing import codec
from connector.routing.codec import Announcement, RouteUpdate
from connector.routing.model import NeighbourTerms
from connector.routing.router import Router
from tests.support.ledgers import ManualClock


class Process:
    """A router with its memory, as a process of the node has them."""

    def __init__(self, folder: Path, *, address: str = "g.us", receives: bool = True) -> None:
        self.clock = ManualClock()
        self.no_room = ""
        self.log = structlog.testing.CapturingLogger()
        self.table = RoutingTable()
        self.router = Router(
            self.table, secret=bytes(32), interval_ms=30_000, hold_down_ms=45_000,
            random_octets=random.Random(1).randbytes,
        )  # fmt: skip
        self.router.set_address(address, 0)
        self.router.set_neighbours(
            [NeighbourTerms(peer_id=name, receives=receives) for name in ("bob", "eve")], 0
        )
        self.memory = RouteMemory(
            database=SystemDisk().database(folder / FILE_NAME),
            router=self.router,
            clock=self.clock,
            log=self.log,
            no_room=lambda: self.no_room,
        )

    def learn(self, peer: str, *prefixes: str, hops: int = 1) -> None:
        update = RouteUpdate(
            table_id=peer.encode().ljust(16, b"\1"), current_epoch=1, from_epoch=0, to_epoch=1,
            hold_down_ms=45_000, speaker=f"g.{peer}",
            new=tuple(
                Announcement(prefix=one, path=(f"g.{peer}",) * hops, auth=bytes(32))
                for one in prefixes
            ),
        )  # fmt: skip
        request = codec.request(codec.UPDATE, codec.encode_update(update), 60_000)
        self.router.request(peer, request, 1)

    @property
    def known(self) -> set[tuple[str, str]]:
        return {
            (peer, prefix)
            for peer, one in self.router.neighbours.items()
            for prefix in one.receiver.routes
        }


async def test_the_next_process_begins_with_what_the_one_before_has_learned(tmp_path: Path) -> None:
    old = Process(tmp_path)
    await old.memory.open()
    assert old.known == set()
    many = [f"g.x{number}" for number in range(3 * bounds.ROUTES_KEPT_PER_ROW + 1)]
    old.learn("bob", *many)
    old.learn("eve", "g.eve", hops=200)
    await old.memory.tick()
    # Not closed: it was killed.
    new = Process(tmp_path)
    await new.memory.open()
    assert new.known == old.known
    assert [one.learned for one in new.table] == [one.learned for one in old.table]
    assert new.table.find("g.eve.shop") is not None
    await new.memory.close()
    await old.memory.close()


async def test_others_have_their_turn_while_many_routes_are_written(tmp_path: Path) -> None:
    one = Process(tmp_path)
    await one.memory.open()
    one.learn("bob", *(f"g.x{number}" for number in range(20 * bounds.ROUTES_KEPT_PER_ROW)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns == 3:
                one.learn("eve", "g.eve")  # is in the next write, if not in this one
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(others())
    await one.memory.tick()
    counting.cancel()
    assert turns >= 20
    await one.memory.close()
    new = Process(tmp_path)
    await new.memory.open()
    assert new.known == one.known
    await new.memory.close()


async def test_the_room_that_is_left_on_the_disk_is_not_for_routes(tmp_path: Path) -> None:
    one = Process(tmp_path)
    await one.memory.open()
    one.no_room = "the disk is nearly full"
    one.learn("bob", "g.bob")
    await one.memory.tick()
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        assert other.execute("SELECT count(*) FROM learned").fetchone() == (0,)
    other.close()
    one.no_room = ""
    await one.memory.tick()
    await one.memory.close()
    new = Process(tmp_path)
    await new.memory.open()
    assert new.known == {("bob", "g.bob")}
    await new.memory.close()


async def test_only_changes_are_written(tmp_path: Path) -> None:
    one = Process(tmp_path)
    await one.memory.open()
    one.learn("bob", "g.bob")
    await one.memory.tick()
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("DELETE FROM learned")
    other.close()
    await one.memory.tick()
    await one.memory.close()
    again = Process(tmp_path)
    await again.memory.open()
    assert again.known == set()
    await again.memory.close()


async def test_what_is_damaged_or_of_another_address_is_left_out(tmp_path: Path) -> None:
    one = Process(tmp_path)
    await one.memory.open()
    one.learn("bob", "g.bob")
    one.learn("eve", "g.eve")
    await one.memory.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("UPDATE learned SET octets = substr(octets, 1, 40) WHERE peer = 'bob'")
        other.execute("INSERT INTO learned VALUES ('bob', 'g.us', 'no octets')")
        other.execute("INSERT INTO learned VALUES ('nobody', 'g.us', x'00')")
    other.close()
    again = Process(tmp_path)
    await again.memory.open()
    assert again.known == {("eve", "g.eve")}
    elsewhere = Process(tmp_path, address="g.other")
    await elsewhere.memory.open()
    assert elsewhere.known == set()
    for process in (again, elsewhere):
        assert process.log.calls == []
        await process.memory.close()


async def test_a_file_that_is_none_is_told_once_and_the_node_goes_on(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database at all" * 100)
    one = Process(tmp_path)
    await one.memory.open()
    one.learn("bob", "g.bob")
    await one.memory.tick()
    await one.memory.close()
    assert [call.args[0] for call in one.log.calls] == ["learned_routes_not_kept"]


async def test_where_no_routes_are_taken_there_is_no_file(tmp_path: Path) -> None:
    one = Process(tmp_path, receives=False)
    await one.memory.open()
    await one.memory.tick()
    await one.memory.close()
    assert not (tmp_path / FILE_NAME).exists()


async def test_of_many_routes_the_first_are_kept(tmp_path: Path) -> None:
    one = Process(tmp_path)
    await one.memory.open()
    prefixes = [f"g.x{number}" for number in range(bounds.ROUTES_KEPT_PER_PEER_MAX + 10)]
    for at in range(0, len(prefixes), 255):
        update = prefixes[at : at + 255]
        one.router.neighbours["bob"].receiver.epoch = 0
        one.learn("bob", *update)
    await one.memory.close()
    again = Process(tmp_path)
    await again.memory.open()
    assert len(again.known) == bounds.ROUTES_KEPT_PER_PEER_MAX
    await again.memory.close()
