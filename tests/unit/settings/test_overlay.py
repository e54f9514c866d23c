"""Changes at run time: what is kept, what is in effect, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector.base.errors import ConfigError
from connector.settings.load import load
from connector.settings.overlay import FILE_NAME, Overlay, in_effect, with_changes
from tests.support.settings import ALICE


def kept(folder: Path, text: str) -> Path:
    path = folder / FILE_NAME
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "is not JSON"),
        ('{"version": ' + "9" * 5000 + "}", "is not JSON"),
        ("\0" * 100, "is not JSON, line 1"),
        ("[1]", "must be keys with values"),
        ('{"peers": {"carol": {"secret": ["hunter2"]}}}', "peer carol: secret:"),
        ('{"peers": {"carol": {"secret": "a\\ud800b"}}}', "is not JSON"),
        ('{"version": NaN}', "is not JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_its_secrets_are_not(
    tmp_path: Path, text: str, said: str
) -> None:
    path = kept(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        in_effect(load({**ALICE, "DATA_DIR": str(tmp_path)}).settings)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_change_of_a_peer_cannot_rename_it(tmp_path: Path) -> None:
    kept(tmp_path, '{"peers": {"alice": {"id": "mallory", "creditLimit": 5}}}')
    (one,) = in_effect(load({**ALICE, "DATA_DIR": str(tmp_path)}).settings).settings.peers
    assert (one.id, one.credit_limit) == ("alice", 5)


def test_what_was_changed_has_the_file_as_its_source(tmp_path: Path) -> None:
    path = kept(tmp_path, '{"peers": {"alice": {"creditLimit": 5}}}')
    loaded = with_changes(load({**ALICE, "DATA_DIR": str(tmp_path)}))
    assert loaded.sources["peers.alice.credit_limit"] == str(path)
    assert loaded.sources["peers.alice.secret"] == "BTP_PEER_ALICE_SECRET"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    base = load({**ALICE, "DATA_DIR": str(tmp_path)}).settings
    changed = base.peers[0].model_copy(update={"credit_limit": 7})
    overlay = Overlay().with_peer(changed, base)
    overlay.write(tmp_path / FILE_NAME)
    assert Overlay.read(tmp_path / FILE_NAME) == overlay
    assert in_effect(base).settings.peers == [changed]
