"""The former secret of a peer: its forms, and what is no time or no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector.base.errors import ConfigError
from connector.settings.load import load
from connector.settings.model import PeerSettings

SECRET = {"BTP_PEER_BOB_SECRET": "the-new-secret-of-bob"}
FORMER = {
    **SECRET,
    "BTP_PEER_BOB_SECRET_FORMER": "the-old-secret-of-bob",
    "BTP_PEER_BOB_SECRET_FORMER_UNTIL": "2026-12-01T12:00:00Z",
}


@pytest.mark.parametrize(
    "text",
    ["2026-12-01T12:00:00Z", "2026-12-01T12:00Z", "2026-12-01T13:00:00+01:00", "2026-12-01T12:00",
     "2026-12-01T12:00:00.900Z"],
)  # fmt: skip
def test_its_end_has_one_form(text: str) -> None:
    (bob,) = load({**FORMER, "BTP_PEER_BOB_SECRET_FORMER_UNTIL": text}).settings.peers
    assert bob.secret_former is not None
    assert bob.secret_former.get_secret_value() == "the-old-secret-of-bob"
    assert bob.secret_former_until == "2026-12-01T12:00:00Z"
    assert bob.secret_former_until_ms == 1_796_126_400_000


def test_without_one_there_is_no_time() -> None:
    assert PeerSettings(id="bob", secret="x").secret_former_until_ms == 0


def test_it_comes_from_a_file_and_from_yaml_too(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("the-old-secret-of-bob\n")
    with_file = {name: value for name, value in FORMER.items() if not name.endswith("_FORMER")}
    with_file["BTP_PEER_BOB_SECRET_FORMER_FILE"] = str(tmp_path / "old")
    assert load(with_file).settings.peers == load(FORMER).settings.peers
    for quote in ("", '"'):
        (tmp_path / "node.yaml").write_text(
            "peers:\n  - id: bob\n    secret: the-new-secret-of-bob\n    secretFormer: the-old-secret-of-bob\n"
            f"    secretFormerUntil: {quote}2026-12-01T12:00:00Z{quote}\n"
        )
        found = load({"CONFIG_FILE": str(tmp_path / "node.yaml")}).settings.peers
        assert found == load(FORMER).settings.peers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"BTP_PEER_BOB_SECRET_FORMER_UNTIL": ""}, "go together"),
        ({"BTP_PEER_BOB_SECRET_FORMER_UNTIL": "tomorrow"}, "must be a time such as"),
        ({"BTP_PEER_BOB_SECRET_FORMER_UNTIL": "9999-12-31T23:59:59-23:00"}, "must be a time"),
        ({"BTP_PEER_BOB_SECRET_FORMER": "the-new-secret-of-bob"}, "must not be the secret"),
        ({"BTP_PEER_BOB_SECRET_FORMER": "caf\u00e9"}, "printable ASCII"),
        ({"BTP_PEER_CAROL_SECRET": "the-old-secret-of-bob"}, "have the same secret"),
        ({"BTP_SERVER_HOST": "0.0.0.0", "BTP_PEER_BOB_SECRET_FORMER": "short"},
         "BTP_PEER_BOB_SECRET_FORMER has less than 16 characters"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it_is_said_and_never_shown(change: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({**FORMER, **change})
    assert said in str(caught.value)
    assert "of-bob" not in str(caught.value)
