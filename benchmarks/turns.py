"""Two versions of the connector measured in turns: their trees, and what their figures say.

A figure of a shared machine means little by itself, and one of an hour ago nothing. So both versions
are measured in each round, one directly after the other, in alternating order, each round with new
processes. What counts is the ratio within a round; over the rounds its mean and its standard error.
"""

from __future__ import annotations

import contextlib
import math
import re
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Figures = dict[str, Any]

_COMMIT = re.compile(r"[0-9a-f]{40}\n")


class Ratio(NamedTuple):
    """What one version does for each unit of the other one."""

    mean: float
    """The geometric mean over the rounds."""
    error: float | None
    """The standard error of the mean; None: of one round nothing can be said."""

    @property
    def is_clear(self) -> bool:
        """Whether the versions differ by more than twice the error."""
        return self.error is not None and abs(self.mean - 1.0) > 2.0 * self.error

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.error is None else f" ± {self.error:.3f}")


def paired(before: Sequence[float], after: Sequence[float]) -> Ratio:
    """The ratio of `after` to `before`, figures above zero of the same rounds.

    Of logarithms, so that a half and a double have the mean 1.
    """
    assert len(before) == len(after) > 0, (len(before), len(after))
    logs = [math.log(new / old) for old, new in zip(before, after, strict=True)]
    mean = math.exp(statistics.fmean(logs))
    if len(logs) == 1:
        return Ratio(mean, None)
    return Ratio(mean, mean * statistics.stdev(logs) / math.sqrt(len(logs)))


def in_turn(pair: tuple[Any, Any], number: int) -> tuple[Any, Any]:
    """The pair in the order of round `number`: what only the first or the second suffers evens out."""
    return pair if number % 2 == 0 else (pair[1], pair[0])


def rows_of(seen: dict[tuple[str, int, str], list[Figures]]) -> list[Figures]:
    """A row for each ledger and window, of the figures by ledger, window and `before` or `after`."""
    rows = []
    for ledger, window in sorted({(ledger, window) for ledger, window, _ in seen}):
        before, after = seen[ledger, window, "before"], seen[ledger, window, "after"]
        row: Figures = {"target": ledger, "window": window, "rounds": len(before)}
        for figure in ("packets_per_second", "p50_ms", "cpu_us"):
            old, new = ([one.get(figure) for one in rounds] for rounds in (before, after))
            if all(old) and all(new):
                ratio = paired(old, new)
                row[figure] = {
                    "before": round(statistics.median(old), 3),
                    "after": round(statistics.median(new), 3),
                    "ratio": round(ratio.mean, 4),
                    "error": None if ratio.error is None else round(ratio.error, 4),
                }
        rows.append(row)
    return rows


def commit_of(root: Path, name: str) -> str:
    """The full id of a commit.

    Raises:
        SystemExit: there is none of this name.
    """
    done = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode or not _COMMIT.fullmatch(done.stdout):
        raise SystemExit(f"--compare: git knows no commit {name!r}")
    return done.stdout.strip()


@contextlib.contextmanager
def tree_of(root: Path, commit: str) -> Iterator[Path]:
    """The files of a commit, in `build/compare/`; kept, so that its core is compiled once.

    Raises:
        SystemExit: git cannot check it out.
    """
    folder = root / "build" / "compare" / commit[:12]
    # One that was stopped on the way, or changed by hand, is made anew.
    there = (
        _git(folder, "status", "--porcelain", "--untracked-files=no") if folder.exists() else None
    )
    if there is None or there.returncode or there.stdout:
        _git(root, "worktree", "remove", "--force", str(folder))
        done = _git(root, "worktree", "add", "--force", "--detach", str(folder), commit)
        if done.returncode:
            raise SystemExit(f"--compare: git worktree failed: {done.stderr[-500:]}")
    yield folder


def _git(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(folder), *command], capture_output=True, text=True, check=False
    )
