"""`scripts/release` refuses what is no release, before it makes anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from connector.version import __version__

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here"),
]
CHANGELOG = "# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-01-31\n\n- What is new.\n\n## 1.2.2 - 2026-01-01\n\n- What was.\n"


def git(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(
        ["git", *names, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the checks look at, of version 1.2.3."""
    folder = tmp_path / "checkout"
    for name in ("scripts/release", "scripts/_venv.sh"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    write(folder, "connector/version.py", '__version__ = "1.2.3"\n')
    write(folder, "share/man/man1/ilp-connector.1", '.TH X 1 "" "ilp-connector 1.2.3"\n')
    write(folder, "CHANGELOG.md", CHANGELOG)
    git(folder, "init", "--quiet")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def change(folder: Path, name: str, text: str) -> None:
    write(folder, name, text)
    git(folder, "commit", "--quiet", "-a", "-m", "changed")


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without a Python to go on with: whoever is not refused ends there.
    tools = folder.parent / "bin"
    tools.mkdir(exist_ok=True)
    for name in (
        "bash",
        "git",
        "sed",
        "awk",
        "grep",
        "head",
        "date",
        "dirname",
        "basename",
        "cat",
        "find",
        "sort",
        "cksum",
    ):
        found = shutil.which(name)
        assert found is not None
        if not (tools / name).exists():
            (tools / name).symlink_to(found)
    return subprocess.run(
        [str(folder / "scripts" / "release"), *arguments], cwd=folder, capture_output=True, text=True,
        env={"PATH": str(tools), "HOME": str(folder.parent), "GIT_CONFIG_GLOBAL": os.devnull}, check=False,
    )  # fmt: skip


def refused(folder: Path) -> str:
    for arguments in ([], ["--dry-run"]):
        done = release(folder, *arguments)
        assert done.returncode == 3, done.stderr
    assert not (folder / "dist").exists()
    return done.stderr


def test_what_is_in_order_goes_on_to_making_it(checkout: Path) -> None:
    done = release(checkout, "--dry-run")
    assert "Release 1.2.3 of " in done.stderr
    assert done.returncode == 1, "there is no Python on PATH"


def test_changes_that_are_not_committed(checkout: Path) -> None:
    write(checkout, "connector/new.py", "")
    assert "not committed" in refused(checkout)
    assert "connector/new.py" in refused(checkout) or "?? connector" in refused(checkout)


@pytest.mark.parametrize(
    ("changelog", "said"),
    [
        ("# Changelog\n\n## Unreleased\n\n- x\n", "no section for 1.2.3"),
        ("# Changelog\n\n## 1.2.3 - 2026-01-31\n\n## 1.2.2 - 2026-01-01\n\n- x\n", "no section for 1.2.3"),
        ("# Changelog\n\n## 1.2.30 - 2026-01-31\n\n- x\n", "no section for 1.2.3"),
        ("# Changelog\n\n## 1.2.3\n\n- x\n", "has no date"),
    ],
)  # fmt: skip
def test_a_version_without_its_section(checkout: Path, changelog: str, said: str) -> None:
    change(checkout, "CHANGELOG.md", changelog)
    assert said in refused(checkout)


def test_a_tag_that_is_there(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.3")
    assert "the tag v1.2.3 is there" in refused(checkout)


def test_a_version_that_is_none(checkout: Path) -> None:
    change(checkout, "connector/version.py", '__version__ = "next"\n')
    assert "no version of the form" in refused(checkout)


def test_a_manual_page_of_another_version(checkout: Path) -> None:
    change(checkout, "share/man/man1/ilp-connector.1", '.TH X 1 "" "ilp-connector 1.2.2"\n')
    assert "python scripts/command_reference.py" in refused(checkout)


def test_wrong_usage(checkout: Path) -> None:
    done = release(checkout, "--push")
    assert (done.returncode, "unknown argument --push" in done.stderr) == (2, True)
    assert release(checkout, "--help").returncode == 0


def test_this_version_has_its_section() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"\n## {__version__} - " in text
    assert "### Upgrading from " in text.split(f"## {__version__}")[1].split("\n## ")[0]
