"""One-line faults of the product, to be found by the simulator: money lost, hidden or paid twice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One line and what takes its place."""

    name: str
    path: str
    old: str
    new: str
    options: tuple[str, ...] = ()
    """Of `connector simulate`: kinds that bring the faulty line into play more often."""


def only(*kinds: str) -> tuple[str, ...]:
    """Some kinds only."""
    return ("--only", ",".join(kinds))


FAULTS = (
    # What is durable when
    Fault(
        "fsync-skipped",
        "connector/base/sqlite.py",
        'connection.execute("PRAGMA synchronous=FULL")',
        'connection.execute("PRAGMA synchronous=NORMAL")',
    ),
    Fault(
        "disk-fault-swallowed",
        "connector/ledger/embedded.py",
        "            # Memory is ahead of the disk now; what is on disk is the truth.\n"
        "            self._stale = True\n"
        '            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error\n',
        "            seq = self._seq\n",
        only("disk-full", "disk-broken", "crash"),
    ),
    Fault(
        "outbox-not-written",
        "connector/accounting/spool.py",
        "transfers = [transfer for one in unbooked for transfer in promised_rows(one)]",
        "transfers: list[Transfer] = []",
        only("ledger-away", "ledger-slow", "ledger-ack-lost", "crash"),
    ),
    Fault(
        "outbox-not-replayed",
        "connector/accounting/start.py",
        "        await self._replay.book_all()\n",
        "",
        only("ledger-away", "ledger-slow", "ledger-ack-lost", "crash"),
    ),
    Fault(
        "outbox-replayed-out-of-order",
        "connector/accounting/outbox.py",
        "FROM request WHERE seq > ? ORDER BY seq",
        "FROM request WHERE seq > ? ORDER BY seq DESC",
    ),
    # Holds
    Fault(
        "hold-not-given-back",
        "connector/accounting/writer.py",
        "        reservation.transfers = resolutions(reservation.legs, VOID)\n"
        "        self._resolutions.append(reservation)\n",
        "        reservation.transfers = resolutions(reservation.legs, VOID)\n",
    ),
    Fault(
        "hold-not-given-back-in-the-mirror",
        "connector/accounting/writer.py",
        "        self._release(reservation)\n        reservation.waiter = None\n",
        "        reservation.waiter = None\n",
    ),
    Fault(
        "post-under-another-id",
        "connector/accounting/writer.py",
        "(id_ | PHASE_RESOLVE, 0, 0, amount, id_, 0, 0, 0, 0, 0, 0, POST, 0)",
        "(id_ | 0x30, 0, 0, amount, id_, 0, 0, 0, 0, 0, 0, POST, 0)",
    ),
    Fault(
        "correction-although-it-was-posted",
        "connector/accounting/writer.py",
        "fine = (size == 1 and statuses[at] is created) or is_booked(statuses[at : at + size])",
        "fine = all(status is created for status in statuses[at : at + size])",
        only("ledger-away", "ledger-slow", "ledger-ack-lost"),
    ),
    Fault(
        "void-where-nothing-is-known",
        "connector/switch/driver.py",
        "        unanswered = self._outlet.send(flight)\n",
        "        unanswered = self._outlet.send(flight) or (Unanswered.LINK_LOST if step.again else None)\n",
        only("crash", "power", "cut"),
    ),
    # Limits
    Fault(
        "limit-from-the-mirror-not-looked-at",
        "connector/accounting/writer.py",
        "self._peers[source_id].available_credit < asked.amount_in:",
        "self._peers[source_id].available_credit < 0:",
        only("limits", "ledger-away", "ledger-slow"),
    ),
    Fault(
        "limit-without-what-is-held",
        "connector/ledger/machine.py",
        "        debits = debit.debits_posted + debit.debits_pending + amount\n",
        "        debits = debit.debits_posted + amount\n",
        only("limits", "crash"),
    ),
    # Resent packets
    Fault(
        "look-up-skipped",
        "connector/switch/driver.py",
        "if again and (sender_packet_id <= inbox.forgotten_id_max or self._accounts.may_know_former):",
        "if again and sender_packet_id <= inbox.forgotten_id_max:",
    ),
    Fault(
        "recovered-packet-not-taken-up",
        "connector/accounting/recovery.py",
        "            else:\n                self._take_up(former.reservation, packet.expires_at_ns, loaded)\n",
        "            elif not packet.outcome:\n"
        "                self._take_up(former.reservation, packet.expires_at_ns, loaded)\n",
        only("crash", "power"),
    ),
    Fault(
        "packet-under-way-taken-as-new",
        "connector/switch/driver.py",
        "        flight = inbox.open.get(sender_packet_id)\n",
        "        flight = None\n",
        only("cut", "hold", "crash", "replay"),
    ),
    Fault(
        "answer-not-kept",
        "connector/switch/driver.py",
        "            inbox.keep(flight.sender_packet_id, result.octets, fingerprint(flight.prepare))\n",
        "",
        only("cut", "crash", "replay"),
    ),
    Fault(
        "receipts-too-early",
        "connector/switch/inbox.py",
        "self.oldest, self.older, self.answers = self.older, self.answers, Answers()",
        "self.oldest, self.older, self.answers = Answers(), Answers(), Answers()",
        only("cut", "hold"),
    ),
    Fault(
        "answer-over-the-old-link",
        "connector/switch/driver.py",
        "            flight.reply_to = reply_to\n            flight.request_id = request_id\n",
        "            flight.request_id = request_id\n",
    ),
    Fault(
        "not-sent-again",
        "connector/btp/links.py",
        "            link.send(flight, again=True)\n",
        "",
    ),
    Fault(
        "sent-again-under-a-new-id",
        "connector/switch/switch.py",
        "octets, deadline_ms, packet_id, again=recovered is not None)",
        "octets, deadline_ms, packet_id + (recovered is not None) * (1 << 60))",
    ),
    Fault(
        "fulfilment-not-kept-beside-its-post",
        "connector/accounting/writer.py",
        "                if reservation.fulfill:\n",
        "                if reservation.fulfill and reservation.posted:\n",
        only("plain-links", "plain-receivers", "local", "crash", "power"),
    ),
    Fault(
        "fulfilment-not-stored",
        "connector/accounting/fulfilments.py",
        "                await self._store.keep(rows)\n",
        "                pass\n",
        only("plain-links", "plain-receivers", "local", "crash", "power"),
    ),
    # The packet flow
    Fault(
        "fulfilment-not-checked",
        "connector/switch/switch.py",
        "if hashlib.sha256(answer.fulfillment).digest() != prepare.condition:",
        "if len(answer.fulfillment) != 32:",
    ),
    Fault(
        "expiry-ignored",
        "connector/switch/switch.py",
        "        if self._now_ms() >= deadline_ms:\n            if next_hop is not None:\n",
        "        if self._now_ms() >= deadline_ms + 9000:\n            if next_hop is not None:\n",
        only("late", "short", "pause", "hold"),
    ),
    Fault(
        "fee-dropped",
        "connector/accounting/entries.py",
        "[Move(source, revenue, asked.fee, TransferCode.FEE)] if asked.fee else []",
        "[]",
    ),
    Fault(
        "fee-rounded-down",
        "connector/switch/terms.py",
        "fee = -(-amount * basis_points // BASIS_POINTS) if basis_points else 0",
        "fee = amount * basis_points // BASIS_POINTS if basis_points else 0",
    ),
    Fault(
        "wrong-leg-credited",
        "connector/accounting/entries.py",
        "moves = [Move(source, target, asked.amount_out, TransferCode.PACKET), *fee]",
        "moves = [Move(source, revenue, asked.amount_out, TransferCode.PACKET), *fee]",
    ),
    Fault(
        "rate-upside-down",
        "connector/switch/terms.py",
        "onward = rest * numerator // denominator",
        "onward = rest * denominator // numerator",
    ),
    Fault(
        "resent-packet-not-compared",
        "connector/switch/driver.py",
        "            if given.fingerprint != fingerprint(prepare):\n",
        "            if not given.fingerprint:\n",
        only("resend-other", "crash", "replay"),
    ),
    # Settlement
    Fault(
        "settlement-credited-twice",
        "connector/settlement/store.py",
        "            if found is not None:\n                return found\n",
        "            if found is not None and found.phase is not Phase.COMPLETED:\n"
        "                return found\n"
        '            settlement.key += "" if found is None else ":again"\n'
        "            settlement.booking_id = settlement.id\n",
        only("settle", "settle-falsely"),
    ),
    Fault(
        "settlement-pays-what-is-held",
        "connector/accounting/settlement.py",
        "            owed - peer.debits_pending, owed_here - books.peer.debits_pending\n",
        "            owed, owed_here\n",
        only("settle", "late", "slow-link"),
    ),
    Fault(
        "settlement-not-resumed",
        "connector/settlement/store.py",
        "return await self._run(lambda c: [_settlement(row) for row in c.execute(query)])",
        "return []",
        only("settle", "crash", "power", "ledger-away"),
    ),
    # A Fulfill waits for its post
    Fault(
        "fulfill-not-held-back",
        "connector/accounting/promises.py",
        "latest = [one for one in self._overdue.values() if one.latest_ms <= now_ms]",
        "latest = list(self._overdue.values())",
        only("disk-slow", "crash", "ledger-slow"),
    ),
)
