"""Log-ins: the tokens of peers."""

from __future__ import annotations

import pytest

from connector.btp.credentials import Credentials, CredentialTable


def table(**tokens: str) -> CredentialTable:
    return CredentialTable(
        Credentials(peer_id=peer_id, token=token, username="us")
        for peer_id, token in tokens.items()
    )


@pytest.mark.parametrize(
    ("path_peer_id", "username", "token", "expected"),
    [
        pytest.param(None, "alice", "a", "alice", id="username"),
        pytest.param("alice", "", "a", "alice", id="path"),
        pytest.param("alice", "alice", "a", "alice", id="path and username agree"),
        pytest.param("alice", "bob", "b", None, id="path and username differ"),
        pytest.param(None, "", "b", "bob", id="token alone"),
        pytest.param(None, "alice", "b", None, id="token of another peer"),
        pytest.param(None, "alice", "", None, id="empty token"),
        pytest.param(None, "alice", "ä", None, id="token outside ASCII"),
        pytest.param(None, "carol", "a", None, id="unknown username"),
        pytest.param("carol", "", "a", None, id="unknown path"),
        pytest.param(None, "carol", "\0" * 32, None, id="unknown username, placeholder token"),
        pytest.param(None, "", "c", None, id="unknown token"),
    ],
)
def test_a_log_in_needs_the_token_of_the_named_peer(
    path_peer_id: str | None, username: str, token: str, expected: str | None
) -> None:
    assert table(alice="a", bob="b").authenticate(path_peer_id, username, token, 0) == expected


def test_a_token_that_two_peers_share_identifies_neither() -> None:
    shared = table(alice="same", bob="same", carol="c")
    assert shared.authenticate(None, "", "same", 0) is None
    assert shared.authenticate(None, "bob", "same", 0) == "bob"
    shared.remove("alice")
    assert shared.authenticate(None, "", "same", 0) == "bob"


def test_replaced_credentials_end_the_old_token() -> None:
    one = table(alice="old")
    one.put(Credentials(peer_id="alice", token="new", username="us"))
    assert one.authenticate(None, "alice", "old", 0) is None
    assert one.authenticate(None, "", "old", 0) is None
    assert one.authenticate(None, "", "new", 0) == "alice"


def test_a_removed_peer_may_not_log_in() -> None:
    one = table(alice="a")
    one.remove("alice")
    assert one.authenticate(None, "alice", "a", 0) is None
    assert one.authenticate(None, "", "a", 0) is None
    with pytest.raises(KeyError):
        one.remove("alice")


NO_TOKEN = "\0" * 32


def rotated(**more: str) -> CredentialTable:
    """alice has a new secret; the one before serves until 1000."""
    one = table(**{"bob": "b", **more})
    one.put(
        Credentials(
            peer_id="alice", token="new", username="us", former_token="old", former_until_ms=1000
        )
    )
    return one


@pytest.mark.parametrize("username", ["alice", ""])
def test_a_former_token_serves_beside_the_new_one_until_its_time(username: str) -> None:
    one = rotated()
    for token, now_ms, expected in (
        ("new", 999, "alice"), ("old", 999, "alice"), ("new", 1000, "alice"), ("old", 1000, None),
        ("b", 0, "bob" if not username else None), (NO_TOKEN, 0, None), ("", 0, None),
    ):  # fmt: skip
        assert one.authenticate(None, username, token, now_ms) == expected, token


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_what_stands_for_no_token_is_no_token(name: str) -> None:
    assert rotated().authenticate(None, name, NO_TOKEN, 0) is None
    assert rotated().authenticate(None, name, NO_TOKEN, 5000) is None


def test_the_end_of_a_former_token_is_told_once_and_the_token_forgotten() -> None:
    one = rotated()
    assert one.graces_over(999) == []
    assert one.graces_over(1000) == ["alice"]
    assert one.graces_over(2000) == []
    found = one.get("alice")
    assert found is not None
    assert (found.token, found.former_token) == ("new", None)
    assert one.authenticate(None, "alice", "old", 0) is None


def test_a_former_token_that_another_peer_has_identifies_neither() -> None:
    one = rotated(carol="old")
    assert one.authenticate(None, "", "old", 0) is None
    assert one.authenticate(None, "carol", "old", 0) == "carol"
    assert one.authenticate(None, "alice", "old", 0) == "alice"
