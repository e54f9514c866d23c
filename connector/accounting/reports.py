"""Callbacks of the package: outcomes to the switch, alerts to operators, counters. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from connector.accounting import bounds
from connector.accounting.promises import Outcome, Reservation, Token
from connector.ledger.model import Status

TOO_SLOW: Final = "the disk is too slow"


@dataclass(slots=True)
class AccountingCounters:
    """Plain integers for metrics."""

    requests: int = 0
    events: int = 0
    corrections: int = 0
    released: int = 0
    """Fulfills sent when the ledger had not acknowledged the post within its budget."""
    relayed: int = 0
    """Fulfills sent when they were kept, before their posts were queued."""
    reconciled: int = 0
    """Accounts whose mirror was updated by what another process booked."""
    spooled: int = 0
    """Transfers that went into the outbox instead of the ledger."""
    refused_unexpectedly: int = 0


class Reports:
    """See the module."""

    def __init__(
        self,
        *,
        alert: Callable[[str, dict[str, object]], None],
        request_done: Callable[[float, int], None],
    ) -> None:
        self.counters: Final = AccountingCounters()
        self.alert: Final = alert
        """Takes the name and fields of a log event that an operator should see."""
        self.request_done: Final = request_done
        """Takes the seconds that a request of the writer took, and its number of transfers."""
        self.resume: Callable[[Token, Outcome], None] = lambda _token, _outcome: None
        """Takes the handle of a waiting caller and its outcome."""
        self.turn_done: Callable[[], None] = lambda: None
        """Called when all outcomes of a request have been delivered."""
        # By alert: packets since it was raised last, the reason of the last of them, and when.
        self._tallies: dict[str, tuple[int, str]] = {}
        self._told_ms: dict[str, int] = {}

    def refused(
        self, reservation: Reservation, statuses: Sequence[Status], *, owed: bool = False
    ) -> None:
        """The ledger refused transfers without a known reason: an operator must decide.

        `owed`: the packet was fulfilled, so its amount is lost until then.
        """
        self.counters.refused_unexpectedly += 1
        details = packet_details(reservation.packet_id, statuses)
        if owed:
            details["amountLost"] = str(sum(leg.amount for leg in reservation.legs))
        self.alert("accounting_refused", details)

    def tally(self, event: str, packets: int, why: str) -> None:
        """Count packets for an alert, which the next `tick` raises, at a limited rate."""
        assert packets > 0, packets
        before, _ = self._tallies.get(event, (0, ""))
        self._tallies[event] = (before + packets, why)

    def tick(self, now_ms: int) -> None:
        """Raise the counted alerts, each at most every ALERT_AGAIN_MS."""
        for event in list(self._tallies):
            told_ms = self._told_ms.get(event)
            if told_ms is None or now_ms - told_ms >= bounds.ALERT_AGAIN_MS:
                self._told_ms[event] = now_ms
                self._tell_tally(event)

    def flush(self) -> None:
        """Tell what was tallied: there will be no more ticks."""
        for event in list(self._tallies):
            self._tell_tally(event)

    def _tell_tally(self, event: str) -> None:
        packets, why = self._tallies.pop(event)
        self.alert(event, {"packets": packets, "error": why})

    def outbox_failed(self, why: str) -> None:
        """The outbox could not be written."""
        self.alert("outbox_failed", {"error": why})


def packet_details(packet_id: int, statuses: Sequence[Status]) -> dict[str, object]:
    """The fields of an alert about a packet."""
    return {
        "packetId": f"{packet_id:032x}",
        "statuses": [status.name for status in statuses],
    }
