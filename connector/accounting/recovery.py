"""Resent packets that only the ledger knows, and unclaimed holds.

Such packets were accepted by another process, or by this one before a restart. What is held for
them is counted until it expires, and a sender that resends one gets the first answer
(docs/protocol.md). What a kept fulfilment shows to be owed is posted, resent or not.

Long because what a start finds and what a look-up finds later are one state, with one owner.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from connector.accounting import bounds
from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.entries import condition_tag
from connector.accounting.fulfilments import Fulfilments
from connector.accounting.mirror import Mirror
from connector.accounting.promises import PromiseEvent, Reservation
from connector.accounting.reports import Reports
from connector.accounting.resent import (
    LedgerPacket,
    Packets,
    Recovered,
    packets_of,
    recovered,
    recovered_without_accounts,
    superseded_by_second_ways,
)
from connector.accounting.turn import Turn
from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import ConnectorError, LedgerRefusedError, LedgerUnavailableError
from connector.ilp.packet import FULFILL
from connector.ledger.interface import Ledger
from connector.ledger.model import (
    PHASE_AGAIN,
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    TAG_BITS,
    VOID,
    AccountCode,
    TransferCode,
)
from connector.peering.model import LOCAL

# The transfers of a leg by phase; those with PHASE_AGAIN belong to a second hold (`replay`).
_PHASES: Final = (0, PHASE_RESOLVE, PHASE_CORRECT, PHASE_AGAIN, PHASE_AGAIN | PHASE_RESOLVE)

_PHASES_OF_A_POST: Final = (PHASE_RESOLVE, PHASE_CORRECT, PHASE_AGAIN | PHASE_RESOLVE)


class _Loaded(NamedTuple):
    """Found in the ledger, and not published yet."""

    packets: dict[tuple[str, int], Recovered]
    """By source and the sender's packet id."""
    holds: dict[int, tuple[float, Reservation]]
    """By packet id, with the time when the hold expires, by the monotonic clock."""


class Recovery:
    """Resent packets that only the ledger knows, and unclaimed holds."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        mirror: Mirror,
        availability: Availability,
        fulfilments: Fulfilments,
        reports: Reports,
        clock: Clock,
        post: Callable[[Reservation], None],
        unacknowledged: Callable[[], set[int]],
        is_shared: Callable[[], bool],
    ) -> None:
        """Nothing is known yet.

        Args:
            turn: the ledger.
            chart: the accounts.
            mirror: counts what is held.
            availability: whether the ledger can be queried.
            fulfilments: the kept fulfilments.
            reports: alerts.
            clock: for the expiry of holds.
            post: queues a post without a waiter.
            unacknowledged: returns packets whose resolution the ledger has not acknowledged.
            is_shared: whether other processes book for this node too.
        """
        self._turn = turn
        self._chart = chart
        self._mirror = mirror
        self._availability = availability
        self._fulfilments = fulfilments
        self._reports = reports
        self._clock = clock
        self._post = post
        self._on_the_way = unacknowledged
        self._is_shared = is_shared
        self._recovered: dict[tuple[str, int], Recovered] = {}
        # By packet: when the hold expires, and what is held. By elapsed time, as the ledger does it:
        # the wall clock may be corrected.
        self._unclaimed_holds: dict[int, tuple[float, Reservation]] = {}
        # The same by expiry, a heap; those that were claimed meanwhile are in it still.
        self._expiries: list[tuple[float, int]] = []
        # The most that the ledger's clock was seen ahead of ours, by its timestamps.
        self._ahead_ns = 0
        # Until then packets accepted before this start may be resent.
        self._until_ms = 0
        self._looking_up = 0
        """Look-ups in progress."""
        self._unknown: dict[str, tuple[int, int]] = {}
        """By next hop: packets and their amount that may be fulfilled there, and that nobody asked for in time."""

    def begin(self) -> None:
        """Start the period in which packets accepted before this start may be resent."""
        self._until_ms = self._clock.now_ms() + limits.FORMER_PACKETS_MS

    def no_earlier_packets(self) -> None:
        """The ledger had no accounts of this node, so no packet was accepted before."""
        self._until_ms = 0

    async def load(self, ledger: Ledger) -> None:
        """Find packets that a peer may resend, and count what is held for them.

        There may be a hundred thousand: the event loop gets its turn after every few.
        """
        # The ledger may still count a hold that has expired. The mirror counts only holds that this
        # process will release, so both agree once nothing is held.
        for book in self._chart.by_id.values():
            self._mirror.forget_holds(book)
        unposted = set(await self._fulfilments.packet_ids())
        owed: list[LedgerPacket] = []
        transfers = await ledger.recent_transfers(self._oldest_ns())
        if transfers:
            self._ahead_ns = max(0, transfers[-1].timestamp - self._clock.now_ns())
        packets = Packets()
        for at in range(0, len(transfers), bounds.RECOVERED_AT_ONCE_MAX):
            packets.add(transfers[at : at + bounds.RECOVERED_AT_ONCE_MAX])
            await asyncio.sleep(0)
        # None is found before all are: a packet is resumed only when the ledger is up.
        loaded = _Loaded({}, {})
        lapsed: list[Reservation] = []
        ledger_ns = self._ledger_ns()
        found = packets.all()
        superseded = superseded_by_second_ways(found)
        for at in range(0, len(found), bounds.RECOVERED_AT_ONCE_MAX):
            await asyncio.sleep(0)
            for packet in found[at : at + bounds.RECOVERED_AT_ONCE_MAX]:
                if packet.packet_id in unposted:
                    unposted.discard(packet.packet_id)
                    if packet.outcome != POST:
                        owed.append(packet)
                        continue
                reservation = packet.reservation(self._chart.by_id)
                if packet.packet_id in superseded:
                    if not (reservation is None or packet.outcome or packet.is_over(ledger_ns)):
                        self._count_hold(reservation, packet.expires_at_ns, loaded)
                elif reservation is None:
                    gone = recovered_without_accounts(packet, self._chart.by_id)
                    if gone is not None:
                        self._note_gone(packet, gone, loaded)
                elif packet.is_over(ledger_ns):
                    if not packet.outcome:
                        lapsed.append(reservation)
                    self._note_over(reservation, packet.outcome, loaded)
                else:
                    self._take_up(reservation, packet.expires_at_ns, loaded)
        # Older than what was read: this node was down for longer than packets can be resent.
        older, unknown = await self._older_unposted(ledger, sorted(unposted))
        owed += older
        kept: dict[int, bytes] = {}
        for at in range(0, len(owed), bounds.FULFILMENTS_LOOKED_UP_AT_ONCE_MAX):
            part = owed[at : at + bounds.FULFILMENTS_LOOKED_UP_AT_ONCE_MAX]
            kept |= await self._fulfilments.find([packet.packet_id for packet in part])
        # From here on nothing can fail, so that nothing is counted or posted twice: a start that
        # fails is tried again from its beginning.
        self._recovered, self._unclaimed_holds = loaded
        self._expiries = _by_expiry(loaded)
        self._post_owed(owed, kept)
        for reservation in lapsed:
            self._count_unknown(reservation)
        if unknown:
            # The ledger has lost their holds (`--accept-ledger-loss`).
            details: dict[str, object] = {
                "packetId": f"{unknown[0]:032x}", "packets": len(unknown),
                "detail": "the ledger has no hold for it",
            }  # fmt: skip
            self._reports.alert("fulfilment_not_booked", details)

    async def _older_unposted(
        self, ledger: Ledger, packet_ids: list[int]
    ) -> tuple[list[LedgerPacket], list[int]]:
        """Of the given packets, those that the ledger has held money for and has not posted.

        And the ids of those that it knows nothing of.
        """
        packet_ids = await self._without_post(ledger, packet_ids)
        unknown = set(packet_ids)
        found: list[LedgerPacket] = []
        size = max(
            1, ledger.batch_transfers_max // (len(_PHASES) * limits.TRANSFERS_PER_RESERVATION_MAX)
        )
        for at in range(0, len(packet_ids), size):
            part = packet_ids[at : at + size]
            ids = [
                packet_id | leg | phase
                for packet_id in part
                for leg in range(limits.TRANSFERS_PER_RESERVATION_MAX)
                for phase in _PHASES
            ]
            packets = packets_of(await ledger.lookup_transfers(ids))
            unknown.difference_update(packet.packet_id for packet in packets)
            found += [packet for packet in packets if packet.outcome != POST]
        assert len(found) + len(unknown) <= len(packet_ids)
        return found, sorted(unknown)

    async def _without_post(self, ledger: Ledger, packet_ids: list[int]) -> list[int]:
        """Of the given packets, those that are not posted: by far the fewest.

        The first leg tells: all legs are posted or none.
        """
        size = max(1, ledger.batch_transfers_max // len(_PHASES_OF_A_POST))
        posted: set[int] = set()
        for at in range(0, len(packet_ids), size):
            part = packet_ids[at : at + size]
            ids = [packet_id | phase for packet_id in part for phase in _PHASES_OF_A_POST]
            posted.update(
                transfer.id >> TAG_BITS << TAG_BITS
                for transfer in await ledger.lookup_transfers(ids)
                if transfer.flags & POST or transfer.code == TransferCode.CORRECTION
            )
        return [packet_id for packet_id in packet_ids if packet_id not in posted]

    def _post_owed(self, owed: list[LedgerPacket], kept: Mapping[int, bytes]) -> None:
        """Post what was fulfilled before a crash; a hold that is gone becomes a correction."""
        for packet in owed:
            reservation = packet.reservation(self._chart.by_id)
            if reservation is None:
                # Between accounts that this node no longer has.
                details: dict[str, object] = {"packetId": f"{packet.packet_id:032x}"}
                self._reports.alert("fulfilment_not_booked", details)
                continue
            for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
                self._mirror.hold(debit, credit, leg.amount)
            self._post(reservation)
            former = recovered(reservation)
            if former is not None:
                former.fulfill = kept[packet.packet_id]
                self._recovered[former.source_id, former.sender_packet_id] = former

    async def keep_answers(
        self, next_hop_id: str, answer_of: Callable[[str, int], bytes | None]
    ) -> int:
        """Keep Fulfills of packets whose next hop is being removed. See `AccountManager`."""
        # Their Fulfills may have been relayed before their posts.
        on_the_way = self._on_the_way()
        async with self._turn as ledger:
            transfers = await ledger.recent_transfers(self._oldest_ns())
        packets = Packets()
        for at in range(0, len(transfers), bounds.RECOVERED_AT_ONCE_MAX):
            packets.add(transfers[at : at + bounds.RECOVERED_AT_ONCE_MAX])
            await asyncio.sleep(0)
        account_id = self._chart.peers[next_hop_id].peer.account_id
        answers: dict[int, bytes] = {}
        for at, packet in enumerate(packets.all()):
            if not at % bounds.RECOVERED_AT_ONCE_MAX:
                await asyncio.sleep(0)
            if packet.outcome != POST and packet.packet_id not in on_the_way:
                continue
            if all(leg.credit_account_id != account_id for leg in packet.legs):
                continue
            reservation = packet.reservation(self._chart.by_id)
            former = None if reservation is None else recovered(reservation)
            if former is None or former.next_hop_id != next_hop_id:
                continue
            octets = answer_of(former.source_id, former.sender_packet_id)
            if octets is not None and octets[0] == FULFILL:
                answers[packet.packet_id] = octets
        await self._fulfilments.keep(answers)
        return len(answers)

    @property
    def ledger_ms(self) -> int:
        """The time by the ledger's clock in milliseconds, as far as it is known."""
        return self._ledger_ns() // 1_000_000

    def _ledger_ns(self) -> int:
        """The time by the ledger's clock, as far as it is known.

        That of an embedded ledger is ahead after this machine's clock was set back.
        """
        return self._clock.now_ns() + self._ahead_ns

    def _oldest_ns(self) -> int:
        """Oldest creation time of a packet that may be resent."""
        return self._clock.now_ns() - limits.FORMER_PACKETS_MS * 1_000_000

    def _take_up(self, reservation: Reservation, expires_at_ns: int, loaded: _Loaded) -> None:
        """Count what is held for a packet that this process has not reserved."""
        assert len(reservation.legs) == len(reservation.books)
        if not reservation.posted:
            self._count_hold(reservation, expires_at_ns, loaded)
        found = recovered(reservation)
        if found is not None:
            # A packet that is only held has no kept fulfilment: it would have been posted at the start.
            found.may_be_kept = reservation.posted and not self._fulfilments.is_empty
            loaded.packets[found.source_id, found.sender_packet_id] = found

    def _count_hold(self, reservation: Reservation, expires_at_ns: int, loaded: _Loaded) -> None:
        """Count what the ledger holds, until it expires."""
        assert reservation.packet_id not in loaded.holds, "counted twice"
        assert not reservation.posted, reservation.packet_id
        left_s = (expires_at_ns - self._ledger_ns()) / 1e9
        expires_at_s = self._clock.monotonic_s() + left_s
        loaded.holds[reservation.packet_id] = (expires_at_s, reservation)
        for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
            self._mirror.hold(debit, credit, leg.amount)

    def _note_over(self, reservation: Reservation, outcome: int, loaded: _Loaded) -> None:
        """Remember a packet that was voided or has expired, so that it is not forwarded again.

        Its outcome at the next hop is not known. If it was fulfilled there after all, forwarding it
        again as a new packet would pay it twice. One of this node itself that has expired can be asked for
        and booked all the same (`take`): nobody else's money depends on it.
        """
        if outcome or not _is_own(reservation):
            reservation.move(PromiseEvent.LAPSED)
        found = recovered(reservation)
        if found is not None:
            loaded.packets.setdefault((found.source_id, found.sender_packet_id), found)

    def _note_gone(self, packet: LedgerPacket, found: Recovered, loaded: _Loaded) -> None:
        """Remember a packet towards a peer whose accounts are gone."""
        found.may_be_kept = packet.outcome == POST and not self._fulfilments.is_empty
        loaded.packets.setdefault((found.source_id, found.sender_packet_id), found)

    def _add(self, loaded: _Loaded) -> None:
        """Let packets be found, and their holds expire."""
        for key, found in loaded.packets.items():
            if found.reservation.is_free:
                self._recovered.setdefault(key, found)
            else:
                self._recovered[key] = found
        assert not self._unclaimed_holds.keys() & loaded.holds.keys(), "counted twice"
        self._unclaimed_holds |= loaded.holds
        for one in _by_expiry(loaded):
            heapq.heappush(self._expiries, one)

    @property
    def may_know_former(self) -> bool:
        """Whether the ledger may have packets that another process accepted."""
        if self._turn.ledger.may_be_away and self._availability.is_up:
            return True  # a query is possible: no need to guess
        return self._is_shared() or self._clock.now_ms() < self._until_ms

    async def find(self, asked: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """Look up resent packets in the ledger. See `AccountManager.find_former`."""
        # What is found must be there when this returns, whatever it waits for.
        self._looking_up += 1
        try:
            return await self._find(asked)
        finally:
            self._looking_up -= 1

    async def _find(self, asked: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        decided = await self._find_in_ledger(asked)
        try:
            await self._look_up(decided)
        except (OSError, ConnectorError):
            return [
                one
                for one in decided
                if one not in self._recovered or not self._recovered[one].may_be_kept
            ]
        return decided

    async def _look_up(self, decided: Sequence[tuple[str, int]]) -> None:
        """Read the kept Fulfills of those of these packets that may have one."""
        found = (self._recovered.get(one) for one in decided)
        packets = {one.reservation.packet_id: one for one in found if one and one.may_be_kept}
        kept = await self._fulfilments.find(list(packets))
        for packet_id, one in packets.items():
            one.fulfill, one.may_be_kept = kept.get(packet_id, b""), False

    async def _find_in_ledger(self, asked: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """Look up in the ledger what is not recovered yet; returns the packets that were decided."""
        unknown = [tag for source_id, tag in asked if (source_id, tag) not in self._recovered]
        if not unknown:
            return asked
        try:
            self._availability.require_up()
            async with self._turn as ledger:
                found = await packets_tagged(ledger, unknown, self._oldest_ns())
        except (LedgerUnavailableError, LedgerRefusedError):
            return ()
        if not self._availability.is_up:
            return ()  # while this waited for the turn, resolutions went into the outbox
        # Packets that this process has answered and forgotten, and whose resolution the ledger does
        # not have yet. While the ledger is up, everything in the outbox is in the queue as well. The
        # next look-up will find them.
        unacknowledged = self._on_the_way()
        wanted, undecided = set(asked), set()
        loaded = _Loaded({}, {})
        ledger_ns = self._ledger_ns()
        superseded = superseded_by_second_ways(found)
        for packet in found:
            if packet.packet_id in superseded:
                continue  # its hold was given back by this process, or counted at the start
            reservation = packet.reservation(self._chart.by_id)
            if reservation is None:
                former = recovered_without_accounts(packet, self._chart.by_id)
            else:
                former = recovered(reservation)
            # Several peers may use the same ids.
            if former is None or (former.source_id, former.sender_packet_id) not in wanted:
                continue
            if packet.packet_id in unacknowledged:
                undecided.add((former.source_id, former.sender_packet_id))
            elif packet.packet_id in self._unclaimed_holds:
                pass
            elif reservation is None:
                self._note_gone(packet, former, loaded)
            elif packet.is_over(ledger_ns):
                self._note_over(former.reservation, packet.outcome, loaded)
            else:
                self._take_up(former.reservation, packet.expires_at_ns, loaded)
        self._add(loaded)
        return [one for one in asked if one not in undecided]

    def peek(self, source_id: str, sender_packet_id: int) -> Recovered | None:
        """The recovered packet that `source_id` sent under this id, whatever its condition."""
        if not self._recovered:
            return None
        return self._recovered.get((source_id, sender_packet_id))

    def take(self, source_id: str, sender_packet_id: int, condition: bytes) -> Recovered | None:
        """Remove and return the recovered packet that `source_id` sent under this id."""
        if not self._recovered:
            return None
        found = self._recovered.get((source_id, sender_packet_id))
        if found is None or found.condition_tag != condition_tag(condition):
            return None
        assert found.source_id == source_id
        del self._recovered[source_id, sender_packet_id]
        reservation = found.reservation
        held = self._unclaimed_holds.pop(reservation.packet_id, None)
        if held is None and source_id == LOCAL and not (reservation.posted or reservation.is_free):
            # Its hold has expired. Its flow releases it, or posts it, which becomes a correction.
            for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
                self._mirror.hold(debit, credit, leg.amount)
        return found

    def tick(self, now_ms: int) -> None:
        """Drop expired holds, and packets that cannot be resent any more."""
        if self._expiries:
            self._drop_expired(self._clock.monotonic_s())
        if self._unknown:
            self._tell_unknown()
        if (
            len(self._recovered) > len(self._unclaimed_holds)
            and now_ms >= self._until_ms
            and not self._looking_up
        ):
            # What a look-up finds later is used at once. A hold that was counted is not counted
            # again, so its packet stays as long as the hold does.
            self._recovered = {
                key: one
                for key, one in self._recovered.items()
                if one.reservation.packet_id in self._unclaimed_holds
            }

    def _drop_expired(self, now_s: float) -> None:
        """Drop holds that were not claimed in time: the ledger's own timeout releases them."""
        while self._expiries and self._expiries[0][0] <= now_s:
            _, packet_id = heapq.heappop(self._expiries)
            held = self._unclaimed_holds.pop(packet_id, None)
            if held is None:
                continue  # claimed
            _, reservation = held
            assert not reservation.posted, packet_id
            self._count_unknown(reservation)
            if not _is_own(reservation):
                reservation.move(PromiseEvent.LAPSED)
            for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
                self._mirror.release(debit, credit, leg.amount)

    def _count_unknown(self, reservation: Reservation) -> None:
        """A hold has expired, and nobody knows here what its next hop has done; payments of this node say so themselves."""
        if _is_own(reservation):
            return
        for leg, (_, credit) in zip(reservation.legs, reservation.books, strict=True):
            if credit.code is AccountCode.PEER:
                packets, amount = self._unknown.get(credit.peer_id, (0, 0))
                self._unknown[credit.peer_id] = packets + 1, amount + leg.amount

    def _tell_unknown(self) -> None:
        unknown, self._unknown = self._unknown, {}
        for peer_id, (packets, amount) in unknown.items():
            self._reports.alert(
                "packets_outcome_unknown",
                {
                    "peerId": peer_id,
                    "packets": packets,
                    "amount": str(amount),
                    "detail": "under way when a process of this node ended, and not asked for again in time: if the peer "
                    "has fulfilled them, its books say so; compare them (`audit`)",
                },
            )


def _is_own(reservation: Reservation) -> bool:
    """Whether this node itself has sent a packet, under an id by which it can ask for it again."""
    return (
        reservation.books[0][0].code is AccountCode.WALLET
        and reservation.legs[0].user_data_128 != 0
    )


async def packets_tagged(
    ledger: Ledger, tags: Sequence[int], since_ns: int, *, by_ledger: bool = False
) -> list[LedgerPacket]:
    """Packets and their outcomes, by their senders' packet ids. See `Ledger.tagged_transfers`.

    Raises:
        LedgerUnavailableError: no answer.
    """
    packets = packets_of(await ledger.tagged_transfers(tags, since_ns, by_ledger=by_ledger))
    by_id = {one.resolution_id: one for one in packets if not one.outcome}
    if by_id:
        for transfer in await ledger.lookup_transfers(list(by_id)):
            by_id[transfer.id].outcome = transfer.flags & (POST | VOID)
    return packets


def _by_expiry(loaded: _Loaded) -> list[tuple[float, int]]:
    """Expiries of holds with their packet ids, in order, which is a heap as well."""
    return sorted((expires_at_s, id_) for id_, (expires_at_s, _) in loaded.holds.items())
