"""The reason that is given when the core is interpreted."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector import version


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "is_compiled", lambda: False)


def test_a_compiled_core_needs_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "is_compiled", lambda: True)
    assert version.why_interpreted() is None


def test_sources_that_come_before_a_compiled_package_are_named(tmp_path: Path) -> None:
    """As when an installed package is started in the folder of its sources."""
    own = Path(version.__file__).parents[1]
    (tmp_path / "connector/switch").mkdir(parents=True)
    (tmp_path / "connector/switch/driver.cpython-311-x86_64-linux-gnu.so").write_text("")
    why = version.why_interpreted([str(own), "", "/no/such/folder", str(tmp_path)])
    assert why == (
        f"the sources in {own} come before the compiled package in {tmp_path}: start it from another "
        "folder, or as `connector`"
    )


def test_a_package_that_is_not_compiled_anywhere_says_so(tmp_path: Path) -> None:
    (tmp_path / "connector").mkdir()
    why = version.why_interpreted([str(tmp_path)])
    assert why is not None
    assert "without compiling its core" in why
