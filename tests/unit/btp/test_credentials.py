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
    assert table(alice="a", bob="b").authenticate(path_peer_id, username, token) == expected


def test_a_token_that_two_peers_share_identifies_neither() -> None:
    shared = table(alice="same", bob="same", carol="c")
    assert shared.authenticate(None, "", "same") is None
    assert shared.authenticate(None, "bob", "same") == "bob"
    shared.remove("alice")
    assert shared.authenticate(None, "", "same") == "bob"


def test_replaced_credentials_end_the_old_token() -> None:
    one = table(alice="old")
    one.put(Credentials(peer_id="alice", token="new", username="us"))
    assert one.authenticate(None, "alice", "old") is None
    assert one.authenticate(None, "", "old") is None
    assert one.authenticate(None, "", "new") == "alice"


def test_a_removed_peer_may_not_log_in() -> None:
    one = table(alice="a")
    one.remove("alice")
    assert one.authenticate(None, "alice", "a") is None
    assert one.authenticate(None, "", "a") is None
    with pytest.raises(KeyError):
        one.remove("alice")
