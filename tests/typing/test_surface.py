"""The library as a user's type checker sees it."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def checked(*paths: Path, config: Path) -> str:
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--config-file", str(config),
            "--cache-dir", str(ROOT / ".mypy_cache" / f"typing-{config.stem}"), *map(str, paths),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["accepted.py", "refused.py"])
def test_what_users_write_is_typed(name: str) -> None:
    """`accepted.py` has no error; `refused.py` has exactly those that its lines name."""
    assert "Success" in (said := checked(HERE / name, config=HERE / "mypy.ini")), said


def test_the_example_is_typed_where_the_plugin_of_pydantic_is_used() -> None:
    """With it, a secret may be given as text."""
    said = checked(ROOT / "examples" / "library.py", config=ROOT / "pyproject.toml")
    assert "Success" in said, said


def test_the_package_says_that_it_is_typed() -> None:
    assert files("connector").joinpath("py.typed").is_file()
