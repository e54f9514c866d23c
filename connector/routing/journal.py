"""What has changed in the routes in use, by epoch, and which of them a shorter prefix makes superfluous.

Every change of the route in use for a prefix (next hop, path, auth or properties: requirement 84) is entered under
the next epoch; an older entry of the prefix is void then. What is told of a prefix is read from the routes
in use when it is told, so the journal holds names only. A prefix without a route stays as a withdrawal until
all who listen know of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

from connector.peering.routing import Route, RoutingTable
from connector.routing import bounds

_epoch_of: Final = itemgetter(0)


class Journal:
    """See the module. Pure: the routing table says what has changed."""

    def __init__(self, table: RoutingTable) -> None:
        self.epoch = 0
        """The latest."""
        self.complete_from = 0
        """Who knows less than this epoch may have missed a withdrawal that is forgotten."""
        self._table = table
        self._best: dict[str, Route] = {}
        self._order: list[str] = []
        """The prefixes of `_best`, sorted: what lies below one is in a row."""
        self._entries: list[tuple[int, str]] = []
        """Epochs never fall; void entries are dropped when they are the half."""
        self._epoch_of: dict[str, int] = {}
        self._withdrawn = 0
        self._in_epoch = bounds.PREFIXES_PER_EPOCH_MAX
        """Prefixes in the latest epoch; full at first, so that the first change begins one."""

    def __len__(self) -> int:
        return len(self._epoch_of)

    def best(self, prefix: str) -> Route | None:
        """The route in use, as it was when the journal last looked."""
        return self._best.get(prefix)

    # --- what has changed

    def look(self) -> int:
        """Enter what has changed in the table; returns how many routes were examined for it."""
        dirty = self._table.take_changed()
        if not dirty:
            return 0
        changed: dict[str, None] = {}
        moved: list[str] = []
        is_ordered = True
        for prefix in sorted(dirty):
            before, now = self._best.get(prefix), self._table.best(prefix)
            if now is None:
                if before is None:
                    continue
                del self._best[prefix]
            else:
                if before is not None and before == now and before.learned == now.learned:
                    self._best[prefix] = now
                    continue
                self._best[prefix] = now
            is_ordered = is_ordered and before is not None and now is not None
            changed[prefix] = None
            if before is None or now is None or before.next_hop != now.next_hop:
                moved.append(prefix)
        if not changed:
            return len(dirty)
        if not is_ordered:
            self._order = sorted(self._best)
        examined = len(dirty) + (0 if is_ordered else len(self._order))
        for prefix in moved:
            # Whether these are told depends on the route above them (requirement 83).
            for below in self._below(prefix):
                examined += 1
                changed[below] = None
        self._enter(changed)
        return examined

    def begin_anew(self) -> None:
        """Number from the first epoch again; those who listen have to begin anew."""
        self._entries.clear()
        self._epoch_of.clear()
        self.epoch = self.complete_from = 0
        self._enter(self._order)

    def _below(self, prefix: str) -> Iterator[str]:
        if not prefix:
            return
        first = prefix + "."
        for at in range(bisect_left(self._order, first), len(self._order)):
            if not self._order[at].startswith(first):
                return
            yield self._order[at]

    def _enter(self, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            if self._in_epoch >= bounds.PREFIXES_PER_EPOCH_MAX:
                self.epoch += 1
                self._in_epoch = 0
            self._in_epoch += 1
            self._epoch_of[prefix] = self.epoch
            self._entries.append((self.epoch, prefix))
        # What comes later is a change of its own: who knows this epoch has to be told.
        self._in_epoch = bounds.PREFIXES_PER_EPOCH_MAX
        if len(self._entries) > 2 * len(self._epoch_of) + 64:
            self._entries = [one for one in self._entries if self._epoch_of.get(one[1]) == one[0]]

    # --- what has to be told

    def after(self, epoch: int) -> Iterator[tuple[int, str]]:
        """Epochs after this one with the prefixes that have changed, each prefix once."""
        for at in range(bisect_left(self._entries, epoch + 1, key=_epoch_of), len(self._entries)):
            entered, prefix = self._entries[at]
            if self._epoch_of.get(prefix) == entered:
                yield entered, prefix

    def forget_withdrawn(self, known_to_all: int) -> None:
        """Drop withdrawals that all know; more than WITHDRAWN_MAX also if some do not.

        These have to begin anew (`complete_from`).
        """
        if len(self._epoch_of) - len(self._best) <= min(bounds.WITHDRAWN_MAX, 64):
            return
        withdrawn = [one for one in self._epoch_of.items() if one[0] not in self._best]
        over = len(withdrawn) - bounds.WITHDRAWN_MAX
        withdrawn.sort(key=itemgetter(1))
        for at, (prefix, epoch) in enumerate(withdrawn):
            if epoch > known_to_all and at >= over:
                break
            self.complete_from = max(self.complete_from, epoch)
            del self._epoch_of[prefix]

    # --- what a shorter prefix says, too

    def covering(self, prefix: str) -> Iterator[Route]:
        """Routes in use for shorter prefixes that hold this one, the longest first."""
        at = prefix.rfind(".")
        while at > 0:
            prefix = prefix[:at]
            route = self._best.get(prefix)
            if route is not None:
                yield route
            at = prefix.rfind(".")
