"""The file that a replaced process leaves for the next one: the peers that it was linked to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connector.node import bounds
from connector.node.core import system_platform
from connector.node.memory import FORMER_LINKS_FILE, FormerLinks
from connector.settings.model import Settings
from tests.support.daemons import EventLog


def former_links(folder: Path, log: EventLog | None = None, **settings: Any) -> FormerLinks:
    made = Settings(node_id="a", data_dir=folder, **settings)
    return FormerLinks(made, system_platform(log or EventLog()))


def test_the_next_process_takes_what_was_left_and_once_only(tmp_path: Path) -> None:
    former_links(tmp_path).write(["b", "c"])
    assert former_links(tmp_path).take() == {"b", "c"}
    assert former_links(tmp_path).take() == set()


def test_what_was_left_too_long_ago_does_not_count(tmp_path: Path) -> None:
    former_links(tmp_path).write(["b"])
    file = tmp_path / FORMER_LINKS_FILE
    left = json.loads(file.read_text())
    left["atMs"] -= (bounds.REPLACED_SECONDS_MAX + 1) * 1000
    file.write_text(json.dumps(left))
    assert former_links(tmp_path).take() == set()
    assert not file.exists()


@pytest.mark.parametrize(
    "octets",
    [b"", b"[]", b'{"atMs": 1}', b"\xff", b"[" * 100_000, b'{"atMs": 1e999, "peers": []}', b" " * (bounds.REPLACED_FILE_BYTES_MAX + 1)],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named_and_does_not_count(
    tmp_path: Path, octets: bytes
) -> None:
    (tmp_path / FORMER_LINKS_FILE).write_bytes(octets)
    log = EventLog()
    assert former_links(tmp_path, log).take() == set()
    assert log.count("replaced_file") == 1


def test_a_node_whose_ledger_is_in_memory_leaves_no_file(tmp_path: Path) -> None:
    former_links(tmp_path, ledger="memory").write(["b"])
    assert not list(tmp_path.iterdir())
