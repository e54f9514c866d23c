"""Pages that are run from the first block to the last, as somebody follows them, with what they show.

A block of a shell is run as it stands; a block `text` after it is what it prints. There `...` stands for what is left
out: whole lines, or the end or beginning of a line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from connector.version import __version__
from tests.integration.test_written_blocks import in_background, programs, run
from tests.support.written import ROOT, WHOLE, block

__all__ = ["programs"]

pytestmark = pytest.mark.slow

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_MARK = "@@@ block"
TUTORIAL = "docs/tutorial/first-hour.md"
DAILY = "docs/how-to/daily.md"
PATIENCE = 8
"""They start many programs, one after the other."""


class Step(NamedTuple):
    """What is typed, and what should be seen."""

    script: str
    shown: list[str]


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for language, text in _BLOCK.findall((ROOT / page).read_text("utf-8")):
        if language == "sh":
            found.append(Step(text, []))
        else:
            assert language == "text", language
            found[-1] = Step(found[-1].script, text.splitlines())
    return found


def fits(shown: str, said: str) -> bool:
    """Whether a line is as it is shown; blanks count as one."""
    pattern = re.escape(" ".join(shown.split())).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, " ".join(said.split())) is not None


def compare(step: Step, said: list[str]) -> None:
    """Every line that is shown was said, in this order."""
    at = 0
    for line in step.shown:
        if line.strip() == "...":
            continue
        while at < len(said) and not fits(line, said[at]):
            at += 1
        assert at < len(said), f"{line!r} was not said by {step.script}\n" + "\n".join(said)
        at += 1


def follow(page: str, skipped: int, before: str, folder: Path, path: str) -> list[str]:
    """Run a page and compare what it shows; what each block printed."""
    followed = steps(page)[skipped:]
    assert followed
    script = "".join(f"echo '{_MARK}'\n{one.script}" for one in followed)
    said = run(
        f"set -m\nexport XDG_CONFIG_HOME=$PWD/config\n{before}{script}",
        folder,
        path,
        patience=PATIENCE,
    )
    _, *printed = re.split(rf"^{_MARK}\n", said, flags=re.MULTILINE)
    assert len(printed) == len(followed), said
    for one, text in zip(followed, printed, strict=True):
        compare(one, text.splitlines())
    return printed


def test_pages_that_are_run_whole_are_these() -> None:
    assert set(WHOLE) == {TUTORIAL, DAILY}
    assert set(WHOLE.values()) == {f"tests/integration/{Path(__file__).name}"}


def test_a_line_that_is_shown_has_to_be_said() -> None:
    step = Step("x", ["...", "4 of 4 fulfilled: ...", "│ bob │ 10 USD │"])
    compare(step, ["1: fulfilled", "4 of 4 fulfilled: min 1 ms", "", "│ bob  │ 10 USD  │"])
    with pytest.raises(AssertionError):
        compare(step, ["4 of 4 fulfilled: min 1 ms", "│ bob │ 11 USD │"])
    with pytest.raises(AssertionError):
        compare(step, ["│ bob │ 10 USD │", "4 of 4 fulfilled: min 1 ms"])


def test_the_first_hour(tmp_path: Path, programs: str) -> None:
    install, version, *_ = steps(TUTORIAL)
    assert "pip install ilp-connector" in install.script, "tests/compose/test_wheel.py runs it"
    assert version.shown == [__version__]
    printed = follow(TUTORIAL, 1, "", tmp_path, programs)
    assert not (tmp_path / "work" / "alice-node").exists()
    assert sum("fulfilled" in text for text in printed) >= 5


def test_daily_tasks(tmp_path: Path, programs: str) -> None:
    node = (
        "export NODE_ID=hub ILP_ADDRESS=test.hub ASSET_SCALE=2 ADMIN_API_KEY=key-of-an-operator "
        "BTP_PEER_BOB_SECRET=long-and-random-of-bob DATA_DIR=data\n"
    )
    before = (
        in_background(f"{node}exec ilp-connector run", "hub.log")
        + "(umask 077; echo key-of-an-operator > hub.key)\n"
        + "ilp-connector nodes add hub --url http://127.0.0.1:8080 --key-file hub.key\nready\n"
        # There is something to be paid.
        + "ilp-connector --node hub settle bob --incoming 25USD --yes\n"
    )
    printed = follow(DAILY, 0, before, tmp_path, programs)
    said = "\n".join(printed)
    assert "peer dave was added" in said
    assert "outgoing settlement of 2500 with bob: completed" in said
    assert "audit: ok" in said


def test_an_upgrade_and_the_way_back(tmp_path: Path, programs: str) -> None:
    """The commands as they stand, from this version to itself; what is between them is told in words."""
    start = "(export NODE_ID=hub DATA_DIR=data; exec ilp-connector run) >> node.log 2>&1 &\n"
    stop = "kill -TERM %%\nwait %% || true\n"
    page = "docs/how-to/upgrade.md"
    copy, look, back = (
        block(page, first).script
        for first in ("cp -a data", "ilp-connector healthcheck", "mv data data-of-0.2.0")
    )
    said = run(
        "set -m\nexport BTP_PEER_BOB_SECRET=long-and-random-of-bob ADMIN_API_KEY=key-of-an-operator\n"
         f"{start}ready\n{stop}{block(page, 'ilp-connector check-config').script}{copy}{start}{look}"
         "ilp-connector settle bob --incoming 5000 --yes\nilp-connector balances --json\necho @@@\n"
         f"{stop}{back}{start}ready\nilp-connector balances --json\n{stop}",
        tmp_path, programs, patience=PATIENCE,
    )  # fmt: skip
    upgraded, gone_back = said.split("@@@\n")
    assert "BTP_PEER_BOB_SECRET" in upgraded
    assert "audit: ok" in upgraded
    balance = re.compile(r'"netBalance": "(-?\d+)"')
    assert balance.findall(upgraded) == ["-5000"]
    assert balance.findall(gone_back) == ["0"], "what was booked since is not in the copy"
