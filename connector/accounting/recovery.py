"""Keeps what the ledger knows of packets that this process has not taken, or has forgotten.

Another process took them, or this one before it was restarted: what is held for them is counted
until it expires, and a sender that resends one gets the answer of the first (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.entries import condition_tag
from connector.accounting.mirror import Mirror
from connector.accounting.promises import PromiseEvent, Reservation
from connector.accounting.resent import LedgerPacket, Recovered, packets_of, recovered
from connector.accounting.turn import Turn
from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.ledger.interface import Ledger
from connector.ledger.model import POST, VOID


class Recovery:
    """Resent packets that only the ledger knows, and holds that nobody has claimed yet."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        mirror: Mirror,
        availability: Availability,
        clock: Clock,
        on_the_way: Callable[[], set[int]],
        is_shared: Callable[[], bool],
    ) -> None:
        """Nothing is known yet.

        Args:
            turn: for the ledger.
            chart: for accounts.
            mirror: counts what is held.
            availability: whether the ledger can be asked.
            clock: for holds that expire.
            on_the_way: packets whose resolution the ledger has not acknowledged.
            is_shared: whether other processes book for this node too.
        """
        self._turn = turn
        self._chart = chart
        self._mirror = mirror
        self._availability = availability
        self._clock = clock
        self._on_the_way = on_the_way
        self._is_shared = is_shared
        self._recovered: dict[tuple[str, int], Recovered] = {}
        # By packet: when the hold expires, and what is held.
        self._unclaimed_holds: dict[int, tuple[int, Reservation]] = {}
        # Until then packets of an earlier life of this node may be resent.
        self._until_ms = 0

    def begin(self) -> None:
        """From now on packets that were taken before may be resent."""
        self._until_ms = self._clock.now_ms() + limits.FORMER_PACKETS_MS

    def nobody_before(self) -> None:
        """The ledger had no accounts of this node: no packet was taken before."""
        self._until_ms = 0

    async def load(self, ledger: Ledger) -> None:
        """Find packets that a peer may resend, and count what is held for them."""
        now_ns = self._clock.now_ns()
        # The ledger may still count a hold whose time is up; the mirror counts those that we know
        # of and will let go of, so that the two agree as soon as nothing is held.
        for book in self._chart.by_id.values():
            self._mirror.forget_holds(book)
        for packet in packets_of(await ledger.recent_transfers(self._oldest_ns())):
            if not packet.is_over(now_ns):
                reservation = packet.reservation(self._chart.by_id)
                if reservation is not None:
                    self._take_up(reservation, packet.expires_at_ns)

    def _oldest_ns(self) -> int:
        """Oldest creation time of a packet that may be resent."""
        return self._clock.now_ns() - limits.FORMER_PACKETS_MS * 1_000_000

    def _take_up(self, reservation: Reservation, expires_at_ns: int) -> None:
        """Count what is held for a packet that this process has not reserved."""
        assert len(reservation.legs) == len(reservation.books)
        if not reservation.posted:
            assert reservation.packet_id not in self._unclaimed_holds, "counted twice"
            self._unclaimed_holds[reservation.packet_id] = (expires_at_ns, reservation)
            for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
                self._mirror.hold(debit, credit, leg.amount)
        found = recovered(reservation)
        if found is not None:
            self._recovered[found.source_id, found.sender_packet_id] = found

    @property
    def may_know_former(self) -> bool:
        """Whether the ledger may have packets that were taken by another process than this."""
        if self._turn.ledger.may_be_away and self._availability.is_up:
            return True  # it can be asked: no need to guess
        return self._is_shared() or self._clock.now_ms() < self._until_ms

    async def find(self, asked: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """Ask the ledger whether it has resent packets. See `AccountManager.find_former`."""
        unknown = [tag for source_id, tag in asked if (source_id, tag) not in self._recovered]
        if not unknown:
            return asked
        try:
            self._availability.require_up()
            async with self._turn as ledger:
                found = await self._packets_tagged(ledger, unknown)
        except (LedgerUnavailableError, LedgerRefusedError):
            return ()
        if not self._availability.is_up:
            return ()  # while we waited for our turn, resolutions went into the outbox
        # What this process has answered and forgotten, and the ledger does not have yet: also what
        # is in the outbox is in the queue as long as the ledger is there. Asked again in a moment,
        # it will know.
        on_the_way = self._on_the_way()
        wanted, undecided = set(asked), set()
        now_ns = self._clock.now_ns()
        for packet in found:
            reservation = packet.reservation(self._chart.by_id)
            former = None if reservation is None else recovered(reservation)
            # Other peers may use the same ids.
            if former is None or (former.source_id, former.sender_packet_id) not in wanted:
                continue
            if packet.packet_id in on_the_way:
                undecided.add((former.source_id, former.sender_packet_id))
            elif not packet.is_over(now_ns) and packet.packet_id not in self._unclaimed_holds:
                self._take_up(former.reservation, packet.expires_at_ns)
        return [one for one in asked if one not in undecided]

    async def _packets_tagged(self, ledger: Ledger, tags: Sequence[int]) -> list[LedgerPacket]:
        """Packets by the senders' ids of them, with what became of them."""
        packets = packets_of(await ledger.tagged_transfers(tags, self._oldest_ns()))
        by_id = {one.resolution_id: one for one in packets if not one.outcome}
        if by_id:
            for transfer in await ledger.lookup_transfers(list(by_id)):
                by_id[transfer.id].outcome = transfer.flags & (POST | VOID)
        return packets

    def peek(self, source_id: str, sender_packet_id: int) -> Recovered | None:
        """The packet that `source_id` sent under this id before, whatever its condition."""
        if not self._recovered:
            return None
        return self._recovered.get((source_id, sender_packet_id))

    def take(self, source_id: str, sender_packet_id: int, condition: bytes) -> Recovered | None:
        """The packet that `source_id` sent under this id before; asked for once."""
        if not self._recovered:
            return None
        found = self._recovered.get((source_id, sender_packet_id))
        if found is None or found.condition_tag != condition_tag(condition):
            return None
        assert found.reservation.books[0][0].peer_id == source_id
        del self._recovered[source_id, sender_packet_id]
        self._unclaimed_holds.pop(found.reservation.packet_id, None)
        return found

    def tick(self, now_ms: int) -> None:
        """Let go of what nobody can ask for any more."""
        if self._unclaimed_holds:
            self._drop_expired(now_ms * 1_000_000)
        if self._recovered and now_ms >= self._until_ms:
            self._recovered.clear()

    def _drop_expired(self, now_ns: int) -> None:
        """Holds that nobody claimed in time: the ledger's own timeout frees them."""
        for packet_id, (expires_at_ns, reservation) in list(self._unclaimed_holds.items()):
            if expires_at_ns <= now_ns:
                del self._unclaimed_holds[packet_id]
                source_id = reservation.books[0][0].peer_id
                self._recovered.pop((source_id, reservation.legs[0].user_data_128), None)
                assert not reservation.posted, packet_id
                reservation.move(PromiseEvent.LAPSED)
                for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
                    self._mirror.release(debit, credit, leg.amount)
