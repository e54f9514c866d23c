# ruff: noqa: INP001 - a folder of scripts, no package
"""Plugin of pytest: counts the tests of each kind, and fails where a kind that must run did not.

    REQUIRED_KINDS="interop tigerbeetle" PYTHONPATH=.ci pytest -p kinds

A kind is a marker. One that is required has to run whole: a skipped test of it, or none at all,
turns the result red, so that a machine that has what a kind needs cannot leave it out unnoticed.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

REQUIRED = os.environ.get("REQUIRED_KINDS", "").split()
_results: dict[str, Counter[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what came of a test under each of its markers."""
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        for kind in REQUIRED:
            if kind in report.keywords:
                _results.setdefault(kind, Counter())[report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a kind."""
    for kind in REQUIRED:
        counts = _results.get(kind, Counter())
        fault = "  <- could run here, but did not" if _lacking(kind) else ""
        terminalreporter.write_line(
            f"kind {kind}: {counts['passed']} passed, {counts['failed']} failed, "
            f"{counts['skipped']} skipped{fault}"
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Red where a kind is lacking; a process of `-n` has seen only a part."""
    if hasattr(session.config, "workerinput"):
        return
    if session.exitstatus == pytest.ExitCode.OK and any(map(_lacking, REQUIRED)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _lacking(kind: str) -> bool:
    counts = _results.get(kind, Counter())
    return counts["skipped"] > 0 or not counts["passed"] + counts["failed"]
