"""`pip install` of the wheel in a bare container, then the demo: no compiler, no Node, no network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from connector.version import __version__
from tests.support.compose import BASE_IMAGE, docker, missing
from tests.support.wheel import add_what_it_needs, build_wheel

pytestmark = [pytest.mark.compose, pytest.mark.slow]


def test_the_demo_runs_in_a_bare_container(tmp_path: Path) -> None:
    lack = missing()
    if lack:
        pytest.skip(lack)
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = docker("run", "--rm", "--network", "none", BASE_IMAGE, "python3", "-c", ask).strip()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    # Compiled wheels are for one version of Python, and its may be another than ours.
    build_wheel(wheels, compiled=False)
    add_what_it_needs(wheels, python)
    wheels.chmod(0o755)
    script = (
        "set -eu\nif command -v cc gcc node npm; then exit 9; fi\npython3 -m venv /tmp/venv\n"
        "/tmp/venv/bin/pip install -q --no-index --find-links /wheels ilp-connector\n"
        "cd /tmp && /tmp/venv/bin/ilp-connector --version && /tmp/venv/bin/ilp-connector demo --packets 100\n"
    )
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--volume", f"{wheels}:/wheels:ro",
         "--env", "PIP_DISABLE_PIP_VERSION_CHECK=1", "--env", "PIP_CONFIG_FILE=/dev/null",
         BASE_IMAGE, "sh", "-c", script],
        capture_output=True, text=True, timeout=480, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert __version__ in done.stdout
    assert "100 of 100" in done.stdout
    assert "audit: ok" in done.stdout
