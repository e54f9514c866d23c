"""The node's raw ledger rows against what the honest ends know, unit by unit.

Read with the decoder of the simulator, which shares no code with the product.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import yaml

from connector.simulation import raw
from tests.hostile.target import RECEIVER, SENDER

_NODE: Final = "hub"
_ASSET: Final = "USD/9"
_SHOWN: Final = 5


def _account(peer_id: str) -> int:
    return raw.account_id(_NODE, "peer", peer_id, _ASSET)


def _rows(path: Path) -> Iterator[raw.Row]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        yield from raw.rows_in(connection)


def _of_packets(rows: Iterable[raw.Row], accounts: set[int]) -> Iterator[raw.Row]:
    """Rows that move money of these accounts for packets, and what resolves them."""
    held: set[int] = set()
    for row in rows:
        if row.flags & (raw.POST | raw.VOID):
            if row.pending_id in held:
                yield row
        elif row.condition_start and (row.debit in accounts or row.credit in accounts):
            held.add(row.id)
            yield row


def compare(folder: Path) -> list[str]:
    """What differs; `folder`: the node's, with `facts.json` of the honest ends in it."""
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    paid: dict[int, int] = {_start(key): amount for key, amount in facts["paid"].items()}
    received = {_start(key): amount for key, amount in facts["received"].items()}
    sender, receiver = _account(SENDER), _account(RECEIVER)
    journal = folder / "data" / "ledger.db"
    ledger = raw.Ledger(_of_packets(_rows(journal), {sender, receiver}), {}, time.time_ns())
    faults = list(ledger.faults)
    debited: dict[int, int] = {}
    credited: dict[int, int] = {}
    for condition, legs in ledger.booked.items():
        for leg in legs:
            if leg.row.debit == sender:
                debited[condition] = debited.get(condition, 0) + leg.final.amount
            if leg.row.credit == receiver:
                credited[condition] = credited.get(condition, 0) + leg.final.amount
            if leg.row.credit == sender or leg.row.debit == receiver:
                faults.append(f"money moved the wrong way: {leg.row}")
    faults += _differences("the sender was told and the ledger debits", paid, debited)
    faults += _differences("the receiver fulfilled and the ledger credits", received, credited)
    faults += _differences("the sender paid and the receiver was paid", paid, received)
    if ledger.open:
        faults.append(f"{len(ledger.open)} holds of the honest peers are still open")
    return faults


def _start(condition: str) -> int:
    return int(condition[:24], 16)


def _differences(what: str, one: Mapping[int, int], other: Mapping[int, int]) -> list[str]:
    differ = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
    if not differ:
        return []
    shown = ", ".join(f"{key:024x}: {one.get(key)} / {other.get(key)}" for key in differ[:_SHOWN])
    return [
        f"{what}: {len(differ)} packets differ, {sum(one.values())} / {sum(other.values())}: {shown}"
    ]


def over_limits(folder: Path) -> list[str]:
    """Transfers after which a peer owes more than its credit limit."""
    settings: dict[str, Any] = yaml.safe_load((folder / "settings.yaml").read_text("utf-8"))
    usual = settings["creditLimit"]
    limits = {_account(peer["id"]): peer.get("creditLimit", usual) for peer in settings["peers"]}
    found = raw.over_limit(_rows(folder / "data" / "ledger.db"), limits)
    return [f"{len(found)} transfers pass a credit limit: {found[:_SHOWN]}"] if found else []
