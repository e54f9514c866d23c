"""Warnings as events: at a limited rate, bounded, and never with a secret."""

from __future__ import annotations

import json
import threading

import pytest

from connector.telemetry import bounds
from connector.telemetry.alerts import AlertingLog
from connector.telemetry.events import Alert, Event
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock


class Setup:
    def __init__(self) -> None:
        self.lines = EventLog()
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.log = AlertingLog(self.lines, emit=self.events.append, clock=self.clock)

    @property
    def alerts(self) -> list[tuple[str, str, int]]:
        return [
            (one.name, one.peer_id, one.suppressed) for one in self.events if isinstance(one, Alert)
        ]


def test_a_warning_is_a_line_and_an_event() -> None:
    one = Setup()
    one.log.debug("d", a=1)
    one.log.info("i", a=1)
    one.log.warning("w", peer_id="bob", why="so", token="hunter2")
    one.log.error("e", exc_info=True)  # noqa: LOG014 - as a log takes it
    assert [level for level, *_ in one.lines.events] == ["debug", "info", "warning", "error"]
    warning, error = one.events
    assert isinstance(warning, Alert)
    assert isinstance(error, Alert)
    assert (warning.name, warning.level, warning.peer_id) == ("w", "warning", "bob")
    assert json.loads(warning.detail) == {"why": "so", "token": "[redacted]"}
    assert (error.name, error.level, error.peer_id, error.detail) == ("e", "error", "", "")


def test_of_many_lines_one_a_minute_is_an_event_which_counts_the_others() -> None:
    one = Setup()
    for _ in range(5):
        one.log.warning("w", peer_id="bob")
    one.log.warning("w", peer_id="carol")
    one.log.warning("other", peer_id="bob")
    assert one.alerts == [("w", "bob", 0), ("w", "carol", 0), ("other", "bob", 0)]
    assert one.lines.count("w") == 6
    one.clock.advance(bounds.ALERT_SECONDS_MIN)
    one.log.warning("w", peer_id="bob")
    assert one.alerts[-1] == ("w", "bob", 4)


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ALERTS_REMEMBERED_MAX", 3)
    one = Setup()
    for number in range(10):
        one.log.warning("w", peer_id=f"p{number}")
    assert len(one.log._told) == 3
    one.log.warning("w", peer_id="p0")
    assert one.alerts[-1] == ("w", "p0", 0), "it was forgotten, and is told again"


@pytest.mark.parametrize("name", ["routing_loop", "next_hop_short", "accounting_state_changed"])
def test_what_has_an_event_of_its_own_is_no_alert(name: str) -> None:
    one = Setup()
    one.log.warning(name)
    assert one.events == []
    assert one.lines.count(name) == 1


def test_lines_of_other_threads_have_no_event() -> None:
    one = Setup()
    thread = threading.Thread(target=lambda: one.log.warning("w"))
    thread.start()
    thread.join()
    assert one.events == []
    assert one.lines.count("w") == 1
