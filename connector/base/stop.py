"""How a node is asked to stop."""

from __future__ import annotations

import asyncio


class Stop(asyncio.Event):
    """Set to stop a node."""

    comes_back = False
    """Whether a new process of the node follows at once; peers with packet ids are told so."""

    def for_replacement(self) -> None:
        """Stop, and let a new process follow at once."""
        self.comes_back = True
        self.set()
