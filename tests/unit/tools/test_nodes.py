"""Named nodes: kept, private, and refused where others could read a key or redirect it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from connector.base.errors import OperatorError, UnknownNameError
from connector.tools import bounds
from connector.tools.nodes import Nodes, Profile

URL = "http://127.0.0.1:8080"


def key_in(path: Path, text: str = "key-of-hub\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_node_is_added_found_replaced_and_removed(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path / "config")
    assert nodes.all() == []
    key_file = key_in(tmp_path / "key")
    hub = Profile("hub", URL, key_file)
    nodes.add(hub)
    nodes.add(Profile("alice", "https://alice.example"))
    assert [one.name for one in nodes.all()] == ["alice", "hub"]
    assert nodes.named("hub") == hub
    assert nodes.named("hub").key() == "key-of-hub"
    assert nodes.named("alice").key() is None
    with pytest.raises(OperatorError, match="--force"):
        nodes.add(Profile("hub", "http://other:1"))
    nodes.add(Profile("hub", "http://other:1"), force=True)
    assert nodes.named("hub").url == "http://other:1"
    nodes.remove("hub")
    with pytest.raises(UnknownNameError, match="no node is named hub"):
        nodes.named("hub")
    with pytest.raises(UnknownNameError):
        nodes.remove("hub")
    assert key_file.exists(), "it is the operator's"
    assert stat.S_IMODE(nodes.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(nodes.folder.stat().st_mode) == 0o700


def test_a_key_that_was_kept_goes_with_its_node(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    path = nodes.keep_key("hub", "key-of-hub")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    nodes.add(Profile("hub", URL, path))
    assert nodes.named("hub").key() == "key-of-hub"
    nodes.remove("hub")
    assert not path.exists()


def test_the_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert Nodes.of({"XDG_CONFIG_HOME": "/etc/x"}).path == Path("/etc/x/ilp-connector/nodes.json")
    for environment in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert Nodes.of(environment).folder == Path("/home/x/.config/ilp-connector")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o610, 0o602])
def test_a_key_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    one = Profile("hub", URL, key_in(tmp_path / "key", mode=mode))
    with pytest.raises(OperatorError, match="chmod go="):
        one.key()
    with pytest.raises(OperatorError, match="readable by others"):
        Nodes(tmp_path / "config").add(one)


@pytest.mark.parametrize("what", ["nodes.json", "."])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_is_refused(tmp_path: Path, what: str, mode: int) -> None:
    nodes = Nodes(tmp_path / "config")
    nodes.add(Profile("hub", URL))
    place = nodes.folder / what
    place.chmod(place.stat().st_mode | mode)
    with pytest.raises(OperatorError, match="writable by others"):
        nodes.all()
    place.chmod(place.stat().st_mode & ~mode | 0o044)
    assert len(nodes.all()) == 1, "that others can read it is no harm"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path / "config")
    nodes.add(Profile("hub", URL))
    os.chown(nodes.path, 12345, 12345)
    with pytest.raises(OperatorError, match="another user"):
        nodes.all()


@pytest.mark.parametrize("text", ["", "\n", "two words", "caf\u00e9", "a\nb"])
def test_a_file_without_a_key_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(OperatorError, match="holds no key"):
        Profile("hub", URL, key_in(tmp_path / "key", text)).key()
    with pytest.raises(OperatorError, match=r"cannot be read: No such file"):
        Profile("hub", URL, tmp_path / "nothing").key()


@pytest.mark.parametrize(
    "content",
    ["", "nonsense", "[]", "{}", '{"nodes": []}', '{"nodes": {"a": 1}}', '{"nodes": {"a": {}}}',
     '{"nodes": {"a": {"url": 1}}}', '{"nodes": {"a": {"url": "http://a", "keyFile": 1}}}'],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "nodes.json").write_text(content)
    (tmp_path / "nodes.json").chmod(0o600)
    with pytest.raises(OperatorError, match=r"nodes\.json cannot be used"):
        Nodes(tmp_path).all()


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a", ".a", "a" * 65, "a/b"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OperatorError):
        Nodes(tmp_path).add(Profile(name, URL))
    with pytest.raises(OperatorError):
        Nodes(tmp_path).keep_key(name, "key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["", "alice", "ws://alice", "http://", "http://a:0"])
def test_what_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(OperatorError, match="not the URL"):
        Nodes(tmp_path).add(Profile("hub", url))


def test_their_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "NODES_MAX", 2)
    nodes = Nodes(tmp_path)
    for name in ("a", "b"):
        nodes.add(Profile(name, URL))
    with pytest.raises(OperatorError, match="remove one"):
        nodes.add(Profile("c", URL))
    nodes.add(Profile("b", URL), force=True)
