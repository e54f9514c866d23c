"""Observes packets: latency, sampled log lines, and events.

Called for every packet, so most packets are only *counted*. Others are *recorded*, with an event
and a time for each step. Which of the two is decided once, on arrival, by a budget per second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from connector.base import limits
from connector.base.log import Log, Sampler
from connector.ilp.packet import Code, decode_prepare
from connector.ledger.model import PHASE_RESOLVE, first_id
from connector.peering.model import Peer
from connector.switch import bounds
from connector.switch.flight import Flight, Trace
from connector.switch.loops import Loop
from connector.switch.shortages import Shortages
from connector.switch.switch import Result
from connector.telemetry.events import (
    Event,
    NextHopShort,
    PacketForwarded,
    PacketFulfilled,
    PacketReceived,
    PacketRejected,
    RoutingLoop,
    cut,
    packet_hex,
)
from connector.telemetry.histogram import Latency


class Budget:
    """A token bucket: `per_second` tokens a second, which is also its capacity."""

    __slots__ = ("_at_s", "_left", "_per_second")

    def __init__(self, per_second: int) -> None:
        self._per_second = float(per_second)
        self._left = self._per_second
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """Take a token; returns whether there was one."""
        assert now_s >= self._at_s, (now_s, self._at_s)
        left = self._left + (now_s - self._at_s) * self._per_second
        self._at_s = now_s
        left = min(left, self._per_second)
        if left < 1.0:
            self._left = left
            return False
        self._left = left - 1.0
        return True


class PacketObserver:
    """See the module. The driver's `Observer`."""

    def __init__(
        self,
        *,
        emit: Callable[[Event], None],
        log: Log,
        monotonic_s: Callable[[], float],
        now_ms: Callable[[], int],
        packets_per_second: int,
        own_address: Callable[[], str],
    ) -> None:
        self.latency = Latency()
        self.received = 0
        self.fulfilled = 0
        self.rejected = 0
        self.counted = 0
        """Received packets that were only counted."""
        self._emit = emit
        self._log = log
        self._monotonic_s = monotonic_s
        self._now_ms = now_ms
        self._own_address = own_address
        self._whole = Budget(packets_per_second)
        self._rejects = Budget(packets_per_second)
        self._log_lines = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self.shortages: Final = Shortages()
        """Next hops that answer T04."""
        self._durations_ms: deque[float] = deque(maxlen=bounds.STATUS_LATENCY_PACKETS_MAX)

    # --- from the driver

    def began(self, flight: Flight) -> Trace | None:
        """See `Observer`."""
        self.received += 1
        if not self._whole.take(flight.began_s):
            self.counted += 1
            return None
        prepare = flight.prepare
        self._emit(
            PacketReceived(
                packet_id=flight.packet_id,
                peer_id=flight.source.peer_id,
                destination=prepare.destination,
                amount=prepare.amount,
                expires_at=prepare.expires_at_ms,
                execution_condition=prepare.condition,
            )
        )
        return Trace()

    def forwarded(self, flight: Flight, trace: Trace) -> None:
        """See `Observer`."""
        assert flight.next_hop is not None
        asked = trace.asked
        self._emit(
            PacketForwarded(
                # All events of a packet have the id of its first way.
                packet_id=first_id(flight.packet_id),
                peer_id=flight.source.peer_id,
                next_hop=flight.next_hop.peer_id,
                destination=flight.prepare.destination,
                # There is no hold for a packet with amount zero: its amount is only in the packet.
                amount=decode_prepare(flight.octets).amount if asked is None else asked.amount_out,
                fee=0 if asked is None else asked.fee,
            )
        )

    def unreadable(self, source: Peer, packet_id: int, message: str) -> None:
        """See `Observer`."""
        self.received += 1
        self.rejected += 1
        if not self._rejects.take(self._monotonic_s()):
            self.counted += 1
            return
        self._emit(
            PacketRejected(
                packet_id=packet_id,
                peer_id=source.peer_id,
                next_hop=None,
                destination="",
                amount=0,
                code=Code.F01_INVALID_PACKET.value,
                message=cut(message),
                triggered_by=self._own_address(),
                duration_ms=0.0,
            )
        )

    def ended(self, flight: Flight, result: Result) -> None:
        """See `Observer`."""
        now_s = self._monotonic_s()
        began_s = flight.began_s
        self.latency.observe(now_s - began_s)
        trace = flight.trace
        if result.code is None:
            self.fulfilled += 1
            if trace is not None:
                self._tell_fulfilled(flight, result, trace, now_s)
            return
        self.rejected += 1
        if result.code == "T04" and flight.next_hop is not None:
            self.shortages.note(
                flight.next_hop,
                result.triggered_by,
                result.message,
                self._own_address(),
                self._now_ms(),
            )
        if trace is not None:
            self._tell_rejected(flight, result, trace, now_s)
        elif self._rejects.take(now_s):
            self._tell_rejected(flight, result, Trace(), now_s)
        suppressed = self._log_lines.allow(now_s)
        if suppressed is not None:
            self._log.info(
                "packet_rejected",
                packet_id=packet_hex(flight.packet_id),
                peer_id=flight.source.peer_id,
                next_hop=result.next_hop,
                destination=flight.prepare.destination,
                amount=str(flight.prepare.amount),
                code=result.code,
                reason=result.message[: limits.REJECT_MESSAGE_CHARACTERS_OURS_MAX],
                triggered_by=result.triggered_by,
                suppressed=suppressed,
            )

    def _tell_fulfilled(self, flight: Flight, result: Result, trace: Trace, now_s: float) -> None:
        began_s = flight.began_s
        duration_ms = _since_ms(began_s, now_s)
        self._durations_ms.append(duration_ms)
        held = flight.reservation
        self._emit(
            PacketFulfilled(
                packet_id=flight.packet_id,
                peer_id=flight.source.peer_id,
                next_hop=result.next_hop or "",
                destination=flight.prepare.destination,
                amount=flight.prepare.amount,
                duration_ms=duration_ms,
                reserved_ms=_after_ms(began_s, trace.reserved_s),
                forwarded_ms=_after_ms(began_s, trace.forwarded_s),
                answered_ms=_after_ms(began_s, trace.answered_s),
                posted_ms=_after_ms(began_s, trace.posted_s),
                reserve_ids="" if held is None else _ids(leg.id for leg in held.legs),
                resolve_ids="" if held is None else _ids(held.resolution_ids),
            )
        )

    def _tell_rejected(self, flight: Flight, result: Result, trace: Trace, now_s: float) -> None:
        assert result.code is not None
        began_s = flight.began_s
        duration_ms = _since_ms(began_s, now_s)
        self._durations_ms.append(duration_ms)
        # Without a reservation time the ledger refused the hold.
        held = flight.reservation if trace.reserved_s is not None else None
        self._emit(
            PacketRejected(
                packet_id=flight.packet_id,
                peer_id=flight.source.peer_id,
                next_hop=result.next_hop,
                destination=flight.prepare.destination,
                amount=flight.prepare.amount,
                code=result.code,
                message=cut(result.message),
                triggered_by=result.triggered_by,
                duration_ms=duration_ms,
                reserved_ms=_after_ms(began_s, trace.reserved_s),
                forwarded_ms=_after_ms(began_s, trace.forwarded_s),
                answered_ms=_after_ms(began_s, trace.answered_s),
                reserve_ids="" if held is None else _ids(leg.id for leg in held.legs),
                resolve_ids=""
                if held is None
                else _ids(leg.id | PHASE_RESOLVE for leg in held.legs),
            )
        )

    # --- once a second

    def tell_loops(self, news: Iterable[tuple[Loop, int]]) -> None:
        """Tell the operator of loops of routes, with the packets that were refused since the last time."""
        for loop, packets in news:
            self._log.warning(
                "routing_loop",
                peer_id=loop.source_id,
                next_hop=loop.next_hop_id,
                prefix=loop.prefix,
                destination=loop.destination,
                packets=packets,
                detail="packets sent to next_hop come back from peer_id: a route here or there is wrong",
            )
            self._emit(
                RoutingLoop(
                    peer_id=loop.source_id,
                    next_hop=loop.next_hop_id,
                    prefix=loop.prefix,
                    destination=loop.destination,
                    packets=packets,
                )
            )

    def tell_shortages(self) -> None:
        """Tell the operator of next hops that have answered T04 since the last time."""
        for one, packets in self.shortages.take_news(self._now_ms()):
            reason = one.message[: limits.REJECT_MESSAGE_CHARACTERS_OURS_MAX]
            self._log.warning(
                "next_hop_short",
                peer_id=one.peer_id,
                triggered_by=one.triggered_by,
                reason=reason,
                packets=packets,
                detail="the next hop refuses packets for want of credit: settle with it, or agree on a "
                "higher limit there",
            )
            self._emit(
                NextHopShort(
                    peer_id=one.peer_id,
                    triggered_by=one.triggered_by,
                    message=reason,
                    packets=packets,
                )
            )

    # --- for the status

    def take_latencies_ms(self) -> tuple[float | None, float | None]:
        """Median and 99th percentile in ms since the last call, of recorded packets."""
        durations_ms = sorted(self._durations_ms)
        self._durations_ms.clear()
        if not durations_ms:
            return None, None
        last = len(durations_ms) - 1
        return durations_ms[last // 2], durations_ms[last * 99 // 100]


def _since_ms(began_s: float, at_s: float) -> float:
    return round((at_s - began_s) * 1000, 3)


def _after_ms(began_s: float, at_s: float | None) -> float | None:
    return None if at_s is None else _since_ms(began_s, at_s)


def _ids(transfer_ids: Iterable[int]) -> str:
    return " ".join(map(packet_hex, transfer_ids))
