"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

# Values of settings
PEERS_MAX: Final = 10_000
RATE_LIMIT_PACKETS_PER_SECOND_MAX: Final = 10_000_000
WALLETS_MAX: Final = 1000
THROUGHPUT_WINDOW_SECONDS_MAX: Final = 86_400
EXPLORER_NODES_MAX: Final = 64
"""Other nodes, queried for the network view."""
EXPOSED_SECRET_CHARACTERS_MIN: Final = 16
"""Of secrets that protect a listener which others reach: 16 characters of hex have 64 random bits."""
LEDGER_FILE_BYTES_MIN: Final = 64 << 20
assert LEDGER_FILE_BYTES_MIN <= limits.LEDGER_FILE_BYTES

# Files
YAML_FILE_BYTES_MAX: Final = 64 << 20
"""10,000 peers with long route lists take about 10 MB."""
YAML_VALUES_MAX: Final = 2_000_000
"""Values in one file, counted again for each repetition by an alias."""
YAML_DEPTH_MAX: Final = 32
"""Nesting of lists and mappings; the settings need 4. Checked for brackets and in total."""
VALUE_FILE_BYTES_MAX: Final = 1 << 20
"""A file with one value: a long list of routes or rates is smaller."""
CHANGES_FILE_BYTES_MAX: Final = 64 << 20

# What is shown
ROUTES_SHOWN_MAX: Final = 20
VALUE_SHOWN_CHARACTERS_MAX: Final = 200
RATE_DIGITS_SHOWN_MAX: Final = 60
"""Of a rate by `check-config`."""

# Sinks
SINK_EVENT_NAMES_MAX: Final = 64
SINK_SECRET_CHARACTERS_MIN: Final = 16
