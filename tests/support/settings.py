"""Settings from an environment that a test writes, and their faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector.base.errors import ConfigError
from connector.settings.load import load
from connector.settings.model import PeerSettings, Settings

ALICE = {"BTP_PEER_ALICE_SECRET": "alice's-own"}


def settings(**environment: str) -> Settings:
    return load(environment).settings


def peer(**environment: str) -> PeerSettings:
    (one,) = load({**ALICE, **environment}).settings.peers
    return one


def faults(environment: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(environment)
    return caught.value.faults


def fault(**environment: str) -> str:
    """The one fault of this environment."""
    found = faults(environment)
    assert len(found) == 1, found
    return found[0]


def yaml_file(folder: Path, text: str) -> dict[str, str]:
    path = folder / "connector.yaml"
    path.write_text(text, "utf-8")
    return {"CONFIG_FILE": str(path)}
