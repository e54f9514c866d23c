"""What a command that takes long says meanwhile."""

from __future__ import annotations

import pytest

from connector.cli import bounds
from connector.cli.progress import told_of_progress
from tests.support.ledgers import ManualClock


def test_nothing_is_said_of_what_is_quick_and_then_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = ManualClock()
    with told_of_progress("rows read", clock) as tell:
        tell(1, 10)
        clock.advance(bounds.PROGRESS_AFTER_SECONDS / 2)
        tell(2, 10)
        assert capsys.readouterr().err == ""
        clock.advance(bounds.PROGRESS_AFTER_SECONDS)
        tell(5, 10)
        tell(6, 10)
        assert capsys.readouterr().err == "5 of 10 rows read, about 3 s left\n"
        clock.advance(bounds.PROGRESS_LINE_SECONDS)
        tell(10, 10)
    done = capsys.readouterr()
    assert (done.out, done.err) == ("", "10 of 10 rows read, about 0 s left\n")
