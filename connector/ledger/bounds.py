"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

LEDGER_BATCH_TRANSFERS_MAX: Final = 8189
LEDGER_REMEMBERED_TRANSFERS_MAX: Final = 40_000
LEDGER_CHECKPOINT_TRANSFERS: Final = 20_000
LEDGER_LOOK_MS: Final = 10_000
# A packet is looked up by its tag: its legs, posts and corrections are a dozen transfers at most, and
# the answers to so many questions fit in one message.
LEDGER_REQUESTS_AT_ONCE_MAX: Final = 64
LEDGER_TRANSFERS_PER_TAG_MAX: Final = 64
assert LEDGER_REQUESTS_AT_ONCE_MAX * LEDGER_TRANSFERS_PER_TAG_MAX < LEDGER_BATCH_TRANSFERS_MAX
assert LEDGER_REMEMBERED_TRANSFERS_MAX > 4 * LEDGER_BATCH_TRANSFERS_MAX
