"""What the interop tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.harness import install_node_modules


@pytest.fixture(scope="session")
def js_modules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the packages of tests/interop/package-lock.json."""
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("interop") if cache is not None else tmp_path_factory.mktemp("interop")
    return install_node_modules(folder)
