"""Whether the routes over a neighbour rank last, because its link is lost, or was lost again and again. Pure.

    lost        after LOST_MS they rank last: until then nobody is told, since most links are back by then
    connected   they rank as before: at once, but after a wait that doubles each time that they ranked last
                again within STEADY_MS, so that a link that comes and goes moves routes rarely

What an update of a neighbour costs those who hear of it is bounded so, too: a table is told anew at most every few seconds.
"""

from __future__ import annotations

from typing import Final

from connector.routing import bounds

NEVER_MS: Final = 1 << 62
_DOUBLINGS_MAX: Final = 16


class LinkState:
    """See the module. Times are milliseconds, by the clock that is handed in."""

    def __init__(self) -> None:
        """A link that was never lost."""
        self.ranks_last = False
        self.changes_ms = NEVER_MS
        """When `tick` has something to do."""
        self._losses = 0
        """How often in a row routes have ranked last before the link was steady."""
        self._restored_ms = -NEVER_MS

    def lost(self, now_ms: int, *, comes_back: bool) -> None:
        """The link is lost; `comes_back`: packets wait for the process that follows."""
        self.changes_ms = NEVER_MS
        if not self.ranks_last:
            self.changes_ms = now_ms + (bounds.REPLACED_MS if comes_back else bounds.LOST_MS)

    def connected(self, now_ms: int) -> None:
        """There is a link, perhaps another one than before."""
        self.changes_ms = NEVER_MS
        if self.ranks_last:
            self.changes_ms = now_ms
            if self._losses > 1:
                wait_ms = bounds.STEADY_MS_MIN << min(self._losses - 2, _DOUBLINGS_MAX)
                self.changes_ms += min(wait_ms, bounds.STEADY_MS)

    def tick(self, now_ms: int) -> bool:
        """Whether `ranks_last` has changed."""
        if now_ms < self.changes_ms:
            return False
        self.changes_ms = NEVER_MS
        self.ranks_last = not self.ranks_last
        if not self.ranks_last:
            self._restored_ms = now_ms
        elif now_ms - self._restored_ms < bounds.STEADY_MS:
            self._losses += 1
        else:
            self._losses = 1
        return True
