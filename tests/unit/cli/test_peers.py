"""Changes of peers from the command line, where the node does not answer in the end."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from connector.cli import ask
from connector.cli.common import fail
from connector.cli.main import app


class Node:
    """Says what a change would do, and is gone when it is asked to do it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any] | None]] = []

    def admin(
        self,
        method: str,
        _url: str,
        path: str,
        _key: str | None,
        body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        self.asked.append((method, path, body))
        if path.endswith("preview=true"):
            return {"target": "bob", "changes": [], "effects": ["something"], "shown": "ab12"}
        raise fail("no answer", 1)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    one = Node()
    monkeypatch.setattr(ask, "admin", one.admin)
    return one


@pytest.mark.parametrize("verb", ["add", "rotate-secret"])
def test_a_secret_that_may_be_in_use_is_shown_whatever_the_answer(node: Node, verb: str) -> None:
    ended = CliRunner().invoke(app, ["peers", verb, "bob", "--new-secret", "--yes"])
    assert ended.exit_code == 1
    method, path, body = node.asked[-1]
    assert body is not None
    assert body["secret"] in ended.stderr
    assert body["secret"] not in ended.stdout
    # Done is what was shown, or nothing.
    assert path.endswith("?shown=ab12"), (method, path)


@pytest.mark.parametrize("verb", ["add", "rotate-secret"])
def test_a_secret_that_is_not_used_is_not_shown(node: Node, verb: str) -> None:
    for more in (["--dry-run"], []):  # nobody can be asked
        ended = CliRunner().invoke(app, ["peers", verb, "bob", "--new-secret", *more])
        assert "secret" not in ended.stdout + ended.stderr.replace("--new-secret", "")
    assert all(path.endswith("preview=true") for _, path, _ in node.asked)
