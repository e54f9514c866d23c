"""Makes the ledger that the settings name."""

from __future__ import annotations

from connector.base.clock import Clock
from connector.base.disk import Disk
from connector.ledger import bounds
from connector.ledger.embedded import FILE_NAME as LEDGER_FILE
from connector.ledger.embedded import EmbeddedLedger, MemoryLedger
from connector.ledger.interface import Ledger
from connector.ledger.retention import Retention
from connector.ledger.tigerbeetle import TigerBeetleLedger
from connector.settings.model import Settings


def make_ledger(
    settings: Settings,
    clock: Clock,
    disk: Disk,
    *,
    read_only: bool = False,
    accept_loss: bool = False,
) -> Ledger:
    """The ledger that the settings name; nothing is opened yet.

    Args:
        settings: the kind of ledger and its location.
        clock: for its deadlines and timestamps.
        disk: the file system of an embedded ledger.
        read_only: for callers that only read it.
        accept_loss: open an embedded ledger even if acknowledged requests are missing.
    """
    if settings.tigerbeetle_cluster_id is not None and settings.tigerbeetle_replicas is not None:
        return TigerBeetleLedger(
            cluster_id=settings.tigerbeetle_cluster_id,
            addresses=settings.tigerbeetle_replicas,
            clock=clock,
            # A reader can wait longer: a cluster that has just recovered is slow at first.
            timeout_ms=max(settings.accounting_timeout_ms, bounds.LEDGER_LOOK_MS)
            if read_only
            else settings.accounting_timeout_ms,
        )
    if settings.ledger == "memory":
        return MemoryLedger(clock=clock)
    path = settings.data_dir / LEDGER_FILE
    return EmbeddedLedger(
        path,
        clock=clock,
        disk=disk,
        read_only=read_only,
        retention=Retention(
            days=settings.ledger_retention_days,
            bytes_max=settings.ledger_max_bytes,
            archive=settings.ledger_archive_dir,
        ),
        accept_loss=accept_loss,
    )
