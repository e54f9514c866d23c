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
    more: tuple[tuple[str, str, str], ...] = ()
    """Other lines that have to go with it, where two of them see to the same thing: paths, lines and
    what takes their place."""

    @property
    def edits(self) -> tuple[tuple[str, str, str], ...]:
        """All lines: paths, lines and what takes their place."""
        return ((self.path, self.old, self.new), *self.more)


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
        "            seq = await self._add(transfers)\n",
        "            seq = self._last_seq = self._last_seq + 1\n",
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
    # Routes
    Fault(
        "loop-not-recognised",
        "connector/switch/switch.py",
        "            if first is not None:\n                lap = lap_ms(",
        "            if first is not None and not first.deadline_ms:\n                lap = lap_ms(",
        only("routing-loop"),
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
        only("replay", "cut", "long-up"),
    ),
    Fault(
        "answer-over-the-old-link",
        "connector/switch/driver.py",
        "            flight.reply_to = reply_to\n            flight.request_id = request_id\n",
        "            flight.request_id = request_id\n",
    ),
    Fault(
        "not-sent-again",
        "connector/btp/link.py",
        "            self.send(flight, again=True)\n",
        "",
    ),
    Fault(
        "sent-again-under-a-new-id",
        "connector/switch/switch.py",
        "octets, until_ms, packet_id, again=recovered is not None)",
        "octets, until_ms, packet_id + (recovered is not None) * (1 << 60))",
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
    Fault(
        "settlement-paid-without-looking-again",
        "connector/accounting/settlement.py",
        "            amount = min(payment.most, payable - payment.leave)\n",
        "            amount = payment.most\n",
        only("settle", "ledger-away", "ledger-slow", "crash"),
    ),
    Fault(
        "settlement-id-not-derived",
        "connector/settlement/carrier.py",
        "booking_id=self._accounts.settlement_id(peer_id, direction, origin, key),",
        "booking_id=self._accounts.new_packet_id(),",
        only("settle", "settle-falsely", "settlements-lost"),
    ),
    # Promises that the ledger refuses
    Fault(
        "hold-refused-at-replay-forgotten",
        "connector/accounting/replay.py",
        "        lost = await self._hold_again(ledger, open_, adjust)\n",
        "        lost: list[_Chain] = []\n",
        only("ledger-first-start", "ledger-and-crash", "crash", "limits"),
        more=(
            (
                "connector/accounting/start.py",
                "        if self._spool.transfers:\n",
                "        if not self._terms:\n",
            ),
        ),
    ),
    Fault(
        "grants-are-not-one",
        "connector/accounting/entries.py",
        "        id=grant_id(books.credit_line.account_id, *line, refused),\n",
        "        id=grant_id(books.credit_line.account_id, __import__('random').getrandbits(60)),\n",
        only("change-limit", "ledger-away"),
    ),
    # Fulfilments that cannot be fetched again
    Fault(
        "fulfilment-not-kept",
        "connector/accounting/fulfilments.py",
        "                await self._store.keep(rows)\n",
        "                rows.clear()\n",
        only("local", "plain-receivers", "plain-links", "crash"),
    ),
    Fault(
        "fulfilment-forgotten-too-early",
        "connector/accounting/fulfilments.py",
        "now_ms + lives_ms + 2 * limits.CLOCK_ERROR_MS",
        "now_ms + 100",
        only("local", "plain-receivers", "crash"),
    ),
    Fault(
        "kept-fulfilment-not-posted",
        "connector/accounting/recovery.py",
        "        self._post_owed(owed, kept)\n",
        "        owed.clear()\n",
        only("local", "plain-receivers", "plain-links", "crash", "power"),
    ),
    # One packet id, one packet, for as long as it may be resent
    Fault(
        "resumed-packet-not-compared",
        "connector/switch/driver.py",
        "            or prepare.amount != _amount_in(reservation)\n",
        "",
        only("resend-other", "crash", "replay"),
    ),
    Fault(
        "packet-under-way-not-compared",
        "connector/switch/driver.py",
        "            if not same_packet(flight.prepare, prepare):\n",
        "            if not flight.prepare:\n",
        only("resend-other", "hold", "late"),
    ),
    Fault(
        "expiry-not-bounded",
        "connector/switch/driver.py",
        "            if inbox is None or prepare.expires_at_ms <= self._now_ms() + limits.EXPIRY_MS_MAX:\n",
        "            if inbox is None or prepare.expires_at_ms:\n",
        only("last-moment", "clocks-differ", "crash"),
    ),
    Fault(
        "packets-forgotten-too-early",
        "connector/base/limits.py",
        "FORMER_PACKETS_MS: Final = EXPIRY_MS_MAX + CLOCK_ERROR_MS + 15_000",
        "FORMER_PACKETS_MS: Final = HOLD_MS_MAX - CLOCK_ERROR_MS",
        only("last-moment", "clocks-differ", "crash"),
    ),
    Fault(
        "clock-jump-followed-at-once",
        "connector/base/clock.py",
        "        if now_ns - self._jumped_at_ns >= JUMP_LASTS_SECONDS * _NS:\n",
        "        if now_ns >= self._jumped_at_ns:\n",
        only("clock-far", "clock-ahead", "slow-link", "late"),
    ),
    # Two links with a peer
    Fault(
        "two-links-where-the-peer-needs-both",
        "connector/btp/peer_links.py",
        "        if len(both) == 2 and all(one.session.resumable for one in both):\n",
        "        if len(both) == 2:\n",
        only("two-sockets"),
    ),
    Fault(
        "request-ids-of-each-link",
        "connector/btp/links.py",
        "        link.session.join(links.requests)\n",
        "",
        only("two-sockets", "cut", "late"),
    ),
    # Operators
    Fault(
        "peer-removed-before-it-is-drained",
        "connector/node/apply.py",
        "        return not (\n            peer.in_flight\n",
        "        return peer_id in self._peers or not (\n            peer.in_flight\n",
        only("remove-peer", "slow-link"),
    ),
    # Ledgers that have less than they acknowledged
    Fault(
        "ledger-behind-not-noticed",
        "connector/accounting/acknowledged.py",
        "        if faults:\n",
        "        if faults and not self._posted:\n",
        only("ledger-forgets", "ledger-goes-back", "crash"),
    ),
    Fault(
        "journal-without-its-end-not-noticed",
        "connector/ledger/embedded.py",
        "        if not self.missing_requests or self._read_only:\n",
        "        if self.missing_requests >= 0:\n",
        only("journal-cut", "crash"),
    ),
    # A Fulfill waits for its post
    Fault(
        "fulfill-not-held-back",
        "connector/accounting/promises.py",
        "latest = [one for one in self._overdue.values() if one.latest_ms <= now_ms]",
        "latest = list(self._overdue.values())",
        only("disk-slow", "crash", "ledger-slow"),
    ),
    # Look-ups of resent packets
    Fault(
        "found-packet-dropped-during-its-look-up",
        "connector/accounting/recovery.py",
        "            and not self._looking_up\n",
        "",
        only("resend-other", "replay", "local", "plain-receivers", "ledger-first-start"),
    ),
    Fault(
        "packet-that-waits-for-a-look-up-taken-as-new",
        "connector/switch/driver.py",
        "        if sender_packet_id in inbox.asked:\n",
        "        if sender_packet_id in inbox.asked and not sender_packet_id:\n",
        only("replay", "slow-link", "cut", "local", "ledger-first-start", "ledger-away"),
        more=(
            (
                "connector/switch/driver.py",
                (
                    "            assert sender_packet_id not in inbox.open, sender_packet_id\n"
                    "            assert sender_packet_id not in inbox.asked, sender_packet_id\n"
                ),
                "",
            ),
        ),
    ),
    Fault(
        "ledger-not-compared-after-a-failure",
        "connector/accounting/turn.py",
        "            self._is_in_doubt = True\n",
        "            self._is_in_doubt = False\n",
        only("ledger-goes-back", "ledger-forgets", "ledger-away"),
    ),
    # One process of a node
    Fault(
        "says-what-it-likes-after-a-standstill",
        "connector/btp/standstill.py",
        "        if for_s <= self._limit_s:\n",
        "        if for_s <= math.inf:\n",
        only("second-process"),
    ),
    Fault(
        "goes-on-after-a-standstill-unasked",
        "connector/node/lifecycle.py",
        "        may_go_on = await self._core.accounts.may_go_on()\n",
        "        may_go_on: bool | None = True\n",
        only("second-process"),
    ),
    Fault(
        "later-claim-not-noticed",
        "connector/accounting/leaseholder.py",
        "        if later in found:\n",
        "        if later in found and not self.generation:\n",
        only("second-process"),
    ),
)
