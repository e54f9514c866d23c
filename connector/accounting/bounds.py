"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

LEDGER_QUEUE_RESERVATIONS_MAX: Final = limits.IN_FLIGHT_TOTAL_MAX
PENDING_GRACE_MS: Final = 10_000
POST_BUDGET_MS: Final = 250
POST_EXPIRY_MARGIN_MS: Final = 100
POST_RETRY_SECONDS: Final = 0.25
OUTBOX_BUDGET_MS: Final = 100
RECONCILE_SECONDS: Final = 5.0
OUTBOX_RESERVED_BYTES: Final = 1 << 20
# Balances of the past: so many for an answer and in a request, with a pause for packets after each
# request; an answer that takes longer goes without the rest.
LEDGER_HISTORY_POINTS_MAX: Final = 100
LEDGER_HISTORY_POINTS_PER_REQUEST_MAX: Final = 16
LEDGER_HISTORY_PAUSE_SECONDS: Final = 0.005
LEDGER_HISTORY_SECONDS_MAX: Final = 2.0
LEDGER_HISTORY_ANSWERS_WAITING_MAX: Final = 16
LEDGER_ASK_AGAIN_SECONDS_MIN: Final = 0.25
LEDGER_ASK_AGAIN_SECONDS_MAX: Final = 2.0
LEDGER_STABLE_SECONDS: Final = 5.0
assert LEDGER_HISTORY_SECONDS_MAX > LEDGER_HISTORY_POINTS_MAX * LEDGER_HISTORY_PAUSE_SECONDS
# A packet that was admitted can always be resolved: resolutions are not counted against the queue,
# and there are at most as many of them as packets in flight.
assert LEDGER_QUEUE_RESERVATIONS_MAX >= limits.IN_FLIGHT_TOTAL_MAX
