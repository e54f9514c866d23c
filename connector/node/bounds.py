"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

TELEMETRY_ROUTES_MAX: Final = 1000
ILDCP_SECONDS_MAX: Final = 10
# From the stop of a process to the start of the one that replaces it.
REPLACED_SECONDS_MAX: Final = 60
REPLACED_FILE_BYTES_MAX: Final = 1 << 20
STANDBY_LEDGER_TIMEOUT_MS_MAX: Final = 1000
"""How long a standby waits for an answer: looks that are further apart do not count as watching."""
CHANGE_FAULT_CHARACTERS_MAX: Final = 300
"""Of the reason in the record of an operator's change that could not be carried out."""
PEM_BYTES_MAX: Final = 1 << 20
"""Of a key file, as much as is looked at to say what is wrong with it."""
# Payments of this node
PAYMENTS_AT_ONCE_MAX: Final = 64
PAYMENTS_KEPT_MAX: Final = 10_000
"""After so many newer ones, a payment that has ended is forgotten, and its key may be used again."""
PAYMENT_KEY_CHARACTERS_MAX: Final = 100
PAYMENT_LOOK_S: Final = 1.0
"""How often a payment is looked at while nothing happens."""
SPSP_SECONDS_MAX: Final = 10.0
SPSP_BYTES_MAX: Final = 65_536
