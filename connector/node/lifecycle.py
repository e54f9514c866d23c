"""Opens, starts, stops and closes the core of a node, in the daemon and in the simulator.

    open    outbox, ledger, accounts, settlements           close   the same in reverse
    start   writer, ticks, settlements, links, dialling     stop    the same in reverse

No peer can connect before packets can be accounted for. A stop rejects new packets, waits a bounded
time for packets in flight, closes the links and lets the writer finish its queue. To simulate a
crash, the tasks of the group given to `start` are cancelled, and everything else is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from connector.accounting import bounds
from connector.accounting.manager import State
from connector.accounting.outbox import FILE_NAME as OUTBOX_FILE
from connector.base import limits
from connector.base.disk import Disk, HeldByAnotherError, Hold
from connector.base.errors import LedgerLockedError, LedgerUnavailableError
from connector.ledger.embedded import FILE_NAME as LEDGER_FILE
from connector.node.bounds import CONTROL_TICK_SECONDS
from connector.node.core import Core
from connector.node.memory import FormerLinks
from connector.peering.model import Asset, PeerTerms
from connector.settings.model import Settings
from connector.settings.terms import wallets_of

TICK_SECONDS: Final = 0.02
SLOW_TICK_SECONDS: Final = 1.0
LOOK_UP_PAUSE_TIMES: Final = 4
"""A look-up of resent packets is followed by a pause of this many times its duration."""


def lock_path(settings: Settings) -> Path:
    """The file that the active process on a DATA_DIR keeps locked."""
    own = LEDGER_FILE if settings.tigerbeetle_cluster_id is None else OUTBOX_FILE
    return settings.data_dir / f"{own}.lock"


def hold_data_dir(disk: Disk, settings: Settings) -> Hold:
    """Lock DATA_DIR for this process.

    Raises:
        LedgerLockedError: another process uses it.
        LedgerUnavailableError: it cannot be written.
    """
    path = lock_path(settings)
    try:
        return disk.hold(path)
    except HeldByAnotherError as error:
        raise LedgerLockedError(
            f"{path.with_suffix('')} is in use by process {error.owner}; "
            "stop it, or give this node a DATA_DIR of its own"
        ) from None
    except OSError as error:
        raise LedgerUnavailableError(
            f"DATA_DIR: cannot write in {path.parent}: {error.strerror or error}"
        ) from error


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` after each pause of `seconds`, until cancelled or until it raises."""
    while True:
        await asyncio.sleep(seconds)
        await work()


class Lifecycle:
    """Opens, starts, stops and closes one core, once each, in this order.

        life = Lifecycle(core)
        try:
            await life.open()
            async with asyncio.TaskGroup() as group:
                try:
                    await life.start(group)
                    ...
                finally:
                    await life.stop()
        finally:
            await life.close()

    `stop` and `close` undo what was done, even if `start` or `open` failed half-way. To crash,
    cancel the task that holds the group and call neither.
    """

    def __init__(self, core: Core) -> None:
        self.btp_port = 0
        """Where peers connect, once started."""
        self.ilp_http_port = 0
        """Where they post packets, once started; 0: nowhere."""
        self._core = core
        self._ledger_warning = ""
        self._waits_for_commits: dict[str, bool] = {}
        self._former_links: Final = FormerLinks(core.settings, core.platform)
        self._opened = contextlib.AsyncExitStack()
        self._started = contextlib.AsyncExitStack()

    # --- files and ledger

    async def open(self, former: Iterable[PeerTerms] = ()) -> list[str]:
        """Open the files and the ledger, and load the balances.

        Args:
            former: peers without terms that may still have a balance.

        Returns:
            The ids of those of `former` with a balance of zero; they were dropped.

        Raises:
            ConnectorError: a file or the ledger cannot be used; the message says which.
        """
        core, stack = self._core, self._opened
        settings, accounts = core.settings, core.accounts
        gone = list(former)
        if settings.ledger == "memory":
            core.log.warning("ledger_in_memory", detail="balances are lost when this node stops")
        if accounts.ledger.may_be_away:
            # An embedded ledger has a lock of its own.
            stack.callback(hold_data_dir(core.platform.disk, settings).close)
        stack.push_async_callback(accounts.close)
        stack.push_async_callback(core.outbox.close)
        await core.outbox.open()
        assets = [Asset(settings.asset_code, settings.asset_scale)]
        await accounts.open(
            (peer.terms for peer in core.peers), assets, gone, wallets=wallets_of(settings)
        )
        stack.push_async_callback(core.settlements.close)
        await core.settlements.open()
        stack.push_async_callback(core.route_memory.close)
        await core.route_memory.open()
        if accounts.state is not State.AVAILABLE:
            return []  # balances are not certain; the reason was logged with the state
        even = self._forget_even(gone)
        core.log.info(
            "accounting_initialized",
            backend=accounts.ledger.backend,
            cluster_id=settings.tigerbeetle_cluster_id,
            replicas=settings.tigerbeetle_replicas,
        )
        return even

    def _forget_even(self, former: list[PeerTerms]) -> list[str]:
        """Drop removed peers whose balance is zero; returns their ids.

        None while something is queued: a post that is not booked needs the accounts of its peers.
        """
        core = self._core
        if core.accounts.queue_depth():
            return []
        even = [
            one.peer_id
            for one in former
            if core.accounts.peers[one.peer_id].is_even
            and core.settlements.under_way(one.peer_id) is None
        ]
        for peer_id in even:
            core.accounts.forget_peer(peer_id)
        return even

    async def close(self) -> None:
        """Close ledger and files. Safe to call twice."""
        await self._opened.aclose()

    # --- tasks and connections

    async def start(
        self,
        group: asyncio.TaskGroup,
        tls: ssl.SSLContext | None = None,
        http_tls: ssl.SSLContext | None = None,
    ) -> None:
        """Start all tasks, as tasks of `group`, and listen for peers.

        Args:
            group: owner of the tasks; a task that raises is a bug and ends the node.
            tls: for connections of peers; None: without TLS.
            http_tls: the same for ILP over HTTP.

        Raises:
            ListenError: the port cannot be used.
        """
        core, stack = self._core, self._started
        accounts, settings = core.accounts, core.settings
        core.applier.add_routes()
        await core.room.look()  # no packet comes before it is known
        # The exit stack runs in reverse: what is pushed last is undone first.
        writer = [group.create_task(accounts.run()), group.create_task(accounts.reconnect())]
        stack.push_async_callback(self._drain, writer)
        tickers = [
            group.create_task(every(TICK_SECONDS, self._tick)),
            group.create_task(every(TICK_SECONDS, self._look_up)),
            group.create_task(every(TICK_SECONDS, self._after_standstill)),
            group.create_task(every(SLOW_TICK_SECONDS, self._slow_tick)),
            group.create_task(every(SLOW_TICK_SECONDS, self._maintain_ledger)),
            group.create_task(every(SLOW_TICK_SECONDS, core.room.look)),
            group.create_task(every(CONTROL_TICK_SECONDS, core.control.tick)),
            group.create_task(every(SLOW_TICK_SECONDS, core.route_memory.tick)),
            group.create_task(every(bounds.LEASE_LOOK_SECONDS, accounts.keep_lease)),
        ]
        stack.callback(lambda: [task.cancel() for task in tickers])
        stack.callback(core.links.standstill.end)
        settling = group.create_task(core.settlements.run())
        stack.push_async_callback(self._stop_settling, settling)
        if core.live_rates is not None:
            asking = group.create_task(core.live_rates.run())
            stack.push_async_callback(core.live_rates.close)
            stack.callback(asking.cancel)
        core.deliveries.attach(group, core.driver, core.links.flush)
        stack.push_async_callback(core.deliveries.close)
        core.questions.attach(group, core.driver, core.links.flush)
        stack.push_async_callback(core.questions.close)
        stack.push_async_callback(core.links.close)
        core.links.expect(self._former_links.take())
        self.btp_port = await core.links.listen(
            settings.btp_server_host, settings.btp_server_port, tls
        )
        stack.push_async_callback(core.http.close)
        if settings.ilp_http_port is not None:
            self.ilp_http_port = await core.http.listen(
                settings.ilp_http_host, settings.ilp_http_port, http_tls
            )
        core.http.start(group)
        core.applier.start(group)
        stack.callback(core.applier.stop)
        stack.push_async_callback(self._wait_for_packets)
        stack.callback(core.http.wind_down)

    def replaced_at_once(self) -> None:
        """A new process of this node follows at once. Call it before `stop`.

        Peers with packet ids are told so, and that process is told of them.
        """
        links = self._core.links
        links.comes_back = True
        self._former_links.write(links.to_expect())

    async def stop(self) -> None:
        """Stop cleanly: what is owed is booked or in the outbox. Safe to call twice."""
        await self._started.aclose()

    async def _wait_for_packets(self) -> None:
        """Reject new packets, and wait a bounded time for those in flight."""
        core = self._core
        core.node.stopping = True
        core.links.stop_listening()
        deadline_s = core.clock.monotonic_s() + limits.STOP_IN_FLIGHT_SECONDS_MAX
        # A process that was replaced while it stood still gives no answers any more.
        # What waits for a peer that is expected back is left to the process that follows.
        while (
            (core.driver.in_flight > core.links.held or core.accounts.undurable)
            and not (core.links.standstill.is_held and core.accounts.is_superseded)
            and core.clock.monotonic_s() < deadline_s
        ):
            await asyncio.sleep(TICK_SECONDS)
        if not core.accounts.is_superseded:
            return
        # This DATA_DIR may not be started again for long: what its outbox holds is booked now.
        deadline_s = core.clock.monotonic_s() + bounds.LEASE_OUTBOX_SECONDS_MAX
        while (
            core.accounts.spooled or core.accounts.undurable
        ) and core.clock.monotonic_s() < deadline_s:
            await asyncio.sleep(TICK_SECONDS)

    async def _stop_settling(self, settling: asyncio.Task[None]) -> None:
        await self._core.settlements.stop()
        settling.cancel()

    async def _drain(self, writer: list[asyncio.Task[None]]) -> None:
        accounts = self._core.accounts
        accounts.stop()
        # A ledger that does not answer must not prevent a stop: by then, what is owed is in the
        # outbox, or its Fulfill is kept, or the packet can be resent.
        _, late = await asyncio.wait(writer, timeout=limits.STOP_IN_FLIGHT_SECONDS_MAX)
        for task in late:
            task.cancel()
        if not late:
            await accounts.save_clean_stop()

    # --- periodic work

    async def _tick(self) -> None:
        if self._core.links.standstill.seen():
            self._core.driver.tick()
        # Also while links are held: posts that are overdue have to become durable.
        self._core.accounts.tick()

    async def _after_standstill(self) -> None:
        """Find out whether another process has taken over while this one stood still."""
        links = self._core.links
        if not links.standstill.is_held:
            return
        may_go_on = await self._core.accounts.may_go_on()
        if may_go_on:
            links.release()
            self._core.http.release()
        elif may_go_on is False:
            links.abandon()
            self._core.http.abandon()

    async def _look_up(self) -> None:
        """Look up resent packets in the ledger, then let the driver handle them."""
        core = self._core
        asked = [] if self._leaves_packets else core.driver.to_look_up()
        if not asked:
            return
        began_s = core.clock.monotonic_s()
        found = await core.accounts.find_former(asked)
        if self._leaves_packets:
            return
        core.driver.looked_up(found)
        core.links.flush()
        # Bounds the ledger's time for a peer that marks all its packets as resent.
        took_s = core.clock.monotonic_s() - began_s
        await asyncio.sleep(took_s * LOOK_UP_PAUSE_TIMES)

    @property
    def _leaves_packets(self) -> bool:
        """Whether packets that are resent get no answer: that is left to the process that follows."""
        return self._core.links.comes_back and self._core.node.stopping

    async def _slow_tick(self) -> None:
        core = self._core
        core.watch_clock()
        core.links.tick()
        core.http.tick()
        core.packets.tell_loops(core.switch.loops.take_news(core.clock.now_ms()))
        core.packets.tell_shortages()
        core.driver.give_up_asking()
        core.links.flush()
        await core.accounts.expire()
        await core.accounts.maintain_outbox()
        await core.accounts.remember_acknowledged()
        await core.accounts.take_back_credit()
        self._tell_of_commits()

    def _tell_of_commits(self) -> None:
        """One line when the event loop begins or ceases to wait for commits to a file (`base.pace`)."""
        core = self._core
        for file, waits in core.accounts.waits_for_commits.items():
            if waits != self._waits_for_commits.get(file, False):
                core.log.info("commits_waited_for", file=file, waits=waits)
            self._waits_for_commits[file] = waits

    async def _maintain_ledger(self) -> None:
        """Let the ledger prune; a task of its own, since copying rows into an archive takes time."""
        core = self._core
        try:
            warning = await core.accounts.ledger.maintain()
        except LedgerUnavailableError as error:
            warning = str(error)
        if warning and warning != self._ledger_warning:
            core.log.warning("ledger_upkeep", detail=warning)
        self._ledger_warning = warning
