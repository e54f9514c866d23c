"""The daemon: a node that runs until it is stopped, and a process that stands by to become one.

A standby has no accounts, no outbox and no links. It answers health checks (`not ready`) where the
port is free, and waits until no other process uses its DATA_DIR, and, over a TigerBeetle cluster,
until the lease of the node is free (`accounting.lease`). Then it starts like any other process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from connector.accounting import bounds
from connector.accounting.manager import AccountManager, State
from connector.accounting.outbox import FILE_NAME as OUTBOX_FILE
from connector.accounting.outbox import SqliteOutbox
from connector.accounting.standby import Standby
from connector.base.disk import HeldByAnotherError
from connector.base.errors import (
    ConfigError,
    ConnectorError,
    LedgerLockedError,
    LedgerUnavailableError,
    ListenError,
    OtherIsActiveError,
)
from connector.base.log import Log
from connector.base.log import set_up as set_up_log
from connector.ledger.model import IdGenerator
from connector.ledger.select import make_ledger
from connector.node import bounds as node_bounds
from connector.node.connector import Connector
from connector.node.core import Platform, system_platform
from connector.node.lifecycle import lock_path
from connector.node.memory import PeerMemory
from connector.node.preflight import check
from connector.peering.model import Asset
from connector.settings.model import Settings
from connector.settings.overlay import in_effect
from connector.settings.terms import terms_of, wallets_of
from connector.web.server import WebServer
from connector.web.standby import standby_app

T = TypeVar("T")

LOCK_LOOK_SECONDS: Final = 0.25


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    standby: bool = False,
    take_over: bool = False,
    accept_ledger_loss: bool = False,
) -> None:
    """Run a daemon until `stop` is set.

    Args:
        settings: of the node.
        stop: ends it.
        standby: wait until no other process of this node is active.
        take_over: see `Connector`. Without it, a process whose DATA_DIR another one has taken over
            from becomes a standby.
        accept_ledger_loss: see `Connector`.

    Raises:
        SupersededError: another process of this node has taken over while this one was active.
        ConnectorError: it could not start; the message says why and what to do.
    """
    log = set_up_log(settings.log_level, settings.log_format or "", settings.node_id)
    process: int | None = None
    while not stop.is_set():
        if standby:
            process = await _unwrapped(_stand_by(settings, stop, log))
            if process is None:
                return
        node = Connector(
            settings,
            log=log,
            accept_ledger_loss=accept_ledger_loss,
            process=process,
            take_over=take_over and not standby,
        )
        try:
            await _unwrapped(node.run_until(stop))
            return
        except OtherIsActiveError as error:
            log.warning("standby_instead", detail=str(error))
            standby = True
        except LedgerLockedError as error:
            if not standby:
                raise
            log.warning("standby_again", detail=str(error))


async def _unwrapped(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; of a group of its faults the first one."""
    try:
        return await work
    except* ConnectorError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


# --- standing by


async def _stand_by(settings: Settings, stop: asyncio.Event, log: Log) -> int | None:
    """Wait until this process may be the active one; the name under which it has claimed the lease.

    None: `stop` was set first.
    """
    if settings.tigerbeetle_cluster_id is None and settings.ledger == "memory":
        raise ConfigError(
            ["--standby: a ledger in memory ends with its process, nobody can take over"]
        )
    check(settings)
    platform = system_platform(log)
    process = platform.randomness.bits(128)
    log.info("standby_started", data_dir=str(settings.data_dir))
    async with _health_served(settings, log) as tell, asyncio.TaskGroup() as group:
        waiting = group.create_task(_wait_for_turn(settings, platform, process, tell))
        stopping = group.create_task(stop.wait())
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        is_free = waiting.done()
        waiting.cancel()
        stopping.cancel()
    log.info("standby_ended", takes_over=is_free)
    return process if is_free else None


async def _wait_for_turn(
    settings: Settings, platform: Platform, process: int, tell: Callable[[str], None]
) -> None:
    """Wait until DATA_DIR is free, then until the lease is; it is claimed then."""
    path = lock_path(settings)
    while True:
        try:
            hold = platform.disk.hold(path)
            break
        except HeldByAnotherError as error:
            tell(f"process {error.owner} is active on {path.parent}")
        except OSError as error:
            raise ConfigError(
                [f"DATA_DIR: cannot write in {path.parent}: {error.strerror}"]
            ) from error
        await asyncio.sleep(LOCK_LOOK_SECONDS)
    try:
        if settings.tigerbeetle_cluster_id is None:
            return
        ledger = make_ledger(
            settings.model_copy(
                update={
                    "accounting_timeout_ms": min(
                        settings.accounting_timeout_ms, node_bounds.STANDBY_LEDGER_TIMEOUT_MS_MAX
                    )
                }
            ),
            platform.clock,
            platform.disk,
        )
        standby = Standby(
            node_id=settings.node_id,
            ledger=ledger,
            clock=platform.clock,
            process=process,
            own=await _own_claims(settings, platform),
            other_is_active=lambda: _book_the_rest(settings, platform),
            say=tell,
        )
        try:
            await standby.wait()
        finally:
            await ledger.close()
    finally:
        hold.close()


async def _own_claims(settings: Settings, platform: Platform) -> list[int]:
    """The names under which processes on this DATA_DIR have claimed. Its lock is ours."""
    path = settings.data_dir / OUTBOX_FILE
    if not path.exists():
        return []
    outbox = SqliteOutbox(platform.disk.database(path))
    await outbox.open()
    try:
        return await outbox.claims()
    finally:
        await outbox.close()


async def _book_the_rest(settings: Settings, platform: Platform) -> None:
    """Book what a former process on this DATA_DIR has promised; another process is active now.

    All of it has ids that follow from its packets, so it is booked once, beside whoever is active.
    No limit is granted: the active process may have other ones.

    Raises:
        LedgerUnavailableError: the ledger is away.
        LedgerBehindError: it has less than it acknowledged to this DATA_DIR.
    """
    path = settings.data_dir / OUTBOX_FILE
    if not path.exists():
        return
    outbox = SqliteOutbox(platform.disk.database(path))
    await outbox.open()
    try:
        if outbox.transfers or outbox.kept_bytes:
            await _booked(in_effect(settings).settings, platform, outbox)
    finally:
        await outbox.close()


async def _booked(settings: Settings, platform: Platform, outbox: SqliteOutbox) -> None:
    log, before = platform.log, outbox.transfers
    accounts = AccountManager(
        node_id=settings.node_id,
        ledger=make_ledger(settings, platform.clock, platform.disk),
        clock=platform.clock,
        ids=IdGenerator(random_bits=platform.randomness.bits),
        outbox=outbox,
        on_alert=lambda event, fields: log.warning(event, **fields),
        timeout_ms=settings.accounting_timeout_ms,
    )
    memory = PeerMemory(settings, platform)
    memory.read()
    try:
        await accounts.open(
            (terms_of(settings, peer) for peer in settings.peers),
            [Asset(settings.asset_code, settings.asset_scale)],
            memory.former(settings),
            grants=False,
            wallets=wallets_of(settings),
        )
        if accounts.state is not State.AVAILABLE:
            raise LedgerUnavailableError(accounts.state_reason)
        # Fulfilments that were kept are posted by the writer: it ends when all are.
        async with asyncio.timeout(bounds.LEASE_OUTBOX_SECONDS_MAX):
            accounts.stop()
            await accounts.run()
    except TimeoutError:
        raise LedgerUnavailableError("not all of the outbox could be booked") from None
    finally:
        await accounts.close()
    log.info("standby_has_booked", transfers=before - outbox.transfers, left=outbox.transfers)


@asynccontextmanager
async def _health_served(settings: Settings, log: Log) -> AsyncIterator[Callable[[str], None]]:
    """Answer health checks meanwhile; gives what is told the reason why this one is not ready."""
    reason = "starting"

    def tell(why: str) -> None:
        nonlocal reason
        reason = why
        log.info("standby", detail=why)

    app = standby_app(settings.node_id, lambda: reason)
    server = WebServer(
        app, settings.http_host, settings.http_port, settings.http_tls_cert, settings.http_tls_key
    )
    try:
        server.bind()
    except ListenError as error:
        # The active process is on this machine: it answers there.
        log.info("standby_without_http", detail=str(error))
        yield tell
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        try:
            yield tell
        finally:
            server.stop()
