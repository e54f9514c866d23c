"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

SETTLEMENT_CHECK_SECONDS: Final = 0.5
SETTLEMENT_RETRY_SECONDS_MIN: Final = 1.0
SETTLEMENT_RETRY_SECONDS_MAX: Final = 3600.0
SETTLEMENT_LEDGER_RETRY_SECONDS_MAX: Final = 5.0
SETTLEMENT_DECISION_SECONDS_MAX: Final = 60.0
SETTLEMENT_ATTEMPTS_AT_A_TIME_MAX: Final = 64
SETTLEMENT_KEY_CHARACTERS_MAX: Final = 256
# Payments of one peer that wait for an operator; further ones are refused until one was decided.
SETTLEMENTS_WAITING_PER_PEER_MAX: Final = 100
SETTLEMENT_ENGINE_SECONDS_MAX: Final = 10.0
SETTLEMENT_MESSAGE_SECONDS_MAX: Final = 15.0
SETTLEMENT_STOP_SECONDS_MAX: Final = 2.0
assert SETTLEMENT_RETRY_SECONDS_MAX <= 3600
