"""Books what the outbox holds, in order and under the same ids, so once; then hands over.

**A hold in the outbox is a promise**: its Prepare may have left, and may be fulfilled. The ledger
may refuse it all the same: another process has used the credit, or a limit was lowered. Then:

- Where its post stands in the same part of the outbox, the packet is booked outright (a correction);
  where its void does, nothing is owed, and nothing is done.
- Else it is *held anew*: in one chain, what each leg takes is granted to its sender and held at
  once, so no limit and no other process can come between. `Credit` takes the grant back as the
  peer pays.

Why a packet is paid once. An id that was refused stays refused, so the hold anew has the ids of the
first with `PHASE_AGAIN`, and its post and void likewise. Of the two holds of a packet at most one
is in the ledger, for ever: the second is only asked for after the first was refused. The same holds
for their posts. Whoever resolves the packet by the first ids (a row further on in the outbox, or
the writer) is refused, looks for the second hold, and takes it: post and void share an id there
too. A correction has one set of ids, whichever hold it makes good, and is asked for only after a
post of the hold was refused for good: its hold expired, was voided, or never existed. All ids
follow from the packet's, so a replay that is cut off is repeated with the same result. Who looks
for a resent packet finds the second hold as it would the first: by the sender's id, in
`user_data_128`; so a packet that an outbox knows is never new.

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
    """Knows how far the outbox has been replayed in this life of the node."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        credit: Credit,
        acknowledged: Acknowledged,
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
        self._spool = spool
        self._promises = promises
        self._availability = availability
        self._reports = reports
        self._is_stopping = is_stopping
        self._done_seq = 0
        # Of the part of the outbox that is being booked, by the first id of what is created: what
        # the ledger was asked for, and what of it the mirror has.
        self._asked: set[int] = set()
        self._mirrored: set[int] = set()

    async def book_all(self) -> None:
        """Book all that the outbox holds; the mirror is loaded afterwards."""
        while await self._book_next(adjust=False):
            pass

    async def book_until(self, seq: int) -> None:
        """Book what the outbox holds up to request `seq`; the mirror is compared afterwards."""
        while self._done_seq < seq:
            if not await self._book_next(adjust=False, until_seq=seq):
                break

    async def hand_over(self) -> None:
        """Book what the outbox holds, and give the ledger back to the writer.

        Raises:
            LedgerUnavailableError, LedgerRefusedError, LedgerBehindError: not done; what is booked
                is booked.
        """
        pauses = False
        try:
            while True:
                rows = await self._book_next(adjust=True)
                if self._is_stopping():
                    return
                if rows < self._turn.ledger.batch_transfers_max and not pauses:
                    # Nearly there: the writer waits, so that the end can be reached.
                    pauses = True
                    self._availability.nearly_back()
                    await self._spool.pause()
                elif not rows:
                    # From here to the writer's next look at the phase nothing can come between.
                    pauses = False
                    self._availability.back()
                    return
        finally:
            if pauses:
                self._availability.relapsed()
            self._spool.may_write.set()

    async def _book_next(self, *, adjust: bool, until_seq: int = _SEQ_MAX) -> int:
        """Book the next requests of the outbox; returns how many transfers they held.

        `adjust`: what is granted moves the mirror too, which will not be loaded afterwards.
        """
        size_max = self._turn.ledger.batch_transfers_max
        loaded = await self._spool.load(self._done_seq, size_max)
        requests = [one for one in loaded if one[0] <= until_seq]
        transfers = [transfer for _, part in requests for transfer in part]
        async with self._turn as ledger:
            # An empty request asks whether the ledger is there.
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
        """See to what the ledger did not take; gives the requests that have to stay.

        A crash or a lost acknowledgement in the middle is no harm: all of it has ids that follow
        from the packets, so it is done once more, with the same result.
        """
        resolved = {chain.packet_id for chain in refused if not chain.is_hold}
        holds = [chain for chain in refused if chain.is_hold]
        for chain in holds:
            self._reports.alert("spooled_reservation_refused", chain.details())
        # What is resolved a few rows later needs no hold: it is given back, or booked outright.
        open_ = [chain for chain in holds if chain.packet_id not in resolved]
        # Booked outright by a replay that was cut off: the rows were cut into other parts then.
        booked = await _which_exist(ledger, [one.packet_id | PHASE_CORRECT for one in open_])
        open_ = [one for one in open_ if one.packet_id | PHASE_CORRECT not in booked]
        lost = await self._hold_again(ledger, open_, adjust)
        resolutions_ = [chain for chain in refused if chain.is_resolution]
        # Their holds may have been refused in a request before, and stand under other ids.
        late = await self._resolve_again(ledger, resolutions_)
        for chain in late:
            legs = await self._legs_of(ledger, chain.transfers)
            if not legs:
                # Another ledger than the one it was meant for: a human must look.
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
                # A correction, which nothing else can make good.
                lost.append(chain)
                self._refused(chain)
        return {chain.seq for chain in lost}

    def _refused(self, chain: _Chain) -> None:
        """Neither held nor booked, though it was promised: a human must look."""
        self._reports.counters.refused_unexpectedly += 1
        self._reports.alert("accounting_refused", chain.details(amountLost=chain.amount))

    async def _hold_again(
        self, ledger: Ledger, refused: list[_Chain], adjust: bool
    ) -> list[_Chain]:
        """Hold what was refused, whatever the limits say; gives what cannot be held at all."""
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
        """Post or void what was held anew; gives the posts for which there is no hold."""
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
        """Book legs outright; whether the ledger has them now."""
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
        """Count what the ledger has been granted by this replay, also where it is tried again."""
        if key not in self._mirrored:
            self._mirrored.add(key)
            self._credit.mirror_grants(grants)


class _Chain:
    """A chain of an outbox's request, and what the ledger said of it."""

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
        """What it moves; credit that is granted for it is not counted."""
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
    """Have chains created, in requests that the ledger takes; what it said of each."""
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
