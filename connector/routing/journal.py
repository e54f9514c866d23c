"""What has changed in the routes in use, by epoch, and which of them a shorter prefix makes superfluous.

Every change of the route in use for a prefix (next hop, path, auth or properties: requirement 84) is entered under
the next epoch; an older entry of the prefix is void then. What is told of a prefix is read from the routes
in use when it is told, so the journal holds names only. A prefix without a route stays as a withdrawal until
all who listen know of it.

A neighbour can change thousands of routes at once, and one change can concern all below it. So `look` enters a
bounded number, in the order in which they came; the rest waits for the next one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import islice
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
        self._withdrawn: dict[str, None] = {}
        """Those of `_epoch_of` without a route, the oldest first."""
        self._in_epoch = bounds.PREFIXES_PER_EPOCH_MAX
        """Prefixes in the latest epoch; full at first, so that the first change begins one."""
        self._dirty: dict[str, None] = {}
        """Prefixes that were not looked at since the table said that they have changed."""
        self._last: set[str] = set()
        """Prefixes of `_best` whose next hop has lost its link: told as a last resort."""
        self._moved: dict[str, str] = {}
        """Prefixes whose next hop has changed; what lies below, after the one named, is to be entered anew."""
        self._moved_again: set[str] = set()
        """Those of `_moved` whose next hop has changed once more since."""

    def __len__(self) -> int:
        return len(self._epoch_of)

    def best(self, prefix: str) -> Route | None:
        """The route in use, as it was when the journal last looked."""
        return self._best.get(prefix)

    def is_last_resort(self, prefix: str) -> bool:
        """Whether the link to the next hop of the route in use was lost when the journal last looked."""
        return prefix in self._last

    def epoch_of(self, prefix: str) -> int:
        """The epoch of the latest change of a prefix; zero: none is known."""
        return self._epoch_of.get(prefix, 0)

    # --- what has changed

    @property
    def has_work(self) -> bool:
        """Whether something has changed that is not entered yet."""
        return bool(self._dirty or self._moved or self._table.has_changed)

    def look(self) -> int:
        """Enter what has changed in the table, or the first of it.

        Returns:
            How many routes were examined for it; in a large table sorting counts, too.
        """
        self._dirty.update(self._table.take_changed())
        most = bounds.ROUTES_PER_LOOK_MAX
        changed: dict[str, None] = {}
        come: list[str] = []
        gone: set[str] = set()
        dirty = list(islice(self._dirty, most // 2))
        for prefix in dirty:
            del self._dirty[prefix]
            before, now = self._best.get(prefix), self._table.best(prefix)
            was_last = prefix in self._last
            if now is None:
                if before is None:
                    continue
                del self._best[prefix]
                self._last.discard(prefix)
                gone.add(prefix)
            else:
                self._best[prefix] = now
                is_last = self._table.ranks_last(now.next_hop)
                (self._last.add if is_last else self._last.discard)(prefix)
                if before is None:
                    come.append(prefix)
                elif before == now and before.learned == now.learned and is_last is was_last:
                    continue
            changed[prefix] = None
            if before is None or now is None or before.next_hop != now.next_hop:
                self._has_moved(prefix)
        examined = len(dirty) + self._sort(come, gone)
        below = self._take_below(most - len(dirty))
        changed.update(dict.fromkeys(below))
        self._enter(changed)
        return examined + len(below)

    def _sort(self, come: list[str], gone: set[str]) -> int:
        """Keep `_order` sorted; returns what that costs, in routes examined."""
        if len(come) + len(gone) > bounds.ROUTES_SORTED_SINGLY_MAX:
            if gone:
                self._order = [prefix for prefix in self._order if prefix not in gone]
            self._order += come
            self._order.sort()
            return len(self._order) // bounds.ROUTES_SORTED_PER_EXAMINED
        for prefix in gone:
            del self._order[bisect_left(self._order, prefix)]
        for prefix in come:
            insort(self._order, prefix)
        return len(come) + len(gone)

    def _has_moved(self, prefix: str) -> None:
        """Whether what lies below is told depends on the route above it (requirement 83)."""
        if not prefix:
            return
        if prefix in self._moved:
            self._moved_again.add(
                prefix
            )  # after the present turn: what comes last has its turn, too
            return
        above = prefix
        while (at := above.rfind(".")) > 0:
            above = above[:at]
            if self._moved.get(above, prefix) < prefix:
                return  # all below this one is still to be entered with what lies below that one
        self._moved[prefix] = prefix

    def _take_below(self, most: int) -> list[str]:
        """Prefixes below moved ones: at most so many, and turns of moved ones."""
        found: list[str] = []
        turns = 0
        while self._moved and turns + len(found) < most:
            turns += 1
            prefix, after = next(iter(self._moved.items()))
            del self._moved[prefix]
            first = prefix + "."
            at = bisect_right(self._order, after if after != prefix else first)
            until = min(at + bounds.ROUTES_BELOW_AT_ONCE, len(self._order))
            while at < until and self._order[at].startswith(first):
                found.append(self._order[at])
                at += 1
            if at == until and at < len(self._order) and self._order[at].startswith(first):
                self._moved[prefix] = self._order[at - 1]
            elif prefix in self._moved_again:
                self._moved_again.remove(prefix)
                self._moved[prefix] = prefix
        return found

    def begin_anew(self) -> None:
        """Number from the first epoch again; those who listen have to begin anew."""
        self._entries.clear()
        self._epoch_of.clear()
        self._withdrawn.clear()
        self.epoch = self.complete_from = 0
        self._enter(self._order)

    def _enter(self, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            if self._in_epoch >= bounds.PREFIXES_PER_EPOCH_MAX:
                self.epoch += 1
                self._in_epoch = 0
            self._in_epoch += 1
            self._epoch_of[prefix] = self.epoch
            self._entries.append((self.epoch, prefix))
            self._withdrawn.pop(prefix, None)
            if prefix not in self._best:
                self._withdrawn[prefix] = None
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
        if len(self._withdrawn) <= min(bounds.WITHDRAWN_MAX, 64):
            return
        over = len(self._withdrawn) - bounds.WITHDRAWN_MAX
        for at, prefix in enumerate(list(islice(self._withdrawn, bounds.ROUTES_PER_LOOK_MAX))):
            epoch = self._epoch_of[prefix]
            if epoch > known_to_all and at >= over:
                break
            self.complete_from = max(self.complete_from, epoch)
            del self._epoch_of[prefix], self._withdrawn[prefix]

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
