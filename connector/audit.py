"""Checks the invariants of docs/accounting.md on live data.

A running node may be audited: then what is in flight explains differences, and only what cannot be
explained is a fault. At rest everything is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connector.clock import Clock
from connector.config import Settings
from connector.daemon import make_ledger, terms_of
from connector.ledger.account_manager import Book
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.interface import Ledger
from connector.ledger.model import Account, AccountCode, node_tag, peer_tag


@dataclass(slots=True)
class AuditReport:
    """What was checked, and what is wrong."""

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
        """Note the result of one check."""
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


async def audit(settings: Settings, clock: Clock, nodes: Sequence[str] = ()) -> AuditReport:
    """Audit the ledger that the settings name; read-only, also beside a running node.

    Args:
        settings: of the node.
        clock: what time it is.
        nodes: other nodes that keep their accounts in the same ledger, whose peers' ids are node
            ids: their sums are checked too, and that neighbours among them mirror each other.

    Raises:
        LedgerCorruptError: the ledger is damaged.
        LedgerUnavailableError: it cannot be read.
    """
    ledger = make_ledger(settings, clock, read_only=True)
    await ledger.open()
    try:
        report = await _audit(settings, ledger)
        if nodes:
            await _check_nodes(report, ledger, list(dict.fromkeys([settings.node_id, *nodes])))
        return report
    finally:
        await ledger.close()


async def _audit(settings: Settings, ledger: Ledger) -> AuditReport:
    report = AuditReport(settings.node_id, ledger.backend)
    accounts = {
        account.id: account for account in await ledger.node_accounts(node_tag(settings.node_id))
    }
    report.check(
        "accounts found", bool(accounts), "" if accounts else "this node has no accounts yet"
    )
    _check_totals(report, accounts.values())
    _check_limits(report, settings, accounts)
    _check_zero_sum(report, accounts.values())
    _list_peers(report, settings, accounts)
    if isinstance(ledger, EmbeddedLedger):
        await _check_journal(report, ledger, accounts)
    return report


def _check_totals(report: AuditReport, accounts: Any) -> None:
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
            f"asset {number:#010x}: debits = credits",
            debits == credits_,
            f"debits {debits}, credits {credits_}",
        )
        report.check(
            f"asset {number:#010x}: pending debits = pending credits",
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


def _check_zero_sum(report: AuditReport, accounts: Any) -> None:
    """Invariant 5: what peers owe and are owed is what the node's own accounts hold."""
    sums: dict[int, int] = {}
    for account in accounts:
        difference = account.debits_posted - account.credits_posted
        sums[account.ledger] = sums.get(account.ledger, 0) + difference
    for number, total in sums.items():
        report.check(
            f"asset {number:#010x}: peers and own accounts sum to zero", total == 0, f"sum {total}"
        )


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
    report: AuditReport, ledger: EmbeddedLedger, accounts: Mapping[int, Account]
) -> None:
    """The balances in use are those that the whole journal gives."""
    machine, rows = await ledger.replay_all()
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


async def _check_nodes(report: AuditReport, ledger: Ledger, nodes: list[str]) -> None:
    """Invariants 1, 4 and 5 over several nodes of one ledger."""
    accounts = {node: await ledger.node_accounts(node_tag(node)) for node in nodes}
    for node, own in accounts.items():
        report.check(f"node {node}: accounts found", bool(own))
        part = AuditReport(node, report.backend)
        _check_totals(part, own)
        _check_zero_sum(part, own)
        report.checks.extend((f"node {node}: {name}", ok, text) for name, ok, text in part.checks)
    for index, a in enumerate(nodes):
        for b in nodes[index + 1 :]:
            ours, theirs = _balances(accounts[a], b), _balances(accounts[b], a)
            for number in ours.keys() | theirs.keys():
                (debit, credit), (debit_too, credit_too) = (
                    ours.get(number, (0, 0)),
                    theirs.get(number, (0, 0)),
                )
                report.check(
                    f"{a} and {b} mirror each other",
                    (debit, credit) == (credit_too, debit_too),
                    f"{a}: debit {debit}, credit {credit}; {b}: debit {debit_too}, "
                    f"credit {credit_too}",
                )


def _balances(accounts: Sequence[Account], peer_id: str) -> dict[int, tuple[int, int]]:
    """Debit and credit balance with a peer, by the ledger number of the asset."""
    tag = peer_tag(peer_id)
    of_peer = [account for account in accounts if account.user_data_64 == tag]
    granted = {
        account.ledger: account for account in of_peer if account.code == AccountCode.CREDIT_LINE
    }
    return {
        account.ledger: (
            account.debits_posted - granted[account.ledger].credits_posted,
            account.credits_posted - granted[account.ledger].debits_posted,
        )
        for account in of_peer
        if account.code == AccountCode.PEER and account.ledger in granted
    }


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
