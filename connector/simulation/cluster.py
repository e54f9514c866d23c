"""A TigerBeetle cluster that several nodes share, in virtual time.

The rules are `ledger.machine`. Simulated are latency, requests that arrive after their sender has
timed out, lost acknowledgements, a cluster that is unreachable, slow or silent, and a replaced data
file. The judge reads `rows`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.ledger.machine import LedgerMachine
from connector.ledger.model import Account, AccountStatus, Kept, Status, Transfer
from connector.simulation.world import START_NS, ProcessLoop, World

LATENCY_S: Final = 0.001
TIMEOUT_S: Final = 1.0
BATCH_TRANSFERS: Final = 8189
LINGERS_S: Final = (0.05, 1.5)
"""How long a request is on its way at most that was given up while the cluster was away."""
AFTER_A_LOOK: Final = 0.25
"""The share of these that arrive just after one of the next looks at accounts, if it comes in that time."""
LOST_WITH_MACHINE: Final = 0.5
"""The share of requests on their way that are lost with the machine that has sent them."""
RESTART_S: Final = 1.0
"""How long there are no answers when a data file is replaced: the server is restarted."""
_NS: Final = 1_000_000_000

Row = tuple[int, ...]
"""A transfer as the cluster has it, in TigerBeetle's order of fields."""


def copied(machine: LedgerMachine) -> LedgerMachine:
    """A machine with the same accounts, holds and records, which goes on by itself."""
    twin = LedgerMachine()
    twin.restore(
        [state.snapshot() for state in machine.accounts.values()],
        [hold.transfer for hold in machine.holds.values()],
        machine.timestamp,
    )
    for record in machine.records():
        twin.remember(record)
    return twin


class Data:
    """A data file: accounts and transfers, and what the cluster makes of them."""

    def __init__(self) -> None:
        self.machine = LedgerMachine()
        self.rows: list[Row] = []
        """Every transfer, oldest first."""
        self.accounts: dict[int, Account] = {}
        """Every account as it was created."""
        self.by_id: dict[int, Transfer] = {}
        self.by_tag: dict[int, list[Transfer]] = {}

    def add(self, stored: Transfer) -> None:
        """Note a transfer that was created."""
        self.rows.append(tuple(stored))
        self.by_id[stored.id] = stored
        if stored.user_data_128:
            self.by_tag.setdefault(stored.user_data_128, []).append(stored)

    def copy(self) -> Data:
        """The same, which goes on by itself."""
        twin = Data()
        twin.machine = copied(self.machine)
        twin.accounts = dict(self.accounts)
        for row in self.rows:
            twin.add(self.by_id[row[0]])
        return twin

    def posted(self, account_id: int) -> tuple[int, int]:
        """Debits and credits of an account; nothing where there is none."""
        state = self.machine.accounts.get(account_id)
        if state is None:
            return 0, 0
        account = state.snapshot()
        return account.debits_posted, account.credits_posted


class Way:
    """The connection of one node to the cluster, and its current faults."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.latency_s = LATENCY_S
        self.away = False
        """Requests do not arrive; some of them arrive later, after their sender has timed out."""
        self.loses_answers = False
        """Requests are executed and their answers are lost."""
        self.refused = ""
        """The reason for which sessions are refused; empty: they are not."""
        self.lingering: list[Callable[[], object]] = []
        self.read_by: object = None
        """The event loop of the process that read the newest transfers last, as each start does."""
        self.after_a_look: list[Callable[[], object]] = []
        """Late requests that arrive when this node has looked at accounts: what it saw is old then."""

    def no_look(self, late: Callable[[], object]) -> None:
        """A late request arrives if the node has not looked meanwhile."""
        if late in self.after_a_look:
            self.after_a_look.remove(late)
            late()


class Cluster:
    """The state of the cluster, and the connections to it."""

    def __init__(self, world: World) -> None:
        self.world: Final = world
        self.data = Data()
        """In use."""
        self._ways: dict[str, Way] = {}
        self._right: Data | None = None
        self._put_back_s = float("-inf")
        self._rows_copied = 0
        self._restarts_until_s = 0.0
        self.sessions = 0
        """How often all sessions have ended, with the data file that they were in."""
        self.misplaced = 0
        """Transfers that were created while another data file was in place."""
        self.late_ids: set[int] = set()
        """Transfers of requests that arrived after their sender had timed out, or had been killed and
        the process that followed it had read the newest transfers."""
        self.lost: set[ProcessLoop] = set()
        """Processes whose machines are gone: what is on its way from there may be gone with it."""
        self.on_operation: Callable[[str, str], None] = lambda _host, _what: None

    def way(self, host: str) -> Way:
        """The connection of `host`."""
        found = self._ways.get(host)
        if found is None:
            found = self._ways[host] = Way(self.world.random(f"cluster {host}"))
        return found

    def now_ns(self) -> int:
        """The cluster's clock, which is always correct."""
        return START_NS + int(self.world.now_s * _NS)

    def back(self, host: str) -> None:
        """The cluster is reachable again; some earlier requests arrive only now."""
        way = self.way(host)
        way.away = False
        lingering, way.lingering = way.lingering, []
        for one in lingering:
            if way.chance.random() < AFTER_A_LOOK:
                way.after_a_look.append(one)
                self.world.after(max(LINGERS_S), way.no_look, one)
            else:
                self.world.after(way.chance.random() * way.chance.choice(LINGERS_S), one)

    @property
    def has_forgotten(self) -> bool:
        """Whether another data file is in place."""
        return self._right is not None

    @property
    def had_forgotten(self) -> bool:
        """Whether another data file is in place, or was when a request of now was made."""
        return self.has_forgotten or self.world.now_s - self._put_back_s < TIMEOUT_S

    @property
    def rows(self) -> list[Row]:
        """Every transfer, oldest first."""
        return self.data.rows

    def replace(self, data: Data) -> None:
        """Put another data file in the place of the right one, under the same cluster id."""
        assert self._right is None, "replaced already"
        self._right, self.data = self.data, data
        self._rows_copied = len(data.rows)
        self._restart()

    def recall(self) -> None:
        """The right data file is restored; bookings in the other one count as misplaced."""
        assert self._right is not None, "it was not replaced"
        self.misplaced += len(self.data.rows) - self._rows_copied
        self.data, self._right = self._right, None
        self._put_back_s = self.world.now_s
        self._restart()

    def _restart(self) -> None:
        self.sessions += 1
        self._restarts_until_s = self.world.now_s + RESTART_S

    @property
    def is_restarting(self) -> bool:
        """Whether requests get lost."""
        return self.world.now_s < self._restarts_until_s

    # --- executed at the cluster

    def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """See `Ledger`."""
        data = self.data
        statuses = data.machine.create_accounts(accounts, self.now_ns())
        for account, status in zip(accounts, statuses, strict=True):
            if status is AccountStatus.CREATED:
                data.accounts[account.id] = account
        return statuses

    def create_transfers(self, transfers: Sequence[Transfer]) -> list[Status]:
        """See `Ledger`."""
        data = self.data
        machine = data.machine
        if not transfers:
            machine.expire(self.now_ns())
            return []
        statuses = machine.create_transfers(transfers, self.now_ns())
        for stored, status in zip(machine.stored(transfers, statuses), statuses, strict=True):
            if status is Status.CREATED:
                data.add(stored)
        return statuses

    def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """See `Ledger`."""
        self.data.machine.expire(self.now_ns())
        accounts = self.data.machine.accounts
        return [accounts[id_].snapshot() for id_ in ids if id_ in accounts]

    def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """See `Ledger`."""
        by_id = self.data.by_id
        return [by_id[id_] for id_ in ids if id_ in by_id]

    def node_accounts(self, node_tag: int) -> list[Account]:
        """See `Ledger`."""
        self.data.machine.expire(self.now_ns())
        states = self.data.machine.accounts.values()
        return [one.snapshot() for one in states if one.user_data_128 == node_tag]

    def recent_transfers(self, since_ns: int) -> list[Transfer]:
        """See `Ledger`."""
        found: list[Transfer] = []
        for row in reversed(self.rows):
            if row[12] < since_ns or len(found) == 100_000:
                break
            found.append(self.data.by_id[row[0]])
        found.reverse()
        return found

    def tagged_transfers(self, tags: Sequence[int], since_ns: int) -> list[Transfer]:
        """See `Ledger`."""
        found = [
            transfer
            for tag in dict.fromkeys(tags)
            for transfer in self.data.by_tag.get(tag, ())
            if transfer.timestamp >= since_ns
        ]
        return sorted(found, key=lambda transfer: transfer.timestamp)


class ClusterClient:
    """The cluster as one process has it: a `Ledger`."""

    backend = "tigerbeetle"
    may_be_away = True
    keeps_books = True
    fulfilments = None
    waits_for_commits = None

    def __init__(
        self, cluster: Cluster, host: str, loop: ProcessLoop, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._cluster = cluster
        self._host = host
        self._loop = loop
        self._timeout_s = timeout_s
        self._is_open = False
        self._free_at_s = 0.0
        self._session = cluster.sessions
        self.was_refused = False
        """Whether the cluster has refused this process; the operator has to act then."""

    @property
    def batch_transfers_max(self) -> int:
        """See `Ledger`."""
        return BATCH_TRANSFERS

    async def open(self) -> None:
        """See `Ledger`."""
        self._is_open = True
        self._session = self._cluster.sessions
        await self._ask(self._cluster.lookup_accounts, [1])

    async def close(self) -> None:
        """See `Ledger`."""
        self._is_open = False

    async def highest_id(self) -> int:
        """See `Ledger`: a cluster finds every id at the same cost."""
        return 0

    async def maintain(self) -> str:
        """See `Ledger`: nothing to do."""
        return ""

    async def _ask(self, work: Callable[..., Any], *args: Any) -> Any:
        """Send one request, within the deadline.

        Raises:
            LedgerRefusedError: the session was refused.
            LedgerUnavailableError: no answer; the request was executed, or may be later, or is lost.
        """
        cluster, loop = self._cluster, self._loop
        way = cluster.way(self._host)
        if not self._is_open:
            raise LedgerUnavailableError("the ledger is not open")
        if way.refused:
            self.was_refused = True
            await asyncio.sleep(way.latency_s)
            raise LedgerRefusedError(way.refused, "the simulated cluster refuses the session")
        if self._session != cluster.sessions and not way.away and not cluster.is_restarting:
            self._session = cluster.sessions
            self.was_refused = True
            await asyncio.sleep(way.latency_s)
            raise LedgerRefusedError("session_evicted", "the simulated cluster knows no session")
        future: asyncio.Future[Any] = loop.create_future()
        session = self._session

        def carry_out() -> Any:
            cluster.on_operation(self._host, "before the ledger")
            result = work(*args)
            cluster.on_operation(self._host, "after the ledger")
            return result

        def arrive() -> None:
            if cluster.is_restarting or session != cluster.sessions:
                return  # its session has ended, and with it the request
            if loop in cluster.lost and way.chance.random() < LOST_WITH_MACHINE:
                return
            if way.away:
                if way.chance.random() < 0.4:
                    way.lingering.append(arrive)
                return
            before = len(cluster.rows)
            result = carry_out()
            if work == cluster.recent_transfers:
                way.read_by = loop
            was_killed = not loop.alive and way.read_by is not loop
            if future.done() or was_killed:
                cluster.late_ids.update(row[0] for row in cluster.rows[before:])
            if way.after_a_look and work == cluster.lookup_accounts:
                # Some after this look, some after the next one.
                for late in [one for one in way.after_a_look if way.chance.random() < 0.5]:
                    way.after_a_look.remove(late)
                    cluster.world.after(0, late)
            if not way.loses_answers and loop.alive:
                cluster.world.after(way.latency_s * (0.5 + way.chance.random()), answer, result)

        def answer(result: Any) -> None:
            loop.run_now(_set, future, result)

        # One session, one request after the other.
        world = cluster.world
        arrives_s = max(world.now_s + way.latency_s * (0.5 + way.chance.random()), self._free_at_s)
        self._free_at_s = arrives_s + 1e-6
        world.at(arrives_s, arrive)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await future
        except TimeoutError:
            raise LedgerUnavailableError("the simulated cluster does not answer") from None

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """See `Ledger`."""
        result: list[AccountStatus] = await self._ask(self._cluster.create_accounts, list(accounts))
        return result

    async def create_transfers(
        self, transfers: Sequence[Transfer], kept: Sequence[Kept] = ()
    ) -> list[Status]:
        """See `Ledger`."""
        assert not kept, "a cluster keeps transfers alone"
        result: list[Status] = await self._ask(self._cluster.create_transfers, list(transfers))
        return result

    async def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """See `Ledger`."""
        result: list[Account] = await self._ask(self._cluster.lookup_accounts, list(ids))
        return result

    async def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """See `Ledger`."""
        result: list[Transfer] = await self._ask(self._cluster.lookup_transfers, list(ids))
        return result

    async def node_accounts(self, node_tag: int) -> list[Account]:
        """See `Ledger`."""
        result: list[Account] = await self._ask(self._cluster.node_accounts, node_tag)
        return result

    async def recent_transfers(self, since_ns: int) -> list[Transfer]:
        """See `Ledger`."""
        result: list[Transfer] = await self._ask(self._cluster.recent_transfers, since_ns)
        return result

    async def tagged_transfers(
        self, tags: Sequence[int], since_ns: int, *, by_ledger: bool = False
    ) -> list[Transfer]:
        """See `Ledger`."""
        result: list[Transfer] = await self._ask(
            self._cluster.tagged_transfers, list(tags), since_ns
        )
        return result


def _set(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)
