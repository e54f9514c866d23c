"""Checks the invariants of docs/accounting.md on live data.

A running node may be audited: packets in flight explain differences, and only an unexplained
difference is a fault. Without packets in flight every check is exact.

Long because it holds all invariants, each with its message for operators.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from connector.accounting.mirror import Book
from connector.accounting.outbox import FILE_NAME as OUTBOX_FILE
from connector.accounting.outbox import acknowledged_in
from connector.base.clock import Clock
from connector.base.disk import SystemDisk
from connector.base.errors import ConfigError, UnknownNameError
from connector.ledger.embedded import FILE_NAME as LEDGER_FILE
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.interface import Ledger
from connector.ledger.model import (
    PENDING,
    TAG_BITS,
    VOID,
    Account,
    AccountCode,
    Posted,
    Transfer,
    TransferCode,
    asset_ledger,
    node_tag,
    peer_tag,
)
from connector.ledger.select import make_ledger
from connector.ledger.tigerbeetle import TigerBeetleLedger
from connector.node.memory import with_known_asset
from connector.peering.model import Asset
from connector.settings.model import Settings
from connector.settings.overlay import in_effect
from connector.settings.terms import terms_of
from connector.settlement.model import Direction, Phase, settled_sums
from connector.settlement.store import FILE_NAME as SETTLEMENTS_FILE
from connector.settlement.store import SettlementStore
from connector.tools import bounds

MIRROR_SECONDS: Final = 1.0


@dataclass(slots=True)
class AuditReport:
    """The checks made and the faults found."""

    node_id: str
    backend: str
    checks: list[tuple[str, bool, str]] = field(default_factory=list)
    """Name, whether it holds, and details."""
    pending: int = 0
    """Amount held by packets in flight, debit side."""
    peers: list[dict[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(holds for _, holds, _ in self.checks)

    def check(self, name: str, holds: bool, details: str = "") -> None:
        """Record the result of one check."""
        self.checks.append((name, holds, details))

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "nodeId": self.node_id,
            "backend": self.backend,
            "ok": self.ok,
            "pending": str(self.pending),
            "checks": [
                {"name": name, "ok": holds, "details": details}
                for name, holds, details in self.checks
            ],
            "peers": self.peers,
        }


async def audit(
    settings: Settings,
    clock: Clock,
    nodes: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> AuditReport:
    """Audit the ledger that the settings name; read-only, also beside a running node.

    Args:
        settings: of the node.
        clock: the current time.
        nodes: other nodes with accounts in the same ledger, whose peer ids are node ids: their sums
            are checked too, and that the accounts of neighbours match.
        on_progress: is given the requests in the journal of an embedded ledger that were replayed so
            far, and how many there are; now and then, in another thread.

    Raises:
        ConfigError: there is no ledger where the settings say.
        UnknownNameError: one of `nodes` has no accounts there.
        LedgerCorruptError: the ledger is damaged.
        LedgerUnavailableError: it cannot be read.
    """
    _check_there(settings)
    settings = with_known_asset(in_effect(settings).settings)
    ledger = make_ledger(settings, clock, SystemDisk(), read_only=True)
    await ledger.open()
    try:
        report = await _audit(settings, ledger, on_progress)
        if nodes:
            names = list(dict.fromkeys([settings.node_id, *nodes]))
            await _check_nodes(report, ledger, names, _assets_of(settings))
        return report
    finally:
        await ledger.close()


def _check_there(settings: Settings) -> None:
    path = settings.data_dir / LEDGER_FILE
    embedded = settings.tigerbeetle_cluster_id is None and settings.ledger == "embedded"
    if embedded and not path.exists():
        said = (
            f"{path}: there is no ledger. The audit reads the books of the node whose variables it is "
            "run with: set DATA_DIR, NODE_ID and the others as for the node"
        )
        raise ConfigError([said])


async def _audit(
    settings: Settings, ledger: Ledger, on_progress: Callable[[int, int], None]
) -> AuditReport:
    report = AuditReport(settings.node_id, ledger.backend)
    # Read before and after: settlements made during the audit are in the second only.
    settled = await _settlements(settings)
    # Read before the ledger: what is posted only rises.
    acknowledged = await _acknowledged(settings)
    accounts = {
        account.id: account for account in await ledger.node_accounts(node_tag(settings.node_id))
    }
    report.check(
        "accounts found", bool(accounts), "" if accounts else "this node has no accounts yet"
    )
    if acknowledged:
        _check_acknowledged(report, settings, acknowledged, accounts)
    assets = _assets_of(settings)
    _check_totals(report, accounts.values(), assets)
    _check_limits(report, settings, accounts)
    _check_zero_sum(report, accounts.values(), assets)
    _check_settlements(report, settings, accounts, settled, await _settlements(settings))
    _list_peers(report, settings, accounts)
    if isinstance(ledger, EmbeddedLedger):
        await _check_journal(report, ledger, accounts, on_progress)
    return report


async def _acknowledged(settings: Settings) -> dict[int, Posted]:
    """What DATA_DIR remembers that the ledger has acknowledged, by account."""
    path = settings.data_dir / OUTBOX_FILE
    if settings.ledger == "memory" or not path.is_file():
        return {}
    return await acknowledged_in(SystemDisk().database(path, read_only=True))


def _check_acknowledged(
    report: AuditReport,
    settings: Settings,
    acknowledged: Mapping[int, Posted],
    accounts: Mapping[int, Account],
) -> None:
    """Invariant 8: the ledger has what it acknowledged; else another one stands in its place."""
    names = _names_of(settings)
    faults: list[str] = []
    # Where most has been booked first: not all may be shown.
    for id_, least in sorted(acknowledged.items(), key=lambda one: -max(one[1])):
        name = names.get(id_, f"account {id_:032x}")
        there = accounts.get(id_)
        if there is None:
            faults.append(f"{name}: {least.debits} and {least.credits}, it is not there")
        elif there.debits_posted < least.debits or there.credits_posted < least.credits:
            faults.append(
                f"{name}: {least.debits} and {least.credits}, there are {there.debits_posted} and "
                f"{there.credits_posted}"
            )
    details = f"{len(acknowledged)} accounts remembered in {OUTBOX_FILE}"
    if faults:
        shown = "; ".join(faults[: bounds.AUDIT_UNMATCHED_SHOWN_MAX])
        more = len(faults) - bounds.AUDIT_UNMATCHED_SHOWN_MAX
        details += (
            "; the ledger is behind: another or an older data file stands in its place, or DATA_DIR is "
            f"of another node. Debited and credited: {shown}{f'; and {more} more' * (more > 0)}"
        )
    report.check("ledger has all that it acknowledged", not faults, details)


def _names_of(settings: Settings) -> dict[int, str]:
    """The accounts of a node by their ids, in words."""
    own = (AccountCode.REVENUE, AccountCode.EXCHANGE, AccountCode.WALLET)
    of_peer = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)
    assets = _assets_of(settings).values()
    books = [Book(settings.node_id, code, "", asset) for asset in assets for code in own]
    books += [
        Book(settings.node_id, code, peer.id, settings.asset_of(peer))
        for peer in settings.peers
        for code in of_peer
    ]
    return {
        one.account_id: f"{one.code.name.lower()}{f' of {one.peer_id}' * bool(one.peer_id)} "
        f"({one.asset})"
        for one in books
    }


def _assets_of(settings: Settings) -> dict[int, Asset]:
    """The assets of a node by their numbers in the ledger."""
    assets = {settings.asset_of(peer) for peer in settings.peers}
    assets.add(Asset(settings.asset_code, settings.asset_scale))
    return {asset_ledger(one.code, one.scale): one for one in assets}


def _in_words(number: int, assets: Mapping[int, Asset]) -> str:
    """An asset by its number. That of a removed peer, or of another node, may not be known here."""
    asset = assets.get(number)
    return f"asset {asset}" if asset else f"asset {number:#010x}, which no peer here has"


def _check_totals(report: AuditReport, accounts: Any, assets: Mapping[int, Asset]) -> None:
    """Invariants 1 and 2."""
    totals: dict[int, list[int]] = {}
    for account in accounts:
        total = totals.setdefault(account.ledger, [0, 0, 0, 0])
        for index, value in enumerate(
            (
                account.debits_posted,
                account.credits_posted,
                account.debits_pending,
                account.credits_pending,
            )
        ):
            total[index] += value
    for number, (debits, credits_, held, held_too) in totals.items():
        report.check(
            f"{_in_words(number, assets)}: debits = credits",
            debits == credits_,
            f"debits {debits}, credits {credits_}",
        )
        report.check(
            f"{_in_words(number, assets)}: pending debits = pending credits",
            held == held_too,
            f"pending debits {held}, pending credits {held_too}",
        )
        report.pending += held


def _check_limits(report: AuditReport, settings: Settings, accounts: Mapping[int, Account]) -> None:
    """Invariant 3, and that no peer is over its limit."""
    for peer in settings.peers:
        terms = terms_of(settings, peer)
        line = accounts.get(
            Book(settings.node_id, AccountCode.CREDIT_LINE, peer.id, terms.asset).account_id
        )
        book = accounts.get(
            Book(settings.node_id, AccountCode.PEER, peer.id, terms.asset).account_id
        )
        if line is None or book is None:
            continue
        granted = line.debits_posted - line.credits_posted
        report.check(
            f"peer {peer.id}: credit granted = configured",
            granted == terms.credit_limit,
            f"granted {granted}, configured {terms.credit_limit}",
        )
        report.check(
            f"peer {peer.id}: within its limit",
            book.debits_posted + book.debits_pending <= book.credits_posted,
            f"available {book.credits_posted - book.debits_posted - book.debits_pending}",
        )


def _check_zero_sum(report: AuditReport, accounts: Any, assets: Mapping[int, Asset]) -> None:
    """Invariant 5: what peers owe and are owed is what the node's own accounts hold."""
    sums: dict[int, int] = {}
    for account in accounts:
        difference = account.debits_posted - account.credits_posted
        sums[account.ledger] = sums.get(account.ledger, 0) + difference
    for number, total in sums.items():
        report.check(
            f"{_in_words(number, assets)}: peers and own accounts sum to zero",
            total == 0,
            f"sum {total}",
        )


_Settled = dict[str, list[tuple[Phase, Direction, int]]]


async def _settlements(settings: Settings) -> _Settled | None:
    """Recorded settlements with each peer; None: this node has never recorded any."""
    path = settings.data_dir / SETTLEMENTS_FILE
    if not path.is_file():
        return None
    store = SettlementStore(SystemDisk().database(path, read_only=True), read_only=True)
    await store.open()
    try:
        return {
            peer.id: await store.booked(peer.id, settings.asset_of(peer)) for peer in settings.peers
        }
    finally:
        await store.close()


def _check_settlements(
    report: AuditReport,
    settings: Settings,
    accounts: Mapping[int, Account],
    before: _Settled | None,
    after: _Settled | None,
) -> None:
    """Invariant 7: the settlement transfers in the ledger are exactly the recorded ones."""
    for peer in settings.peers:
        book = Book(settings.node_id, AccountCode.SETTLEMENT, peer.id, settings.asset_of(peer))
        account = accounts.get(book.account_id)
        if account is None:
            continue
        paid, received = account.credits_posted, account.debits_posted
        name = f"peer {peer.id}: settlements in the ledger = settlements noted"
        if before is None or after is None:
            if paid or received:
                report.check(
                    name, False, f"{SETTLEMENTS_FILE} is missing: paid {paid}, received {received}"
                )
            continue
        least_paid, least_received = settled_sums(before[peer.id], with_open=False)
        most_paid, most_received = settled_sums(after[peer.id], with_open=True)
        report.check(
            name,
            least_paid <= paid <= most_paid and least_received <= received <= most_received,
            f"ledger: paid {paid}, received {received}; noted: paid {_span(least_paid, most_paid)}, "
            f"received {_span(least_received, most_received)}",
        )


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _list_peers(report: AuditReport, settings: Settings, accounts: Mapping[int, Account]) -> None:
    for peer in settings.peers:
        asset = settings.asset_of(peer)
        book = accounts.get(Book(settings.node_id, AccountCode.PEER, peer.id, asset).account_id)
        line = accounts.get(
            Book(settings.node_id, AccountCode.CREDIT_LINE, peer.id, asset).account_id
        )
        if book is None or line is None:
            continue
        debit = book.debits_posted - line.credits_posted
        credit = book.credits_posted - line.debits_posted
        report.peers.append(
            {
                "peerId": peer.id,
                "asset": str(asset),
                "debitBalance": str(debit),
                "creditBalance": str(credit),
                "netBalance": str(debit - credit),
                "pendingDebits": str(book.debits_pending),
                "pendingCredits": str(book.credits_pending),
            }
        )


async def _check_journal(
    report: AuditReport,
    ledger: EmbeddedLedger,
    accounts: Mapping[int, Account],
    on_progress: Callable[[int, int], None],
) -> None:
    """The balances in use are those that the whole journal gives."""
    report.check(
        "journal has all that was acknowledged",
        not ledger.missing_requests,
        f"the last {ledger.missing_requests} requests are missing"
        if ledger.missing_requests
        else "to its last request",
    )
    machine, rows = await ledger.replay_all(on_progress)
    different = [
        account.id
        for account in accounts.values()
        if account.id not in machine.accounts or machine.accounts[account.id].snapshot() != account
    ]
    report.check(
        "journal replays to these balances",
        not different,
        f"{rows} requests replayed"
        + (f"; {len(different)} accounts differ, first {different[0]:032x}" if different else ""),
    )


async def _check_nodes(
    report: AuditReport, ledger: Ledger, nodes: list[str], assets: Mapping[int, Asset]
) -> None:
    """Invariants 1, 4 and 5 over several nodes of one ledger."""
    accounts = {node: await ledger.node_accounts(node_tag(node)) for node in nodes}
    strangers = [node for node in nodes[1:] if not accounts[node]]
    if strangers:
        hint = "" if ledger.may_be_away else ": an embedded ledger has the accounts of one node"
        are = "is" if len(strangers) == 1 else "are"
        raise UnknownNameError(f"{', '.join(strangers)} {are} not in this ledger{hint}")
    for node, own in accounts.items():
        report.check(f"node {node}: accounts found", bool(own))
        part = AuditReport(node, report.backend)
        _check_totals(part, own, assets)
        _check_zero_sum(part, own, assets)
        report.checks.extend((f"node {node}: {name}", ok, text) for name, ok, text in part.checks)
    sides = {
        (node, other): _sides(accounts[node], other)
        for node in nodes
        for other in nodes
        if node != other
    }
    links = [
        (a, b)
        for index, a in enumerate(nodes)
        for b in nodes[index + 1 :]
        if sides[a, b] or sides[b, a]
    ]
    for attempt in range(bounds.AUDIT_MIRROR_ATTEMPTS_MAX):
        faults = [
            fault
            for fault in await _mirror_faults_now(ledger, links, sides)
            if not fault.is_explained
        ]
        if not faults or attempt + 1 == bounds.AUDIT_MIRROR_ATTEMPTS_MAX:
            break
        # A packet in flight may be posted on one side and not yet on the other.
        await asyncio.sleep(MIRROR_SECONDS)
    wrong = {frozenset((fault.giver, fault.taker)): fault for fault in faults}
    for a, b in links:
        found = wrong.get(frozenset((a, b)))
        details = ""
        if found is not None:
            details = f"{found}; {await _unmatched(ledger, found)}"
        report.check(f"{a} and {b} mirror each other", found is None, details)


class _Side(NamedTuple):
    """One node's accounts with a neighbour, in one asset."""

    account_id: int
    line_id: int
    settlement_id: int


def _sides(accounts: Sequence[Account], peer_id: str) -> dict[int, _Side]:
    """By the ledger number of the asset."""
    tag = peer_tag(peer_id)
    by_code = {
        (account.ledger, account.code): account.id
        for account in accounts
        if account.user_data_64 == tag
    }
    return {
        number: _Side(
            id_,
            by_code[number, AccountCode.CREDIT_LINE],
            by_code[number, AccountCode.SETTLEMENT],
        )
        for (number, code), id_ in by_code.items()
        if code == AccountCode.PEER
        and (number, AccountCode.CREDIT_LINE) in by_code
        and (number, AccountCode.SETTLEMENT) in by_code
    }


@dataclass(slots=True)
class _MirrorFault:
    """What a node credited its neighbour for packets differs from what that one debited it."""

    giver: str
    taker: str
    credited: int
    debited: int
    pending: int
    """Of the giver, towards the taker: fulfilled ones may be posted by the taker already."""
    giver_account_id: int
    taker_account_id: int

    @property
    def is_explained(self) -> bool:
        """Whether packets in flight can explain the difference."""
        return 0 <= self.debited - self.credited <= self.pending

    def __str__(self) -> str:
        return (
            f"{self.giver} credited {self.taker} {self.credited}, {self.taker} debited "
            f"{self.giver} {self.debited}, under way {self.pending}"
        )


async def _mirror_faults_now(
    ledger: Ledger,
    links: Sequence[tuple[str, str]],
    sides: Mapping[tuple[str, str], Mapping[int, _Side]],
) -> list[_MirrorFault]:
    """Both directions of every link at one time: all accounts are read in one request.

    Packets only: a settlement reaches the other side through another system, and at another time.
    """
    ids = [
        id_
        for a, b in links
        for pair in ((a, b), (b, a))
        for side in sides[pair].values()
        for id_ in side
    ]
    found: dict[int, Account] = {}
    for at in range(0, len(ids), ledger.batch_transfers_max):
        part = ids[at : at + ledger.batch_transfers_max]
        found.update({account.id: account for account in await ledger.lookup_accounts(part)})
    faults = []
    for a, b in links:
        for giver, taker in ((a, b), (b, a)):
            for number in sides[giver, taker].keys() | sides[taker, giver].keys():
                ours = sides[giver, taker].get(number)
                theirs = sides[taker, giver].get(number)
                credited = debited = pending = 0
                if ours is not None:
                    account = found[ours.account_id]
                    credited = (
                        account.credits_posted
                        - found[ours.line_id].debits_posted
                        - found[ours.settlement_id].debits_posted
                    )
                    pending = account.credits_pending
                if theirs is not None:
                    account = found[theirs.account_id]
                    debited = (
                        account.debits_posted
                        - found[theirs.line_id].credits_posted
                        - found[theirs.settlement_id].credits_posted
                    )
                if credited != debited:
                    faults.append(
                        _MirrorFault(
                            giver, taker, credited, debited, pending,
                            ours.account_id if ours else 0, theirs.account_id if theirs else 0,
                        )
                    )  # fmt: skip
    return faults


async def _unmatched(ledger: Ledger, fault: _MirrorFault) -> str:
    """Packets in the books of one side only, newest first, until they account for the difference.

    The taker's transfers carry the packet id of the giver (docs/protocol.md).
    """
    if not isinstance(ledger, TigerBeetleLedger):
        return "which packets it is, only transfers in one ledger can tell"
    open_: dict[int, int] = {}
    names: dict[int, int] = {}
    missing = fault.credited - fault.debited
    ends: dict[bool, int | None] = {
        is_giver: 0 if id_ else None
        for is_giver, id_ in ((True, fault.giver_account_id), (False, fault.taker_account_id))
    }
    compared = 0
    while (
        any(end is not None for end in ends.values())
        and compared < bounds.AUDIT_COMPARED_TRANSFERS_MAX
    ):
        for is_giver, account_id in (
            (True, fault.giver_account_id),
            (False, fault.taker_account_id),
        ):
            before = ends[is_giver]
            if before is None:
                continue
            page = await ledger.account_transfers(account_id, before)
            compared += len(page)
            ends[is_giver] = page[-1].timestamp if page else None
            for transfer in page:
                if not _is_final(transfer):
                    continue
                if is_giver and transfer.credit_account_id == account_id:
                    key, amount = transfer.id >> TAG_BITS << TAG_BITS, transfer.amount
                elif not is_giver and transfer.debit_account_id == account_id:
                    key, amount = transfer.user_data_128, -transfer.amount
                else:
                    continue
                names.setdefault(key, transfer.id >> TAG_BITS << TAG_BITS)
                left = open_.get(key, 0) + amount
                if left:
                    open_[key] = left
                else:
                    del open_[key]
        if open_ and sum(open_.values()) == missing:
            break
    said = [
        f"packet {names[key]:032x}: {abs(amount)} "
        f"{'credited' if amount > 0 else 'debited'} on one side only"
        for key, amount in list(open_.items())[: bounds.AUDIT_UNMATCHED_SHOWN_MAX]
    ]
    if len(open_) > bounds.AUDIT_UNMATCHED_SHOWN_MAX:
        said.append(f"and {len(open_) - bounds.AUDIT_UNMATCHED_SHOWN_MAX} more")
    return "; ".join(said) or f"nothing found in the newest {compared} transfers"


def _is_final(transfer: Transfer) -> bool:
    return not transfer.flags & (PENDING | VOID) and transfer.code not in (
        TransferCode.CREDIT,
        TransferCode.SETTLEMENT,
    )


def mirror_faults(nodes: Sequence[AuditReport], links: Sequence[tuple[str, str]]) -> list[str]:
    """Invariant 4: what A has debited B, B has credited A, and the reverse.

    `links` are pairs of node ids whose peer ids are each other's node ids.
    """
    by_node = {report.node_id: {peer["peerId"]: peer for peer in report.peers} for report in nodes}
    faults: list[str] = []
    for a, b in links:
        ours, theirs = by_node[a].get(b), by_node[b].get(a)
        if ours is None or theirs is None:
            faults.append(f"{a} and {b} have no accounts with each other")
            continue
        faults.extend(
            f"{x} says {left}, {y} says {right}: debits of {x} with {y} = {first[left_name]}, "
            f"credits of {y} with {x} = {second[right_name]}"
            for x, y, first, second, left_name, right_name, left, right in (
                (a, b, ours, theirs, "debitBalance", "creditBalance", "debited", "credited"),
                (b, a, theirs, ours, "debitBalance", "creditBalance", "debited", "credited"),
            )
            if first[left_name] != second[right_name]
        )
    return faults
