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
    kind: str = ""
    """Of `KINDS`, if its line is what keeps one of these away."""

    @property
    def edits(self) -> tuple[tuple[str, str, str], ...]:
        """All lines: paths, lines and what takes their place."""
        return ((self.path, self.old, self.new), *self.more)


KINDS = {
    "promise-forgotten": "what was promised is held, whatever the ledger says of the limit at a replay",
    "rejected-after-its-post": "a node that has posted answers with the Fulfill, also after a crash",
    "resent-packet-trusted": "a resent packet equals the first one, or is refused",
    "memory-ends-too-early": "whoever is asked first refuses before anyone behind it can have forgotten",
    "look-ups-starved": "a peer that resends much takes no look-ups of others",
    "two-links": "two links with a peer: answers count over either, each request once",
    "settlement-twice": "a payment outside is credited once for its key, also without settlements.db",
    "limit-and-settlement": "limits are granted once; what is held is not paid out",
    "peer-removed": "a peer is drained before it is removed",
    "ledger-forgot": "a ledger that has less than it acknowledged is refused",
    "clocks": "packets in flight keep their time when a clock jumps",
    "journal-cut": "a journal that has lost its end is not opened",
    "two-processes": "of two processes of a node the older one steps down",
    "journal-grows": "a journal loses rows that are old enough, and no others",
    "route-given-up": "a route that can come back is kept, and one that is there again is known to all",
    "stream-crash": "a payment of many packets is made once, to the unit, also where its payer is killed",
    "http-again": "over HTTP a packet is sent again only where the other side knows it again",
    "false-route": "what a neighbour may not announce, or has from this node, is not taken",
}
"""The kinds of money faults: what prevents each of them. At least one fault of the table takes it out."""


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
        "            if isinstance(error, sqlite3.Error | OSError):\n"
        '                raise LedgerUnavailableError(f"{self.path.name}: {error}") from error\n'
        "            raise\n",
        "            seq = self._applied = self._seq\n",
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
    Fault(
        "loops-forgotten-when-a-link-is-lost",
        "connector/node/core.py",
        "        self._emit(PeerDisconnected(peer_id=peer_id, direction=direction, reason=reason))\n",
        "        self._emit(PeerDisconnected(peer_id=peer_id, direction=direction, reason=reason))\n"
        "        self.switch.loops._forwarded.clear()\n",
        only("routing-loop", "cut", "slow-link"),
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
        only("crash", "power", "ledger-slow"),
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
        "                inbox.keep(flight.sender_packet_id, result.octets, fingerprint(flight.prepare))\n",
        "                pass\n",
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
        kind="rejected-after-its-post",
    ),
    Fault(
        "fulfilment-not-stored",
        "connector/accounting/fulfilments.py",
        "                await self._store.keep(rows)\n",
        "                pass\n",
        only("plain-links", "plain-receivers", "local", "crash", "power"),
        kind="rejected-after-its-post",
    ),
    # The packet flow
    Fault(
        "fulfilment-not-checked",
        "connector/switch/switch.py",
        "if _sha256(answer.fulfillment).digest() != prepare.condition:",
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
        kind="resent-packet-trusted",
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
        kind="settlement-twice",
    ),
    Fault(
        "settlement-pays-what-is-held",
        "connector/accounting/settlement.py",
        "            owed - peer.debits_pending, owed_here - books.peer.debits_pending\n",
        "            owed, owed_here\n",
        only("settle", "late", "slow-link"),
        kind="limit-and-settlement",
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
        kind="limit-and-settlement",
    ),
    Fault(
        "settlement-id-not-derived",
        "connector/settlement/carrier.py",
        "booking_id=self._accounts.settlement_id(peer_id, direction, origin, key),",
        "booking_id=self._accounts.new_packet_id(),",
        only("settle", "settle-falsely", "settlements-lost"),
        kind="settlement-twice",
    ),
    Fault(
        "checkpoint-at-close-has-one-request-more",
        "connector/ledger/embedded.py",
        "                if not self._stale and self._applied == self._seq:\n"
        "                    save = self._save_checkpoint(self._seq)\n"
        "                    await self._file.run(lambda connection: in_transaction(connection, save))\n",
        "                self._applied = self._seq\n"
        "                save = self._save_checkpoint(self._seq)\n"
        "                await self._file.run(lambda connection: in_transaction(connection, save))\n",
        only("settle", "replace", "replace-crash", "disk-slow"),
        more=(
            (
                "connector/ledger/embedded.py",
                "await self._file.run(lambda _: None)  # what is being written is on disk after this",
                "pass",
            ),
            ("connector/accounting/turn.py", "        self._is_closed = True\n", ""),
        ),
    ),
    Fault(
        "peer-removed-before-the-ledger-is-asked",
        "connector/node/apply.py",
        "        if not self._accounts.knows_holds:\n            return False\n",
        "",
        only("remove-peer", "ledger-and-crash", "ledger-away", "crash"),
        more=(
            (
                "connector/simulation/operators.py",
                "    while not core.accounts.knows_holds:\n        await asyncio.sleep(_DRAIN_POLL_S)\n",
                "",
            ),
        ),
        kind="peer-removed",
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
        kind="promise-forgotten",
    ),
    Fault(
        "grants-are-not-one",
        "connector/accounting/entries.py",
        "        id=grant_id(books.credit_line.account_id, *line, refused),\n",
        "        id=grant_id(books.credit_line.account_id, __import__('random').getrandbits(60)),\n",
        only("change-limit", "ledger-away"),
        kind="limit-and-settlement",
    ),
    # Fulfilments that cannot be fetched again
    Fault(
        "fulfilment-not-kept",
        "connector/accounting/fulfilments.py",
        "                await self._store.keep(rows)\n",
        "                rows.clear()\n",
        only("local", "plain-receivers", "plain-links", "crash"),
        kind="rejected-after-its-post",
    ),
    Fault(
        "relayed-before-it-is-kept",
        "connector/accounting/fulfilments.py",
        "        self._waiting.append(_Waiting(token, reservation, expires_at_ms, latest_ms, True))\n",
        "        self._relay_all([_Waiting(token, reservation, expires_at_ms, latest_ms, True)])\n",
        only("local", "plain-receivers", "plain-links", "crash"),
        kind="rejected-after-its-post",
    ),
    Fault(
        "relayed-early-and-not-kept",
        "connector/accounting/fulfilments.py",
        "        rows = needed + [to_be_kept(one.reservation) for one in self._writing if not one.is_needed]\n",
        "        rows = needed\n",
        only("crash", "power"),
        kind="promise-forgotten",
    ),
    Fault(
        "fulfilment-forgotten-too-early",
        "connector/accounting/fulfilments.py",
        "now_ms + lives_ms + 2 * limits.CLOCK_ERROR_MS",
        "now_ms + 100",
        only("local", "plain-receivers", "crash"),
        kind="rejected-after-its-post",
    ),
    Fault(
        "kept-fulfilment-not-posted",
        "connector/accounting/recovery.py",
        "        self._post_owed(owed, kept)\n",
        "        owed.clear()\n",
        only("local", "plain-receivers", "plain-links", "crash", "power"),
        kind="rejected-after-its-post",
    ),
    # One packet id, one packet, for as long as it may be resent
    Fault(
        "resumed-packet-not-compared",
        "connector/switch/driver.py",
        "            or prepare.amount != _amount_in(reservation)\n",
        "",
        only("resend-other", "crash", "replay"),
        kind="resent-packet-trusted",
    ),
    Fault(
        "packet-under-way-not-compared",
        "connector/switch/driver.py",
        "            if not same_packet(flight.prepare, prepare):\n",
        "            if not flight.prepare:\n",
        only("resend-other", "hold", "late"),
        kind="resent-packet-trusted",
    ),
    Fault(
        "expiry-not-bounded",
        "connector/switch/driver.py",
        "            if inbox is None or prepare.expires_at_ms <= now_ms + limits.EXPIRY_MS_MAX:\n",
        "            if inbox is None or prepare.expires_at_ms:\n",
        only("last-moment", "clocks-differ", "crash"),
        kind="memory-ends-too-early",
    ),
    Fault(
        "packets-forgotten-too-early",
        "connector/base/limits.py",
        "FORMER_PACKETS_MS: Final = EXPIRY_MS_MAX + CLOCK_ERROR_MS + 15_000",
        "FORMER_PACKETS_MS: Final = HOLD_MS_MAX - CLOCK_ERROR_MS",
        only("last-moment", "clocks-differ", "crash"),
        kind="memory-ends-too-early",
    ),
    Fault(
        "clock-jump-followed-at-once",
        "connector/base/clock.py",
        "        if now_ns - self._jumped_at_ns >= JUMP_LASTS_SECONDS * _NS:\n",
        "        if now_ns >= self._jumped_at_ns:\n",
        only("clock-far", "clock-ahead", "slow-link", "late"),
        kind="clocks",
    ),
    # Two links with a peer
    Fault(
        "two-links-where-the-peer-needs-both",
        "connector/btp/peer_links.py",
        "        if len(both) == 2 and all(one.session.resumable for one in both):\n",
        "        if len(both) == 2:\n",
        only("two-sockets"),
        kind="two-links",
    ),
    Fault(
        "request-ids-of-each-link",
        "connector/btp/links.py",
        "        link.session.join(links.requests)\n",
        "",
        only("two-sockets", "cut", "late"),
        kind="two-links",
    ),
    # Operators
    Fault(
        "peer-removed-before-it-is-drained",
        "connector/node/apply.py",
        "        return not (\n            peer.in_flight\n",
        "        return peer_id in self._peers or not (\n            peer.in_flight\n",
        only("remove-peer", "slow-link"),
        kind="peer-removed",
    ),
    # Ledgers that have less than they acknowledged
    Fault(
        "ledger-behind-not-noticed",
        "connector/accounting/acknowledged.py",
        "        if faults:\n",
        "        if faults and not self._posted:\n",
        only("ledger-forgets", "ledger-goes-back", "crash"),
        kind="ledger-forgot",
    ),
    Fault(
        "journal-without-its-end-not-noticed",
        "connector/ledger/embedded.py",
        "        if self._read_only:\n            return\n        if not self.missing_requests:\n",
        "        if self._read_only:\n            return\n        if self.missing_requests >= 0:\n",
        only("journal-cut", "crash"),
        kind="journal-cut",
    ),
    Fault(
        "marker-stays-behind-after-a-power-cut",
        "connector/ledger/embedded.py",
        "            if newest > acknowledged:\n",
        "            if newest < acknowledged:\n",
        only("journal-cut", "power"),
        kind="journal-cut",
    ),
    # A Fulfill waits for its post
    Fault(
        "fulfill-not-held-back",
        "connector/accounting/promises.py",
        "latest = [one for one in waiting if one.latest_ms <= now_ms]",
        "latest = waiting",
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
        only("ledger-goes-back", "settle", "change-limit"),
        kind="ledger-forgot",
    ),
    # One process of a node
    Fault(
        "links-not-held-after-a-standstill",
        "connector/btp/standstill.py",
        "        if for_s <= self._limit_s:\n",
        "        if for_s <= math.inf:\n",
        only("second-process"),
        kind="two-processes",
    ),
    Fault(
        "goes-on-after-a-standstill-unasked",
        "connector/node/lifecycle.py",
        "        may_go_on = await self._core.accounts.may_go_on()\n",
        "        may_go_on: bool | None = True\n",
        only("second-process"),
        kind="two-processes",
    ),
    Fault(
        "later-claim-not-noticed",
        "connector/accounting/leaseholder.py",
        "        if later in found:\n",
        "        if later in found and not self.generation:\n",
        only("second-process"),
        kind="two-processes",
    ),
    Fault(
        "relayed-before-its-post-although-a-standby-waits",
        "connector/accounting/manager.py",
        "            is_watched=lambda: holder.is_watched,\n",
        "            is_watched=lambda: False,\n",
        only("machine-lost", "plain-links", "plain-receivers"),
        kind="two-processes",
    ),
    # A node that is replaced
    Fault(
        "new-packets-refused-while-it-stops-to-be-replaced",
        "connector/btp/links.py",
        "            self.driver = _LeavesNew(self.driver)\n",
        "",
        only("replace"),
    ),
    Fault(
        "peer-that-is-replaced-not-waited-for",
        "connector/btp/links.py",
        "            if links.comes_back and (self.comes_back or not self._stopping):\n",
        "            if links.comes_back and not link.session.resumable:\n",
        only("replace"),
    ),
    Fault(
        "peer-replaced-while-this-node-is-replaced-not-waited-for",
        "connector/btp/links.py",
        "            if links.comes_back and (self.comes_back or not self._stopping):\n",
        "            if links.comes_back and not self._stopping:\n",
        only("replace"),
    ),
    Fault(
        "new-process-does-not-wait-for-the-peers-of-the-old-one",
        "connector/node/lifecycle.py",
        "        core.links.expect(self._former_links.take())\n",
        "        self._former_links.take()\n",
        only("replace"),
    ),
    Fault(
        "peers-expected-back-not-told-to-the-next-process",
        "connector/btp/links.py",
        "        return [*live, *self._returning.peers()]\n",
        "        return live\n",
        only("replace"),
    ),
    Fault(
        "what-waits-rejected-by-a-node-that-is-replaced-itself",
        "connector/btp/links.py",
        "            for flight in self._returning.take_not_resendable():\n",
        "            for flight in self._returning.over(math.inf):\n",
        only("replace"),
    ),
    # What an operator has bounded
    Fault(
        "value-in-flight-from-a-peer-not-bounded",
        "connector/accounting/writer.py",
        "if held_max is not None and debit.debits_pending + asked.amount_in > held_max:",
        "if held_max is not None and asked.amount_in > held_max:",
        only("in-flight-value", "late"),
    ),
    Fault(
        "value-in-flight-to-a-peer-not-bounded",
        "connector/accounting/writer.py",
        "if held_max is not None and target.credits_pending + asked.amount_out > held_max:",
        "if held_max is not None and asked.amount_out > held_max:",
        only("in-flight-value", "late"),
    ),
    Fault(
        "too-large-by-itself-said-to-pass-later",
        "connector/switch/rules.py",
        "    if held_max is not None and (amount_max is None or held_max < amount_max):\n",
        "    if held_max is not None and amount_max is not None and held_max < amount_max:\n",
        only("in-flight-value"),
    ),
    Fault(
        "payment-in-advance-taken-on-an-engines-word",
        "connector/settlement/model.py",
        "    return not amount or max_prepaid is None or amount - owed <= max_prepaid\n",
        "    return not amount or max_prepaid is None or amount <= max(owed, 0) + 10**9\n",
        only("prepaid", "settle-falsely"),
    ),
    Fault(
        "payment-in-advance-compared-with-balances-that-are-not-known",
        "connector/settlement/manager.py",
        "        if bound is not None and self._accounts.state is BooksState.UNAVAILABLE:\n",
        "        if bound is not None and not self._accounts.state:\n",
        only("prepaid", "settle", "ledger-and-crash"),
    ),
    Fault(
        "declined-payment-credited",
        "connector/settlement/carrier.py",
        '        await self.move(one, Move.DECLINE, error="declined by an operator")\n',
        "        await self._store.accept(one, at_ms=self._clock.now_ms())\n",
        only("prepaid"),
    ),
    Fault(
        "reserve-of-the-disk-used-for-new-packets",
        "connector/switch/rules.py",
        "    if node.disk_full:\n",
        "    if node.disk_full and not node.address:\n",
        only("disk-low"),
    ),
    # Clocks
    Fault(
        "hold-not-given-back-while-the-clock-is-wrong",
        "connector/accounting/writer.py",
        "        reservation.transfers = resolutions(reservation.legs, VOID)\n"
        "        self._resolutions.append(reservation)\n",
        '        is_right = getattr(self._clock, "_jump_ns", None) is None\n'
        "        reservation.transfers = resolutions(reservation.legs if is_right else [], VOID)\n"
        "        self._resolutions.append(reservation)\n",
        only("clock-far", "clock-ahead", "clock-back", "crash", "lies", "ledger-slow"),
        kind="clocks",
    ),
    Fault(
        "packets-dropped-when-the-clock-jumps-far",
        "connector/node/core.py",
        "        if jump_s is not None:\n",
        "        if jump_s is not None and jump_s > 60:\n"
        "            for flight in list(self.driver._waiting):\n"
        "                self.driver.answered(flight, b'')\n"
        "        if jump_s is not None:\n",
        only("clock-far", "crash"),
        kind="clocks",
    ),
    # The journal of an embedded ledger
    Fault(
        "journal-not-pruned",
        "connector/ledger/retention.py",
        "        end = min(last, first + bounds.JOURNAL_ROWS_PRUNED_AT_ONCE - 1)\n",
        "        end = 0\n",
        only("pruned"),
        kind="journal-grows",
    ),
    Fault(
        "journal-pruned-too-early",
        "connector/ledger/retention.py",
        "        return now_s - since_s >= bounds.JOURNAL_KEPT_SECONDS_MIN\n",
        "        return now_s - since_s >= 0\n",
        only("pruned", "crash"),
        kind="journal-grows",
    ),
    Fault(
        "credit-granted-by-a-superseded-process-stays",
        "connector/accounting/writer.py",
        "            self._credit.follow()\n",
        "            pass\n",
        only("second-process"),
    ),
    Fault(
        "journal-pruned-while-packets-can-be-resent",
        "connector/ledger/bounds.py",
        "limits.FORMER_PACKETS_MS // 1000 + 240\n",
        "limits.FORMER_PACKETS_MS // 1000 - 60\n",
        only("pruned"),
        kind="journal-grows",
    ),
    # Learned routes
    Fault(
        "routes-go-with-their-link",
        "connector/routing/receiver.py",
        "            self.expires_ms = now_ms + self._hold_ms\n\n    def forget",
        "            self.expires_ms = now_ms + 1000\n\n    def forget",
        only("learned-routes", "cut", "refuse"),
        more=(
            (
                "connector/routing/bounds.py",
                "MISSED_MS: Final = 10_000\n",
                "MISSED_MS: Final = 1\n",
            ),
        ),
        kind="route-given-up",
    ),
    Fault(
        "lost-link-is-told-to-nobody",
        "connector/routing/link_state.py",
        "            self.changes_ms = now_ms + (bounds.REPLACED_MS if comes_back else bounds.LOST_MS)\n",
        "            pass\n",
        only("learned-routes", "outage"),
        kind="route-given-up",
    ),
    Fault(
        "update-that-was-not-taken-is-not-sent-again",
        "connector/routing/sender.py",
        "        if fulfilled:\n            self.epoch = self._sent_to\n",
        "        if True:\n            self.epoch = self._sent_to\n",
        only("learned-routes", "flap", "cut", "hold"),
        # Who takes an update after a gap misses what was in the one before; who does not asks anew.
        more=(
            (
                "connector/routing/receiver.py",
                "        if update.from_epoch > self.epoch:\n",
                "        if update.from_epoch > self.epoch + 10**6:\n",
            ),
        ),
        kind="route-given-up",
    ),
    Fault(
        "routes-of-the-process-before-are-forgotten",
        "connector/node/route_memory.py",
        "            router.restore(peer_id, routes, now_ms, wall_ms)\n",
        "            pass\n",
        only("learned-routes", "crash"),
        kind="route-given-up",
    ),
    Fault(
        "filter-of-routes-is-not-looked-at",
        "connector/routing/model.py",
        '    if not _passes(prefix, terms.receive_prefixes):\n        return "filtered"\n',
        "",
        only("false-routes"),
        kind="false-route",
    ),
    # Payments of many packets
    Fault(
        "sequences-are-not-written-ahead",
        "connector/node/payment_run.py",
        "        await self._store.put(self.status)\n        if is_first:\n",
        "        if is_first:\n",
        only("stream", "crash"),
        kind="stream-crash",
    ),
    Fault(
        "packets-of-a-crash-are-not-resent",
        "connector/node/payment_settle.py",
        "    if resent:\n        waits",
        "    if False:\n        waits",
        only("stream", "crash"),
        kind="stream-crash",
    ),
    Fault(
        "what-was-booked-before-a-crash-is-not-counted",
        "connector/node/payment_settle.py",
        "        status.sent += packet.amount\n",
        "        status.sent += 0 if packet.is_posted else packet.amount\n",
        only("stream", "crash"),
        kind="stream-crash",
    ),
    Fault(
        "delivered-is-what-was-sent",
        "connector/stream/sender.py",
        "        self.delivered += reply.amount\n",
        "        self.delivered += one.amount\n",
        only("stream", "fees"),
        kind="stream-crash",
    ),
    # Packets over HTTP
    Fault(
        "sent-again-to-who-does-not-know-it",
        "connector/ilp_http/peer.py",
        "        if sent == WITHOUT_NAME or (is_final and sent != WITH_PACKET_ID):\n",
        "        if is_final and sent != WITH_PACKET_ID:\n",
        only("http", "plain-links", "answers-lost"),
        kind="http-again",
    ),
    Fault(
        "answers-over-http-are-not-kept",
        "connector/ilp_http/carrier.py",
        "        return peer is None or peer.reach is not Reach.PLAIN\n",
        "        return True\n",
        only("http", "crash"),
        kind="http-again",
    ),
    Fault(
        "gateway-answers-for-the-peer",
        "connector/ilp_http/peer.py",
        "        elif answer.status >= 500 and self._sent.get(flight) != WITHOUT_NAME:\n",
        "        elif answer.status >= 600:\n",
        only("http", "gateway"),
        kind="http-again",
    ),
    # Look-ups of many
    Fault(
        "one-peer-takes-all-places-for-look-ups",
        "connector/switch/driver.py",
        "            if len(most.asked) <= len(inbox.asked) + 1:\n",
        "            if len(most.asked) <= len(inbox.asked) + bounds.PACKETS_ASKED_AGAIN_MAX:\n",
        only("flood", "crash", "plain-receivers"),
        # As many places as a small network can fill, and look-ups that take their time.
        more=(
            (
                "connector/switch/bounds.py",
                "PACKETS_ASKED_AGAIN_MAX: Final = limits.IN_FLIGHT_TOTAL_MAX",
                "PACKETS_ASKED_AGAIN_MAX: Final = 150",
            ),
            (
                "connector/switch/bounds.py",
                "PACKETS_LOOKED_UP_AT_ONCE_MAX: Final = 256",
                "PACKETS_LOOKED_UP_AT_ONCE_MAX: Final = 4",
            ),
        ),
        kind="look-ups-starved",
    ),
)
