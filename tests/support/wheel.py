"""A wheel of this checkout, and all that it needs, in a folder: to be installed without any index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.build_hook import build_hook

ROOT = Path(__file__).parents[2]


def _pip(*arguments: str, **variables: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def build_wheel(folder: Path, *, compiled: bool) -> Path:
    """A wheel in `folder`. Without the page where it is not built: its sources need the npm registry."""
    page = {} if not build_hook().needs_build(ROOT) else {"CONNECTOR_UI": "skip"}
    compile_ = {"CONNECTOR_COMPILE": "yes" if compiled else "no"}
    _pip(
        "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir",
        str(folder), ".", **page, **compile_,
    )  # fmt: skip
    (found,) = folder.glob("ilp_connector-*.whl")
    return found


def add_what_it_needs(folder: Path, python: str) -> None:
    """The locked wheels that it needs, for a Python of that version, such as 3.11.

    Without a way to an index the test is skipped.
    """
    try:
        _pip(
            "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", python,
            "--implementation", "cp", "--require-hashes", "--dest", str(folder),
            "-r", str(ROOT / "requirements" / "runtime.txt"), *_platforms(),
        )  # fmt: skip
    except AssertionError as error:
        if "Could not find a version" in str(error) or "Temporary failure" in str(error):
            pytest.skip("there is no package index here that has what is locked")
        raise


def _platforms() -> list[str]:
    machine = os.uname().machine
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 4, -1)]
    return [
        word
        for name in (*names, f"manylinux2014_{machine}", f"manylinux1_{machine}")
        for word in ("--platform", name)
    ]


def bare_path(folder: Path, *programs: str) -> str:
    """A PATH with these programs and no others: no compiler, no Node."""
    folder.mkdir()
    for name in programs:
        found = shutil.which(name)
        assert found is not None, name
        # The interpreter itself: a shim would look for others on PATH.
        (folder / name).symlink_to(os.path.realpath(sys.executable) if "python" in name else found)
    return str(folder)
