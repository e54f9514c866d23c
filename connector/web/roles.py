"""The roles of keys: what each key allows."""

from __future__ import annotations

from enum import IntEnum, auto


class Role(IntEnum):
    """What the owner of a key may do; a higher role may do what the lower ones may."""

    METRICS = auto()
    """Read the balances in /metrics: METRICS_KEY."""
    READ = auto()
    """Read everything: READ_API_KEY."""
    OPERATE = auto()
    """Read and change everything: ADMIN_API_KEY."""
