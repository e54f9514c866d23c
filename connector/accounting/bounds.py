"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

LEDGER_QUEUE_RESERVATIONS_MAX: Final = limits.IN_FLIGHT_TOTAL_MAX
PENDING_GRACE_MS: Final = 10_000
POST_BUDGET_MS: Final = 250
POST_EXPIRY_MARGIN_MS: Final = 100
POST_RETRY_SECONDS: Final = 0.25
# Before the sender's last moment a post has so long to get into the outbox.
OUTBOX_BUDGET_MS: Final = 100
OUTBOX_RETRY_SECONDS: Final = 0.5
ALERT_AGAIN_MS: Final = 10_000
GRANT_TRIES_MAX: Final = 16
RECONCILE_SECONDS: Final = 5.0
ACKNOWLEDGED_ACCOUNTS_AT_ONCE_MAX: Final = 1024
# At a start, between two turns of the event loop.
RECOVERED_AT_ONCE_MAX: Final = 500
OUTBOX_RESERVED_BYTES: Final = 1 << 20
# Fulfilments that could not be fetched again. The post of one is queued so long before the sender's
# last moment, on disk or not; and a node that stops waits so long for the disk.
FULFILMENT_POST_MS: Final = POST_BUDGET_MS + OUTBOX_BUDGET_MS
FULFILMENT_STOP_SECONDS: Final = 1.0
# One that belongs beside its post in the ledger, while that post has to go into the outbox: until so
# long before the sender's last moment, which leaves time for another try, the post waits for it.
FULFILMENT_WAIT_MS: Final = int(OUTBOX_RETRY_SECONDS * 1000) + OUTBOX_BUDGET_MS
FULFILMENTS_BYTES_MAX: Final = 512 << 20
# One that could be fetched again, and is kept so that it can be relayed before its post is booked: how
# long the disk may take; how long none is kept after it has failed or taken longer; and how long it is
# kept at least. While its post is neither in the ledger nor in the outbox it is kept in any case.
FULFILMENT_EARLY_MS: Final = 50
FULFILMENT_NOT_EARLY_MS: Final = 1000
FULFILMENT_EARLY_KEPT_MS: Final = 2000
# About once a second: 2,048 blocks, more than there are requests to a ledger in that time.
FULFILMENT_SLICES_FORGOTTEN_AT_ONCE_MAX: Final = 16
# A write begins when the packets that wait for it are one in so many of those in the ledger's request,
# or after so long.
FULFILMENTS_GATHERED_ONE_IN: Final = 3
FULFILMENTS_GATHERED_SECONDS: Final = 0.004
# More packets than that in the ledger's request are a crowd, which waits for CPU: a write begins when as
# many wait for it, or after so long.
FULFILMENTS_CROWD: Final = 128
# More than that in its request and in the queue for the next: no Fulfill is kept that need not be. Relaying early
# spares a packet alone a fifth of its time; of a hundred at a time it costs a seventh of the packets per second.
LEDGER_CROWD: Final = 32
FULFILMENTS_GATHERED_IN_CROWD_SECONDS: Final = 0.006
# It begins at once when a packet has less time left than this: longer than a tick and such a wait.
FULFILMENTS_GATHERED_UNTIL_MS: Final = 30
FULFILMENTS_LOOKED_UP_AT_ONCE_MAX: Final = 500
# Past balances: points per answer and per request, the pause after each request that leaves the
# ledger to packets, and the time after which an answer is returned incomplete.
LEDGER_HISTORY_POINTS_MAX: Final = 100
LEDGER_HISTORY_POINTS_PER_REQUEST_MAX: Final = 16
LEDGER_HISTORY_PAUSE_SECONDS: Final = 0.005
LEDGER_HISTORY_SECONDS_MAX: Final = 2.0
LEDGER_HISTORY_ANSWERS_WAITING_MAX: Final = 16
LEDGER_ASK_AGAIN_SECONDS_MIN: Final = 0.25
LEDGER_ASK_AGAIN_SECONDS_MAX: Final = 2.0
LEDGER_STABLE_SECONDS: Final = 5.0
# The lease (`lease`): how often the active process looks for another one and gives a sign of life; how
# old its last look may be when it holds money; how often a standby looks, how far apart its looks may
# be to count as watching, and after which silence it takes over.
LEASE_LOOK_SECONDS: Final = 1.0
LEASE_VALID_SECONDS: Final = 2.0
LEASE_STANDBY_LOOK_SECONDS: Final = 0.5
LEASE_STANDBY_LOOK_GAP_SECONDS_MAX: Final = 2.0
LEASE_SILENCE_SECONDS: Final = 3.0
LEASE_SILENCE_AFTER_OUTAGE_SECONDS_MAX: Final = 15.0
"""After an outage of the ledger the silence is as long as there was no sign before, up to this."""
# A process that did nothing for longer asks whether it is still the active one before it sends anything.
LEASE_STANDSTILL_SECONDS: Final = 1.0
LEASE_DOUBT_SECONDS: Final = 5.0
"""How long such a process waits for a ledger that does not answer, where no standby was seen before."""
LEASE_BEATS_LOOKED_UP_MAX: Final = 8
LEASE_CLAIM_TRIES_MAX: Final = 8
LEASE_OUTBOX_SECONDS_MAX: Final = 10.0
"""How long a superseded process waits for its outbox to be booked."""
# Whoever is woken after a standby has taken over looks before it holds anything.
assert (
    LEASE_SILENCE_AFTER_OUTAGE_SECONDS_MAX
    > LEASE_SILENCE_SECONDS + 4 * LEDGER_ASK_AGAIN_SECONDS_MAX
)
assert LEASE_SILENCE_SECONDS > LEASE_VALID_SECONDS > LEASE_LOOK_SECONDS
# Between two signs of life there may be a look, a standstill that is not noticed, and a request.
assert LEASE_SILENCE_SECONDS > LEASE_LOOK_SECONDS + LEASE_STANDSTILL_SECONDS
assert LEASE_SILENCE_SECONDS > LEASE_STANDBY_LOOK_GAP_SECONDS_MAX > LEASE_STANDBY_LOOK_SECONDS
assert LEDGER_HISTORY_SECONDS_MAX > LEDGER_HISTORY_POINTS_MAX * LEDGER_HISTORY_PAUSE_SECONDS
# A packet that was admitted can always be resolved: resolutions are not counted against the queue,
# and there are at most as many of them as packets in flight, and as many that were relayed
# (`fulfilments`).
assert LEDGER_QUEUE_RESERVATIONS_MAX >= limits.IN_FLIGHT_TOTAL_MAX
