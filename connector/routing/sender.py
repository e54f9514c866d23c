"""What one neighbour has been told of the routes in use here, and when it is told more.

A neighbour is told nothing until it asks (route control, sync). Then it gets what has changed since the epoch
that it knows, at most one update at a time and one in UPDATE_PAUSE_MS_MIN, and an empty one after
each interval without changes. An update that is not fulfilled is sent again, later each time; a neighbour that asks
again decides from which epoch on.
"""

from __future__ import annotations

from collections.abc import Callable

from connector.base import limits
from connector.routing import bounds
from connector.routing.codec import NO_TABLE, Announcement, Mode, RouteControl, RouteUpdate
from connector.routing.journal import Journal

_NEVER_MS = 1 << 62


class Sender:
    """See the module. Times are milliseconds, by the clock that is handed in."""

    def __init__(self, new_table_id: Callable[[], bytes]) -> None:
        """`new_table_id`: 16 random octets."""
        self.mode = Mode.IDLE
        self.table_id = new_table_id()
        self.epoch = 0
        """The last one that the neighbour is known to have."""
        self.routes_told = 0
        """Announcements in all updates so far."""
        self._new_table_id = new_table_id
        self._empty_until = 0
        """At this epoch and before it had nothing that could be withdrawn."""
        self._number = 0
        """Of the update under way; an answer to another one is of no interest."""
        self._sending = False
        self._unanswered = 0
        """Updates without an answer: that under way, and those from before it asked anew."""
        self._has_told = False
        """Whether an update was sent under this table id: the neighbour may have what is in it."""
        self._sent_to = 0
        self._failures = 0
        self._sent_ms = -_NEVER_MS
        self._not_before_ms = -_NEVER_MS

    def control(self, control: RouteControl, journal: Journal, now_ms: int) -> None:
        """The neighbour says what it wants to be told from now on."""
        self.mode = control.mode
        self._forget_sent()
        if control.mode is Mode.IDLE:
            return
        knows = control.table_id == self.table_id
        if knows and control.epoch and journal.complete_from <= control.epoch <= journal.epoch:
            self.epoch = control.epoch
        else:
            # Another table, none, or one that we have forgotten in part: all of it (requirement 78). Under
            # another table id if an update was sent: it may be on its way, with what is withdrawn now.
            self._begin(journal, is_new=self._has_told)
        self._not_before_ms = now_ms

    def renew(self, journal: Journal) -> None:
        """All that was told is void: begin anew, under another table id."""
        self._begin(journal, is_new=True)

    def _begin(self, journal: Journal, *, is_new: bool) -> None:
        if is_new:
            self.table_id = self._new_table_id()
            assert self.table_id != NO_TABLE, "ids are random"
            self._has_told = False
        self._forget_sent()
        self.epoch = 0
        self._empty_until = journal.epoch

    def _forget_sent(self) -> None:
        self._number += 1
        self._sending = False
        self._failures = 0

    def due_ms(self, journal: Journal, interval_ms: int) -> int:
        """When the next update is to be sent."""
        if self.mode is Mode.IDLE or self._sending:
            return _NEVER_MS
        if self._unanswered >= bounds.UPDATES_UNANSWERED_MAX:
            return _NEVER_MS
        pause_ms = bounds.UPDATE_PAUSE_MS_MIN if self.epoch < journal.epoch else interval_ms
        return max(self._sent_ms + pause_ms, self._not_before_ms)

    def update(
        self,
        journal: Journal,
        tell: Callable[[str], Announcement | None],
        *,
        own_address: str,
        hold_down_ms: int,
        now_ms: int,
    ) -> tuple[RouteUpdate, int]:
        """The next update, and its number, which `answered` takes.

        `tell`: what is announced of a prefix; None: nothing, so it is withdrawn.
        """
        assert not self._sending, "one update at a time"
        if self.epoch < journal.complete_from and self._has_told:
            self._begin(journal, is_new=True)
        new: list[Announcement] = []
        withdrawn: list[str] = []
        to_epoch, epochs = self.epoch, 0
        octets = bounds.UPDATE_HEAD_BYTES_MAX
        new_before, withdrawn_before = 0, 0
        is_whole = True
        for epoch, prefix in journal.after(self.epoch):
            if epoch != to_epoch:
                if epochs == bounds.EPOCHS_PER_UPDATE_MAX:
                    is_whole = False
                    break
                epochs += 1
                to_epoch, before = epoch, to_epoch
                new_before, withdrawn_before = len(new), len(withdrawn)
            route = tell(prefix)
            if route is not None:
                octets += route.size
                new.append(route)
            elif epoch > self._empty_until:
                octets += len(prefix) + 3
                withdrawn.append(prefix)
            if octets > limits.PACKET_DATA_BYTES_MAX:
                # An epoch is told as a whole; the first of an update fits always (`bounds`).
                assert epochs > 1, (epochs, octets)
                del new[new_before:], withdrawn[withdrawn_before:]
                to_epoch, is_whole = before, False
                break
        if is_whole:
            to_epoch = journal.epoch
        self._number += 1
        self._sending, self._sent_to, self._sent_ms = True, to_epoch, now_ms
        self._unanswered += 1
        self._has_told = True
        self.routes_told += len(new)
        update = RouteUpdate(
            table_id=self.table_id,
            current_epoch=journal.epoch,
            from_epoch=self.epoch,
            to_epoch=to_epoch,
            hold_down_ms=hold_down_ms,
            speaker=own_address,
            new=tuple(new),
            withdrawn=tuple(withdrawn),
        )
        return update, self._number

    def answered(self, number: int, *, fulfilled: bool, now_ms: int, interval_ms: int) -> None:
        """The answer to an update, or that there is none: each has one."""
        # Not below zero: a peer that was removed and is back has a sender of its own.
        self._unanswered = max(0, self._unanswered - 1)
        if number != self._number or not self._sending:
            return
        self._sending = False
        if fulfilled:
            self.epoch = self._sent_to
            self._failures = 0
            return
        self._failures += 1
        wait_ms = bounds.CONTROL_RETRY_MS_MIN << min(16, self._failures - 1)
        self._not_before_ms = now_ms + min(wait_ms, interval_ms)
