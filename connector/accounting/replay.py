"""Books what the outbox holds, in order and under the same ids, so once; then hands over.

**A hold in the outbox is a commitment**: its Prepare may have been sent, and may be fulfilled. The
ledger may still refuse it: another process has used the credit, or a limit was lowered. Then:

- If its post is in the same part of the outbox, the packet is booked directly (a correction); if
  its void is, nothing is owed, and nothing is done.
- Otherwise a *second hold* is made: in one chain, the amount of each leg is granted to its sender
  as credit and held, so neither a limit nor another process can prevent it. `Credit` takes the
  grant back as the peer pays.

Why a packet is paid once. An id that was refused stays refused, so the second hold has the ids of
the first with `PHASE_AGAIN`, and so do its post and void. At most one of the two holds is ever in
the ledger: the second is requested only after the first was refused. The same is true of their
posts. A resolution by the first ids (a later row of the outbox, or the writer's) is refused, and
then repeated for the second hold, where post and void share an id too. A correction has one set of
ids for either hold, and is requested only after a post was refused permanently: its hold expired,
was voided, or never existed. All ids are derived from the packet id, so an interrupted replay is
repeated with the same result. The look-up of a resent packet finds the second hold like the first,
by the sender's packet id in `user_data_128`; so a packet in an outbox is never taken for a new one.

What the ledger refuses beyond that stays in the outbox, with an alert that names the amount.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.credit import Credit
from connector.accounting.entries import chains, correcting_transfers, held_again, is_booked
from connector.accounting.leaseholder import LeaseHolder
from connector.accounting.promises import Promises
from connector.accounting.reports import Reports, packet_details
from connector.accounting.spool import Spool
from connector.accounting.turn import Turn
from connector.ledger.interface import Ledger
from connector.ledger.model import (
    PENDING,
    PHASE_AGAIN,
    PHASE_CORRECT,
    POST,
    TAG_BITS,
    VOID,
    Status,
    Transfer,
    TransferCode,
)

_SEQ_MAX: Final = 1 << 62


class Replay:
    """Replays the outbox; knows how far it has got since the start of the process."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        credit: Credit,
        acknowledged: Acknowledged,
        lease: LeaseHolder,
        spool: Spool,
        promises: Promises,
        availability: Availability,
        reports: Reports,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._turn = turn
        self._chart = chart
        self._credit = credit
        self._acknowledged = acknowledged
        self._lease = lease
        self._spool = spool
        self._promises = promises
        self._availability = availability
        self._reports = reports
        self._is_stopping = is_stopping
        self._done_seq = 0
        # For the part of the outbox that is being booked, by the first id of each chain: chains that
        # were requested of the ledger, and those of them that the mirror has counted.
        self._asked: set[int] = set()
        self._mirrored: set[int] = set()

    async def book_all(self) -> None:
        """Book all that the outbox holds. The caller loads the mirror afterwards."""
        while await self._book_next(adjust=False):
            pass

    async def book_until(self, seq: int) -> None:
        """Book the outbox up to request `seq`. The caller compares the mirror afterwards."""
        while self._done_seq < seq:
            if not await self._book_next(adjust=False, until_seq=seq):
                break

    async def hand_over(self) -> None:
        """Book what the outbox holds, and give the ledger back to the writer.

        Raises:
            LedgerUnavailableError, LedgerRefusedError, LedgerBehindError: not finished; the part that
                was booked stays booked.
        """
        pauses = False
        try:
            while True:
                rows = await self._book_next(adjust=True)
                if self._is_stopping():
                    return
                if rows < self._turn.ledger.batch_transfers_max and not pauses:
                    # The rest fits in one request: pause the writer, so that the end is reached.
                    pauses = True
                    self._availability.nearly_back()
                    await self._spool.pause()
                elif not rows:
                    # No await from here until the writer reads the phase again.
                    pauses = False
                    self._availability.back()
                    return
        finally:
            if pauses:
                self._availability.relapsed()
            self._spool.may_write.set()

    async def _book_next(self, *, adjust: bool, until_seq: int = _SEQ_MAX) -> int:
        """Book the next requests of the outbox; returns how many transfers they held.

        `adjust`: count granted credit in the mirror too, because it is not loaded afterwards.
        """
        size_max = self._turn.ledger.batch_transfers_max
        loaded = await self._spool.load(self._done_seq, size_max)
        requests = [one for one in loaded if one[0] <= until_seq]
        transfers = [transfer for _, part in requests for transfer in part]
        async with self._turn as ledger:
            # A large outbox takes longer than the silence after which a standby takes over.
            await self._lease.look_if_due(ledger)
            # An empty request tests whether the ledger answers.
            statuses = await ledger.create_transfers(transfers)
            assert len(statuses) == len(transfers)
            if self._acknowledged.is_doubtful(statuses):
                await self._acknowledged.compare(ledger)
            refused: list[_Chain] = []
            at = 0
            for seq, part in requests:
                corrected = self._promises.corrected_of(seq)
                for start, end in chains(part):
                    chain = _Chain(seq, part[start:end], statuses[at + start : at + end])
                    if not is_booked(chain.statuses) and chain.packet_id not in corrected:
                        refused.append(chain)
                at += len(part)
            unbooked = await self._settle(ledger, refused, adjust) if refused else set()
        if requests:
            assert requests[-1][0] > self._done_seq
            self._done_seq = requests[-1][0]
        self._asked.clear()
        self._mirrored.clear()
        done = [seq for seq, _ in requests if seq not in unbooked]
        for seq in done:
            self._promises.replayed(seq)
        if done:
            await self._spool.forget(done)
        return len(transfers)

    async def _settle(self, ledger: Ledger, refused: list[_Chain], adjust: bool) -> set[int]:
        """Resolve the chains that the ledger refused; returns the requests that have to stay.

        A crash or a lost acknowledgement in between is harmless: all ids are derived from the
        packets, so it is repeated with the same result.
        """
        resolved = {chain.packet_id for chain in refused if not chain.is_hold}
        holds = [chain for chain in refused if chain.is_hold]
        for chain in holds:
            self._reports.alert("spooled_reservation_refused", chain.details())
        # A packet resolved in a later row of this part needs no hold: it is voided, or corrected.
        open_ = [chain for chain in holds if chain.packet_id not in resolved]
        # Corrected by an interrupted replay, which had split the rows into other parts.
        booked = await _which_exist(ledger, [one.packet_id | PHASE_CORRECT for one in open_])
        open_ = [one for one in open_ if one.packet_id | PHASE_CORRECT not in booked]
        lost = await self._hold_again(ledger, open_, adjust)
        resolutions_ = [chain for chain in refused if chain.is_resolution]
        # Their holds may have been refused in an earlier request, and made under other ids.
        late = await self._resolve_again(ledger, resolutions_)
        for chain in late:
            await self._lease.look_if_due(ledger)
            legs = await self._legs_of(ledger, chain.transfers)
            if not legs:
                # Not the ledger it was meant for: an operator must decide.
                details = chain.details(amountLost=chain.amount)
                self._reports.alert("outbox_transfer_unknown", details)
                lost.append(chain)
            elif not await self._correct(ledger, legs, adjust):
                lost.append(chain)
                self._refused(chain)
            else:
                self._reports.alert("accounting_correction", chain.details())
        for chain in refused:
            if not chain.is_hold and not chain.is_resolution:
                # A correction; there is no other way to book it.
                lost.append(chain)
                self._refused(chain)
        return {chain.seq for chain in lost}

    def _refused(self, chain: _Chain) -> None:
        """Report what was committed and can be neither held nor booked: an operator must decide."""
        self._reports.counters.refused_unexpectedly += 1
        self._reports.alert("accounting_refused", chain.details(amountLost=chain.amount))

    async def _hold_again(
        self, ledger: Ledger, refused: list[_Chain], adjust: bool
    ) -> list[_Chain]:
        """Make second holds, whatever the limits; returns the chains that cannot be held at all."""
        again = [held_again(chain.transfers, self._chart.credit_line_of) for chain in refused]
        asked_before = self._asked.copy()
        self._asked.update(transfers[0].id for transfers in again)
        answers = await _create(ledger, again)
        lost: list[_Chain] = []
        for chain, transfers, statuses in zip(refused, again, answers, strict=True):
            if not is_booked(statuses):
                lost.append(chain)
                self._refused(chain)
                continue
            granted = [one for one in transfers if one.code == TransferCode.CREDIT]
            if adjust:
                self._promises.note_held_again(chain.packet_id)
                if Status.CREATED in statuses or transfers[0].id in asked_before:
                    self._mirror_once(transfers[0].id, granted)
            amount = sum(one.amount for one in granted)
            self._reports.alert("credit_granted_for_hold", chain.details(granted=amount))
        return lost

    async def _resolve_again(self, ledger: Ledger, refused: list[_Chain]) -> list[_Chain]:
        """Post or void second holds; returns the posts for which there is no hold."""
        if not refused:
            return []
        there = await _which_exist(ledger, [one.packet_id | PHASE_AGAIN for one in refused])
        found = [chain for chain in refused if chain.packet_id | PHASE_AGAIN in there]
        answers = await _create(
            ledger,
            [
                [
                    one._replace(id=one.id | PHASE_AGAIN, pending_id=one.pending_id | PHASE_AGAIN)
                    for one in chain.transfers
                ]
                for chain in found
            ],
        )
        booked = {
            chain.packet_id
            for chain, statuses in zip(found, answers, strict=True)
            if is_booked(statuses)
        }
        return [chain for chain in refused if chain.is_post and chain.packet_id not in booked]

    async def _legs_of(self, ledger: Ledger, posts: list[Transfer]) -> list[Transfer]:
        """The holds that `posts` make final."""
        if posts[0].debit_account_id:
            if posts[0].debit_account_id not in self._chart.by_id:
                return []
            return [post._replace(id=post.pending_id, pending_id=0, flags=0) for post in posts]
        held = await ledger.lookup_transfers([post.pending_id for post in posts])
        return [transfer._replace(timestamp=0) for transfer in held]

    async def _correct(self, ledger: Ledger, legs: list[Transfer], adjust: bool) -> bool:
        """Book legs directly; returns whether the ledger has them now."""
        correction = correcting_transfers(legs, self._chart.credit_line_of)
        was_asked = correction[0].id in self._asked
        self._asked.add(correction[0].id)
        statuses = await ledger.create_transfers(correction)
        assert len(statuses) == len(correction)
        if not all(is_booked(statuses[start:end]) for start, end in chains(correction)):
            return False
        self._reports.counters.corrections += 1
        if adjust and (Status.CREATED in statuses or was_asked):
            self._mirror_once(correction[0].id, correction)
        return True

    def _mirror_once(self, key: int, grants: list[Transfer]) -> None:
        """Count granted credit in the mirror, once per chain even if the chain is retried."""
        if key not in self._mirrored:
            self._mirrored.add(key)
            self._credit.mirror_grants(grants)


class _Chain:
    """A chain of a request in the outbox, and its statuses from the ledger."""

    def __init__(self, seq: int, transfers: list[Transfer], statuses: list[Status]) -> None:
        assert len(transfers) == len(statuses)
        first = transfers[0]
        self.seq = seq
        self.transfers = transfers
        self.statuses = statuses
        self.packet_id = first.id >> TAG_BITS << TAG_BITS
        self.is_hold = bool(first.flags & PENDING)
        self.is_post = bool(first.flags & POST)
        self.is_resolution = bool(first.flags & (POST | VOID))

    @property
    def amount(self) -> int:
        """The amount that it moves, without credit granted for it."""
        return sum(one.amount for one in self.transfers if one.code != TransferCode.CREDIT)

    def details(self, **more: int) -> dict[str, object]:
        """The fields of an alert about it."""
        amounts = {name: str(value) for name, value in more.items()}
        return packet_details(self.packet_id, self.statuses) | amounts


async def _which_exist(ledger: Ledger, ids: list[int]) -> set[int]:
    """Which of these transfers the ledger has."""
    found: set[int] = set()
    size_max = ledger.batch_transfers_max
    for at in range(0, len(ids), size_max):
        found.update(one.id for one in await ledger.lookup_transfers(ids[at : at + size_max]))
    assert found <= set(ids)
    return found


async def _create(ledger: Ledger, wanted: list[list[Transfer]]) -> list[list[Status]]:
    """Create chains, in requests within the ledger's batch limit; returns the statuses of each."""
    answers: list[list[Status]] = []
    size_max = ledger.batch_transfers_max
    at = 0
    while at < len(wanted):
        transfers: list[Transfer] = []
        first = at
        while at < len(wanted) and len(transfers) + len(wanted[at]) <= size_max:
            transfers += wanted[at]
            at += 1
        assert transfers, "a packet with more legs than a request may hold"
        statuses = await ledger.create_transfers(transfers)
        assert len(statuses) == len(transfers)
        done = 0
        for chain in wanted[first:at]:
            answers.append(statuses[done : done + len(chain)])
            done += len(chain)
    return answers
