"""The key of the addresses that payers are given."""

from __future__ import annotations

import random
import stat
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import ConfigError
from connector.node.paid import KEY_FILE, pay_key
from connector.settings.model import Settings


class Dice:
    """Random octets that a test can tell."""

    def octets(self, count: int) -> bytes:
        return random.Random(5).randbytes(count)


def key(folder: Path, **settings: Any) -> bytes | None:
    one = Settings(**{"data_dir": folder, "pay_port": 0, **settings})
    return pay_key(one, Dice())  # type: ignore[arg-type]


def test_it_is_made_once_and_readable_by_this_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    made = key(folder)
    assert made == random.Random(5).randbytes(32)
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    (folder / KEY_FILE).write_text("ab" * 32)
    assert key(folder) == b"\xab" * 32


def test_the_setting_comes_first_and_nothing_is_written(tmp_path: Path) -> None:
    assert key(tmp_path, pay_secret="Cd" * 32) == b"\xcd" * 32
    assert list(tmp_path.iterdir()) == []


def test_without_wallets_there_is_none(tmp_path: Path) -> None:
    assert key(tmp_path, pay_port=None) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "ab", "ab" * 31, "ab" * 33, "xy" * 32, "ä" * 32])
def test_a_file_that_is_no_key_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / KEY_FILE).write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="not a key"):
        key(tmp_path)
    assert (tmp_path / KEY_FILE).read_text("utf-8") == text
