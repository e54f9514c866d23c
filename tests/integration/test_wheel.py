"""The wheel, as somebody installs it: into an empty environment, without a compiler, Node and index."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from connector.version import __version__
from tests.integration.test_whole_pages import TUTORIAL, steps
from tests.support.build_hook import build_hook
from tests.support.wheel import ROOT, add_what_it_needs, bare_path, build_wheel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names platforms of Linux"),
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pure wheel and all that it needs."""
    folder = tmp_path_factory.mktemp("wheels")
    build_wheel(folder, compiled=False)
    add_what_it_needs(folder, f"{sys.version_info.major}.{sys.version_info.minor}")
    return folder


def test_it_holds_the_package_the_manual_and_completion(wheels: Path) -> None:
    (wheel,) = wheels.glob("ilp_connector-*.whl")
    assert wheel.name == f"ilp_connector-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as found:
        names = set(found.namelist())
        metadata = found.read(f"ilp_connector-{__version__}.dist-info/METADATA").decode()
    share = {
        f"ilp_connector-{__version__}.data/data/{path.relative_to(ROOT)}"
        for path in (ROOT / "share").rglob("*")
        if path.is_file()
    }
    assert len(share) == 7
    assert share <= names
    assert "connector/__main__.py" in names
    assert not any(name.startswith(("tests/", "scripts/", "docs/")) for name in names)
    assert f"Version: {__version__}" in metadata
    assert "Requires-Python: >=3.11" in metadata
    if not build_hook().needs_build(ROOT):
        assert "connector/web/page/index.html" in names


def test_it_is_installed_as_the_tutorial_says_and_the_demo_runs(
    wheels: Path, tmp_path: Path
) -> None:
    """The first blocks of the tutorial, as they stand; pip takes the wheels from a folder."""
    install, version, *_ = steps(TUTORIAL)
    path = bare_path(tmp_path / "bin", "bash", "python3")
    environment = {
        "PATH": path, "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "COLUMNS": "80",
    }  # fmt: skip
    script = (
        "set -eu\nif command -v cc gcc node npm; then exit 9; fi\n" + install.script + version.script
        + "ilp-connector demo --packets 20 --peers 3\n"
        + "ilp-connector completion bash >/dev/null\n"
    )  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=480, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{__version__}\n" in done.stdout
    assert "audit: ok" in done.stdout
    assert "20 of 20" in done.stdout
    # What shells and `man` look for is beside bin/.
    assert (tmp_path / "venv" / "share" / "man" / "man1" / "ilp-connector.1").is_file()
    assert (tmp_path / "venv/share/bash-completion/completions/ilp-connector").is_file()
