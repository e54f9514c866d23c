"""Set-up of all tests: examples of a property, signals, names, stray processes, parallel groups.

`scripts/test --help` explains the modes; HYPOTHESIS_PROFILE is theirs to set.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from connector.version import is_compiled
from tests.support.patience import PATIENCE_SECONDS
from tests.support.tigerbeetle_server import (
    _fragile_server,
    fragile_server,
    tigerbeetle_server,
)

__all__ = ["_fragile_server", "fragile_server", "tigerbeetle_server"]

# No deadline and no complaint about slow examples: machines that run tests are busy with others.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=20, **_COMMON)
settings.register_profile("dev", max_examples=100, **_COMMON)
settings.register_profile("ci", max_examples=3000, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "dev")

# Clients of tests that name no time-out wait as other tests do, and not httpx's five seconds. The
# product always names its own.
assert httpx.AsyncClient.__init__.__kwdefaults__ is not None
httpx.AsyncClient.__init__.__kwdefaults__["timeout"] = httpx.Timeout(PATIENCE_SECONDS)

TESTS = Path(__file__).parent
REPORTED_SKIPS = 20
"""Reasons that are listed at the end; what is left is counted."""


# --- signals


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def pytest_configure() -> None:
    """Give processes that tests start the default signals, whatever this one inherited.

    `nohup` and background jobs of a shell ignore SIGHUP or SIGINT, and what is ignored or blocked
    stays so in every process below. A handler does not: it is the default again after `exec`. One
    that does nothing keeps this process as it was.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, _nothing)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


# --- names


LONGEST_VALUE_IN_A_NAME = 64


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long values by their length.

    The processes of a parallel run must collect the same names, and long octets often contain what
    differs from one to the next, such as the time in a file of an archive.
    """
    if isinstance(val, bytes) and len(val) > LONGEST_VALUE_IN_A_NAME:
        return f"{argname} of {len(val)} octets"
    if isinstance(val, str) and len(val) > LONGEST_VALUE_IN_A_NAME:
        return f"{val[: LONGEST_VALUE_IN_A_NAME // 2]}... of {len(val)} characters"
    return None


# --- processes


_PROCESS_EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn",
                             "os.exec", "os.system"})  # fmt: skip
_may_start_processes = True


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _may_start_processes and event in _PROCESS_EVENTS:
        raise AssertionError(
            f"a test without the marker `processes` starts one: {event} {arguments}"
        )


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _processes_are_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep `scripts/test --quick` free of processes: a unit or property test that starts one says so."""
    global _may_start_processes  # noqa: PLW0603 - one process, one test at a time
    quick = request.path.relative_to(TESTS).parts[0] in ("unit", "property")
    _may_start_processes = not quick or request.node.get_closest_marker("processes") is not None
    yield
    _may_start_processes = True


# --- what runs, where, and in which order


# Before the hook of pytest-xdist, which reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run on compiled modules; group and order tests for parallel runs."""
    if is_compiled():
        reason = "puts stand-ins or other bounds where compiled modules take none"
        for item in items:
            if item.get_closest_marker("interpreted"):
                item.add_marker(pytest.mark.skip(reason=reason))
    for item in items:
        if _folder(item) in ("integration", "interop", "browser", "hostile"):
            item.add_marker("nodes")
        if "/".join(item.path.relative_to(TESTS).parts[:2]) in _OF_SOURCES:
            item.add_marker("sources")
    if config.getoption("dist", "no") == "no" and not hasattr(config, "workerinput"):
        return
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    # The long groups first, single tests and small groups fill up what is left at the end.
    items.sort(key=_rank)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Thousands of tests are made, and none is garbage: looking for it takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check that groups are in force; leave what collecting has made out of garbage collection."""
    if session.config.getoption("loadgroup", default=False):
        for item in session.items:
            group = item.get_closest_marker("xdist_group")
            # Without groups each process has servers of its own: too many for the memory.
            assert group is None or item.nodeid.endswith(f"@{group.args[0]}"), (
                f"pytest-xdist did not group {item.nodeid}: see `pytest` in pyproject.toml"
            )
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A simulated world looks for cycles when it ends: in what it has made, not in all else."""
    if "simulation" in item.path.as_posix():
        gc.freeze()


# Nothing that these test is compiled.
_OF_SOURCES = frozenset(
    ("unit/cli", "unit/settings", "unit/simulation", "unit/sinks", "unit/telemetry", "unit/tools",
     "unit/web", "unit/test_build_hook.py", "unit/test_command_reference.py", "unit/test_docs.py",
     "unit/test_docs_site.py", "unit/test_layout.py", "unit/test_release.py", "unit/test_scripts.py",
     "unit/test_telemetry_reference.py",
     "faults/test_table.py")
)  # fmt: skip
_ORDER = (
    "compose",
    "hostile",
    "interop",
    "browser",
    "integration",
    "property",
    "conformance",
    "unit",
)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def _group(item: pytest.Item) -> str:
    """Tests that share something which is dear to start, or there only once, run in one process."""
    if item.get_closest_marker("xdist_group"):
        return ""
    folder = _folder(item)
    if folder in ("compose", "interop", "browser", "hostile"):
        return folder
    if item.get_closest_marker("tigerbeetle"):
        return "tigerbeetle"
    if folder in ("unit", "conformance") or item.path.name in _ONE_NODE:
        return item.path.stem if folder != "unit" else "/".join(item.path.parts[-2:])
    return ""


_ONE_NODE = ("test_commands.py", "test_monitoring.py")
"""Modules whose tests share a node."""


def _rank(item: pytest.Item) -> tuple[int, int]:
    slow = item.get_closest_marker("slow") or item.get_closest_marker("tigerbeetle")
    folder = _folder(item)
    return (0 if slow else 1, _ORDER.index(folder) if folder in _ORDER else len(_ORDER))


# --- what was left out


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many tests were skipped, by reason."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        longrepr = report.longrepr
        text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    if not reasons:
        return
    terminalreporter.write_line(f"skipped: {reasons.total()}")
    for reason, count in reasons.most_common(REPORTED_SKIPS):
        terminalreporter.write_line(f"  {count:5} x {reason}")
    if together := os.environ.get("SKIPS_FILE"):  # of `scripts/test --full`, which runs several
        with Path(together).open("a") as file:
            file.writelines(f"{count}\t{reason}\n" for reason, count in reasons.items())
