"""What `init` writes."""

from __future__ import annotations

import configparser
import re
import stat
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import ConfigError, ConflictError, EnvironmentFault
from connector.base.files import replace_private
from connector.settings.load import load
from connector.tools import setup
from connector.tools.setup import Plan, PlannedPeer, config_text, next_steps, unit_text, written

PEERS = (
    PlannedPeer("bob", "wss://bob.example:3000", "peer", ("test.bob", "test.far")),
    PlannedPeer("kid-1", relation="child", secret="given-by-the-neighbour"),
)


def plan(folder: Path, **options: Any) -> Plan:
    usual: dict[str, Any] = {"node_id": "alice", "ilp_address": "test.alice", "peers": PEERS}
    return Plan(folder=folder, **{**usual, **options})


def secret() -> Any:
    numbers = count()
    return lambda: f"a-secret-of-our-own-{next(numbers)}"


def read(path: Path) -> dict[str, str]:
    """The variables of a file, as systemd and Docker read it."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_configuration_is_one_that_the_node_takes(tmp_path: Path) -> None:
    one = plan(tmp_path / "alice", asset_scale=2, btp_port=3100, http_port=8100)
    written(one, force=False, new_secret=secret())
    settings = load(read(one.folder / "connector.env")).settings
    assert (settings.node_id, settings.ilp_address) == ("alice", "test.alice")
    assert (settings.btp_server_port, settings.http_port, settings.asset_scale) == (3100, 8100, 2)
    assert settings.data_dir == one.folder / "data"
    bob, kid = settings.peers
    assert (bob.id, bob.url, bob.routes) == (
        "bob",
        "wss://bob.example:3000",
        ["test.bob", "test.far"],
    )
    assert (kid.id, kid.url, kid.relation.value) == ("kid-1", None, "child")
    assert kid.secret.get_secret_value() == "given-by-the-neighbour"
    secrets = [settings.admin_api_key, settings.read_api_key, bob.secret]
    texts = [one.get_secret_value() for one in secrets if one is not None]
    assert len(set(texts)) == 3


def test_every_line_that_is_off_can_be_put_on(tmp_path: Path) -> None:
    one = plan(tmp_path / "alice")
    written(one, force=False, new_secret=secret())
    text = re.sub(r"^# ([A-Z_0-9]+=)", r"\1", config_text(one), flags=re.MULTILINE)
    (tmp_path / "on.env").write_text(text)
    on = read(tmp_path / "on.env")
    settings = load(on).settings
    assert settings.tigerbeetle_cluster_id == 1
    assert settings.peers[0].settle_threshold == 500_000_000
    assert len(on) - len(read(one.folder / "connector.env")) == 13


def test_a_parent_gives_the_address(tmp_path: Path) -> None:
    one = plan(tmp_path, ilp_address="", peers=(PlannedPeer("up", "ws://up:3000", "parent"),))
    written(one, force=False, new_secret=secret())
    assert "ILP_ADDRESS" not in read(tmp_path / "connector.env")
    assert load(read(tmp_path / "connector.env")).settings.ilp_address is None


def test_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    one = plan(tmp_path / "alice")
    (one.folder / "secrets").mkdir(parents=True, mode=0o755)
    done = written(one, force=False, new_secret=secret())
    assert {path.name for path in done.files} == {
        "connector.env", "connector.service", "admin-api-key", "read-api-key", "peer-bob",
        "peer-kid-1",
    }  # fmt: skip
    assert done.kept == []
    assert [mode(one.folder / name) for name in ("secrets", "data")] == [0o700, 0o700]
    assert [mode(path) for path in (one.folder / "secrets").iterdir()] == [0o600] * 4
    assert mode(one.folder / "connector.env") == 0o600
    for path in (one.folder / "connector.env", one.folder / "connector.service"):
        assert "a-secret" not in path.read_text()
        assert "given-by" not in path.read_text()


@pytest.mark.parametrize("there", ["connector.env", "connector.service", "secrets/peer-bob"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConflictError, match=there):
        written(plan(tmp_path), force=False, new_secret=secret())
    assert (tmp_path / there).read_text() == "mine"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(there).name]


def test_with_force_secrets_that_somebody_knows_stay(tmp_path: Path) -> None:
    written(plan(tmp_path), force=False, new_secret=secret())
    keys = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    (tmp_path / "secrets" / "peer-bob").chmod(0o644)
    more = plan(tmp_path, http_port=9000, peers=(*PEERS, PlannedPeer("carol")))
    done = written(more, force=True, new_secret=lambda: "another-one-of-ours")
    assert read(tmp_path / "connector.env")["HTTP_PORT"] == "9000"
    assert {path.name for path in done.kept} == {"admin-api-key", "read-api-key", "peer-bob"}
    assert mode(tmp_path / "secrets" / "peer-bob") == 0o600
    for name, text in keys.items():
        assert (tmp_path / "secrets" / name).read_text() == text
    assert (tmp_path / "secrets" / "peer-carol").read_text() == "another-one-of-ours\n"


def test_a_secrets_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / "secrets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFault, match="symbolic link"):
        written(plan(tmp_path / "alice"), force=False, new_secret=secret())
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert mode(tmp_path / "elsewhere") == 0o755


def test_when_a_file_cannot_be_written_the_others_go_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = replace_private

    def full(path: Path, text: str) -> None:
        if path.name == "connector.env":
            raise OSError(28, "No space left on device", str(path))
        real(path, text)

    monkeypatch.setattr(setup, "replace_private", full)
    with pytest.raises(EnvironmentFault, match=r"connector\.env cannot be written: No space left"):
        written(plan(tmp_path), force=False, new_secret=secret())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["a folder", "a$HOME", "a'b", "a;b", "a%b"])
def test_what_a_shell_or_systemd_would_change_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="DATA_DIR"):
        config_text(plan(tmp_path / name))
    with pytest.raises(ConfigError, match="systemd"):
        unit_text(plan(tmp_path, command=(f"/opt/{name}/connector",)))


def test_the_unit_starts_this_program_with_the_configuration(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    one = plan(tmp_path, command=("/usr/bin/python3", "-m", "connector"), python_path="/srv/ilp")
    unit.read_string(unit_text(one))
    service = unit["Service"]
    assert service["ExecStart"] == "/usr/bin/python3 -m connector run"
    assert service["EnvironmentFile"] == str(tmp_path / "connector.env")
    assert service["Environment"] == "PYTHONPATH=/srv/ilp"
    assert service["ReadWritePaths"] == str(tmp_path / "data")
    assert service["RestartPreventExitStatus"] == "2 3"
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert "PYTHONPATH" not in unit_text(plan(tmp_path))


@pytest.mark.parametrize(
    ("host", "told"),
    [("127.0.0.1", "ws://127.0.0.1:3000"), ("10.0.0.1", "ws://10.0.0.1:3000"),
     ("::1", "ws://[::1]:3000")],
)  # fmt: skip
def test_neighbours_are_told_the_listener(tmp_path: Path, host: str, told: str) -> None:
    assert plan(tmp_path, btp_host=host).url_told == told
    other = plan(tmp_path, btp_host=host, btp_url="wss://alice.example")
    assert other.url_told == "wss://alice.example"
    assert "0.0.0.0" not in plan(tmp_path, btp_host="0.0.0.0").url_told


def test_the_next_steps_name_the_way_of_each_link_and_no_secret(tmp_path: Path) -> None:
    text = "\n".join(next_steps(plan(tmp_path), "connector"))
    bob, kid = text.split("2. Tell ")[1:]
    assert "we dial wss://bob.example:3000" in bob
    assert "--dial" not in bob
    assert "--dial ws://127.0.0.1:3000 --route test.alice --relation parent" in kid
    assert "given-by" not in text
    assert "ping test.bob --url http://127.0.0.1:8080" in text
    assert "peers add PEER" in "\n".join(next_steps(plan(tmp_path, peers=()), "connector"))
