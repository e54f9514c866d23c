"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

LEDGER_BATCH_TRANSFERS_MAX: Final = 8189
LEDGER_REMEMBERED_TRANSFERS_MAX: Final = 40_000
LEDGER_CHECKPOINT_TRANSFERS: Final = 20_000
LEDGER_LOOK_MS: Final = 10_000
# A packet is looked up by its tag: its legs, posts and corrections are a dozen transfers at most.
# The results of this many queries fit in one message.
LEDGER_REQUESTS_AT_ONCE_MAX: Final = 64
LEDGER_TRANSFERS_PER_TAG_MAX: Final = 64
assert LEDGER_REQUESTS_AT_ONCE_MAX * LEDGER_TRANSFERS_PER_TAG_MAX < LEDGER_BATCH_TRANSFERS_MAX
assert LEDGER_REMEMBERED_TRANSFERS_MAX > 4 * LEDGER_BATCH_TRANSFERS_MAX
# What was written since a checkpoint is in memory, and is not looked for in the journal.
assert (
    LEDGER_REMEMBERED_TRANSFERS_MAX >= LEDGER_CHECKPOINT_TRANSFERS + 2 * LEDGER_BATCH_TRANSFERS_MAX
)
# The journal of the embedded ledger (`retention`). Rows are kept for longer than a packet can be
# resent, whatever the size of the file.
JOURNAL_POINTS_PER_RETENTION: Final = 30
JOURNAL_POINTS_PER_SIZE: Final = 16
JOURNAL_KEPT_SECONDS_MIN: Final = limits.FORMER_PACKETS_MS // 1000 + 240
JOURNAL_ROWS_PRUNED_AT_ONCE: Final = 128
JOURNAL_ROWS_COVERED_AT_ONCE: Final = 10_000
JOURNAL_SLICES_PER_UPKEEP: Final = 16
"""About once a second: 2,048 rows, more than a busy node writes in that time."""
# Fulfilments that are kept (`kept`): how long a block may become (one fulfilment may be longer), what
# it takes beside its octets, and how many are removed between two requests.
KEPT_BLOCK_BYTES_MAX: Final = 64 << 10
KEPT_BLOCK_OVERHEAD_BYTES: Final = 128
KEPT_BLOCKS_FORGOTTEN_AT_ONCE_MAX: Final = 128
REPLAYED_ROWS_PER_REPORT: Final = 64
ACCOUNT_IDS_KEPT_MAX: Final = 4096
"""Ids of accounts that are kept as octets: those of a thousand peers."""
