"""The simulated cluster: requests that are executed, that are not, and that are executed late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.ledger.model import Account, Status, Transfer
from connector.simulation.cluster import Cluster, ClusterClient, Data
from connector.simulation.world import World

TRANSFER = Transfer(id=7, debit_account_id=1, credit_account_id=2, amount=5, ledger=1, code=1)


class Place:
    """A cluster with two accounts, and one process that uses it."""

    def __init__(self) -> None:
        self.world = World(1)
        self.cluster = Cluster(self.world)
        self.loop = self.world.new_process("a")
        self.client = ClusterClient(self.cluster, "a", self.loop)
        self.cluster.create_accounts(
            [Account(id=1, ledger=1, code=1), Account(id=2, ledger=1, code=1)]
        )
        self.do(self.client.open)

    def do(self, work: Callable[[], Awaitable[object]]) -> None:
        done: list[bool] = []

        async def run() -> None:
            await work()
            done.append(True)

        self.loop.run_now(lambda: self.loop.create_task(run()))
        self.world.run_until(lambda: bool(done) or bool(self.loop.faults), self.world.now_s + 60)
        assert done


async def _unavailable(client: ClusterClient) -> None:
    with pytest.raises(LedgerUnavailableError):
        await client.create_transfers([TRANSFER])


async def _evicted(client: ClusterClient) -> None:
    with pytest.raises(LedgerRefusedError):
        await client.lookup_accounts([1])


def test_transfers_are_carried_out_and_stand_in_the_rows() -> None:
    place = Place()

    async def work() -> None:
        assert await place.client.create_transfers([TRANSFER]) == [Status.CREATED]
        assert await place.client.create_transfers([TRANSFER]) == [Status.EXISTS]
        assert [one.amount for one in await place.client.lookup_transfers([7])] == [5]

    place.do(work)
    assert [row[:4] for row in place.cluster.rows] == [(7, 1, 2, 5)]


def test_an_answer_that_is_lost_leaves_the_work_done() -> None:
    place = Place()
    place.cluster.way("a").loses_answers = True
    place.do(lambda: _unavailable(place.client))
    assert len(place.cluster.rows) == 1


def test_a_cluster_that_is_away_does_nothing_until_it_is_back() -> None:
    place = Place()
    place.cluster.way("a").away = True
    for _ in range(8):
        place.do(lambda: _unavailable(place.client))
    assert place.cluster.rows == []
    place.cluster.back("a")
    place.world.after(1.0, lambda: None)
    place.world.run_until(lambda: False, place.world.now_s + 0.5)
    # Some of the requests had reached it, and are carried out now that nobody waits for them.
    assert len(place.cluster.rows) == 1
    assert place.cluster.late_ids == {TRANSFER.id}


@pytest.mark.parametrize("has_started", [True, False])
def test_a_request_of_a_killed_process_is_late_once_its_successor_has_read(
    has_started: bool,
) -> None:
    """Before that, its successor finds what it made."""
    place = Place()
    place.do(lambda: place.client.recent_transfers(0))
    place.cluster.way("a").latency_s = 5.0
    place.loop.run_now(lambda: place.loop.create_task(place.client.create_transfers([TRANSFER])))
    place.world.run_until(lambda: False, place.world.now_s + 0.1)
    place.loop.kill()
    place.cluster.way("a").latency_s = 0.01
    if has_started:
        place.loop = place.world.new_process("a")
        successor = ClusterClient(place.cluster, "a", place.loop)
        place.do(successor.open)
        place.do(lambda: successor.recent_transfers(0))
        assert not place.cluster.rows
    place.world.after(20.0, lambda: None)
    place.world.run_until(lambda: False, place.world.now_s + 10)
    assert len(place.cluster.rows) == 1
    assert place.cluster.late_ids == ({TRANSFER.id} if has_started else set())


def test_a_refused_session_says_why() -> None:
    place = Place()
    place.cluster.way("a").refused = "session_evicted"

    async def work() -> None:
        with pytest.raises(LedgerRefusedError):
            await place.client.create_transfers([TRANSFER])

    place.do(work)


def test_a_data_file_that_was_replaced_knows_nothing_until_the_right_one_is_back() -> None:
    place = Place()
    place.do(lambda: place.client.create_transfers([TRANSFER]))
    place.cluster.replace(Data())
    assert place.cluster.has_forgotten

    async def nobody() -> None:
        await _unavailable(place.client)  # its server restarts
        await _evicted(place.client)
        assert await place.client.lookup_accounts([1, 2]) == []
        assert await place.client.lookup_transfers([7]) == []

    place.do(nobody)
    place.cluster.recall()
    assert not place.cluster.has_forgotten
    assert place.cluster.misplaced == 0

    async def found() -> None:
        await _unavailable(place.client)
        await _evicted(place.client)
        assert [one.id for one in await place.client.lookup_accounts([1, 2])] == [1, 2]
        assert [one.id for one in await place.client.lookup_transfers([7])] == [7]

    place.do(found)


def test_what_is_booked_into_another_data_file_is_counted() -> None:
    place = Place()
    place.cluster.replace(Data())
    place.cluster.create_accounts(
        [Account(id=1, ledger=1, code=1), Account(id=2, ledger=1, code=1)]
    )
    assert place.cluster.create_transfers([TRANSFER]) == [Status.CREATED]
    place.cluster.recall()
    assert place.cluster.misplaced == 1


def test_an_older_copy_knows_what_was_booked_before_it_was_made() -> None:
    place = Place()
    place.do(lambda: place.client.create_transfers([TRANSFER]))
    copy = place.cluster.data.copy()
    place.do(lambda: place.client.create_transfers([TRANSFER._replace(id=8)]))
    assert (copy.posted(1), place.cluster.data.posted(1)) == ((5, 0), (10, 0))
    place.cluster.replace(copy)
    assert place.cluster.create_transfers([TRANSFER]) == [Status.EXISTS]
    assert place.cluster.create_transfers([TRANSFER._replace(id=9)]) == [Status.CREATED]
    place.cluster.recall()
    assert place.cluster.misplaced == 1
    assert [row[0] for row in place.cluster.rows] == [7, 8]


def test_a_session_ends_with_its_data_file() -> None:
    place = Place()
    place.cluster.replace(place.cluster.data.copy())
    place.world.after(2.0, lambda: None)
    place.world.run_until(lambda: False, place.world.now_s + 1.5)

    async def work() -> None:
        await _evicted(place.client)
        assert await place.client.create_transfers([TRANSFER]) == [Status.CREATED]

    place.do(work)
