"""Runs tests on a real Docker engine only when asked for: they take minutes and gigabytes."""

from __future__ import annotations

import pytest

REASON = "takes minutes and 8 GB: asked for by `scripts/test -m compose`, as .ci/run does"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out unless their mark or folder was named."""
    named = [config.option.markexpr, *config.invocation_params.args]
    if not any("compose" in str(word) for word in named):
        for item in items:
            if "compose" in item.keywords and item.get_closest_marker("compose"):
                item.add_marker(pytest.mark.skip(reason=REASON))
