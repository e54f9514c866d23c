"""`init`: what it asks, takes and refuses."""

from __future__ import annotations

import io
import json
import socket
import sys
from pathlib import Path

import pytest
import typer

from connector.cli import init as init_module
from connector.cli.init import init
from connector.cli.wizard import free_port
from tests.support.commands import command


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))


def variables(folder: Path) -> dict[str, str]:
    text = (folder / "connector.env").read_text("utf-8")
    return dict(line.split("=", 1) for line in text.splitlines() if line and line[0] != "#")


def test_without_anybody_to_ask_it_needs_yes(tmp_path: Path) -> None:
    done = command("init", str(tmp_path / "a"))
    assert done.code == 2
    assert "pass --yes" in done.err
    assert not (tmp_path / "a").exists()


def test_with_yes_it_takes_the_defaults(tmp_path: Path) -> None:
    done = command("init", str(tmp_path / "a"), "--yes", "--node-id", "alice", "--json")
    assert done.code == 0, done.err
    body = done.json
    assert (body["nodeId"], body["ilpAddress"], body["peers"]) == ("alice", "test.alice", [])
    assert body["folder"] == str(tmp_path / "a")
    assert len(body["files"]) == 4
    assert variables(tmp_path / "a")["ASSET_CODE"] == "USD"


def test_peers_come_with_their_options(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("of-the-neighbour-\n")
    done = command(
        "init", str(tmp_path / "a"), "--yes", "--node-id", "alice", "--json", "--show-secrets",
        "--peer", "bob=ws://bob:3000", "--peer", "up", "--relation", "up=parent",
        "--route", "g.bob=bob", "--route", "g.carol=bob",
        "--peer-secret-file", f"bob={tmp_path / 'given'}",
    )  # fmt: skip
    assert done.code == 0, done.err
    bob, up = done.json["peers"]
    assert (bob["peerId"], bob["dials"], bob["url"]) == ("bob", True, "ws://bob:3000")
    assert bob["secret"] == "of-the-neighbour-"
    assert len(up["secret"]) == 32
    found = variables(tmp_path / "a")
    assert "ILP_ADDRESS" not in found, "the parent gives it"
    assert found["BTP_PEER_BOB_ROUTES"] == "g.bob,g.carol"
    assert found["BTP_PEER_UP_RELATION"] == "parent"


def test_secrets_are_printed_only_when_asked_for(tmp_path: Path) -> None:
    options = ("--yes", "--node-id", "alice", "--peer", "bob")
    done = command("init", str(tmp_path / "a"), *options)
    secret = (tmp_path / "a" / "secrets" / "peer-bob").read_text().strip()
    assert secret not in done.out + done.err
    shown = command("init", str(tmp_path / "b"), *options, "--show-secrets")
    secret = (tmp_path / "b" / "secrets" / "peer-bob").read_text().strip()
    assert f"secret of bob: {secret}\n" in shown.out
    admin = (tmp_path / "b" / "secrets" / "admin-api-key").read_text().strip()
    assert admin not in shown.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--node-id", "Alice"], "lower-case"),
        (["--ilp-address", "nowhere"], "ILP address"),
        (["--asset-code", "U S D"], "letters"),
        (["--btp-host", "a b"], "host name"),
        (["--btp-url", "http://a"], "ws://"),
        (["--peer", "Bob"], "lower-case"),
        (["--peer", "bob", "--peer", "bob"], "twice"),
        (["--peer", "bob=http://bob"], "BTP_PEER_BOB_URL"),
        (["--relation", "bob=parent"], "no --peer"),
        (["--peer", "bob", "--relation", "bob=friend"], "ID=parent"),
        (["--peer", "bob", "--route", "g.bob"], "PREFIX=ID"),
        (["--peer", "bob", "--route", "g..bob=bob"], "BTP_PEER_BOB_ROUTES"),
        (["--peer", "bob", "--peer-secret-file", "bob"], "ID=FILE"),
        (["--peer", "bob", "--peer-secret-file", "bob=/nowhere"], "/nowhere cannot be read"),
        (["--peer", "a", "--peer", "b", "--relation", "a=parent", "--relation", "b=parent"],
         "parent"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_written(
    tmp_path: Path, options: list[str], said: str
) -> None:
    done = command("init", str(tmp_path / "a"), "--yes", *options)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert not (tmp_path / "a").exists()


def test_what_is_there_is_replaced_with_force_only(tmp_path: Path) -> None:
    options = ("init", str(tmp_path / "a"), "--yes", "--node-id", "alice")
    assert command(*options).code == 0
    before = variables(tmp_path / "a")
    again = command(*options, "--ilp-address", "g.alice")
    assert again.code == 2
    assert "--force" in again.err
    assert variables(tmp_path / "a") == before
    forced = command(*options, "--ilp-address", "g.alice", "--force")
    assert forced.code == 0
    assert "kept " in forced.out
    assert variables(tmp_path / "a")["ILP_ADDRESS"] == "g.alice"


def test_with_force_a_node_keeps_its_ports_although_it_runs(tmp_path: Path) -> None:
    options = ("init", str(tmp_path / "a"), "--yes", "--node-id", "alice")
    with (
        socket.create_server(("127.0.0.1", 0)) as btp,
        socket.create_server(("127.0.0.1", 0)) as http,
    ):
        ports = [str(one.getsockname()[1]) for one in (btp, http)]
        assert command(*options, "--btp-port", ports[0], "--http-port", ports[1]).code == 0
        assert command(*options, "--force").code == 0
        found = variables(tmp_path / "a")
        assert [found["BTP_SERVER_PORT"], found["HTTP_PORT"]] == ports
    (tmp_path / "a" / "connector.env").write_bytes(b"\xff")
    assert command(*options, "--force").code == 0, "what cannot be read is replaced"


def test_a_secret_that_was_kept_and_is_none_is_named(tmp_path: Path) -> None:
    options = ("init", str(tmp_path / "a"), "--yes", "--node-id", "alice", "--peer", "bob")
    assert command(*options).code == 0
    (tmp_path / "a" / "secrets" / "peer-bob").write_text("")
    done = command(*options, "--force")
    assert done.code == 2
    assert "BTP_PEER_BOB: secret must not be empty" in done.err


def test_it_asks_again_until_an_answer_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "given").write_text("of-the-neighbour")
    typed(
        monkeypatch,
        "Not A Name", "alice",
        "bob", "bob.example", "ws://bob.example:3000", "", "g..x", "g.bob, g.far", "/nowhere",
        str(tmp_path / "given"),
        "bob", "kid", "", "child", "", "",
        "",
        "g.alice", "EUR", "2", "0.0.0.0", "70000", "3200", "8200",
        "y",
    )  # fmt: skip
    init(tmp_path / "a")
    said = capsys.readouterr()
    assert "'Not A Name' must be 1 to 63 lower-case letters" in said.err
    assert "'bob' is there already" in said.err
    assert "'70000' must be a port" in said.err
    assert "alice is set up. Next:" in said.out
    found = variables(tmp_path / "a")
    assert found["NODE_ID"] == "alice"
    assert (found["ILP_ADDRESS"], found["ASSET_CODE"], found["ASSET_SCALE"]) == (
        "g.alice",
        "EUR",
        "2",
    )
    assert (found["BTP_SERVER_HOST"], found["BTP_SERVER_PORT"], found["HTTP_PORT"]) == (
        "0.0.0.0", "3200", "8200",
    )  # fmt: skip
    assert found["BTP_PEER_BOB_URL"] == "ws://bob.example:3000"
    assert found["BTP_PEER_BOB_ROUTES"] == "g.bob,g.far"
    assert found["BTP_PEER_KID_RELATION"] == "child"
    assert (tmp_path / "a" / "secrets" / "peer-bob").read_text() == "of-the-neighbour\n"


@pytest.mark.parametrize("last", ["n", ""])
def test_who_does_not_want_it_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    typed(monkeypatch, "alice", "", "g.alice", "", "", "", "3200", "8200", last)
    with pytest.raises(typer.Exit) as ended:
        init(tmp_path / "a")
    assert ended.value.exit_code == 1
    assert not (tmp_path / "a").exists()


def test_the_end_of_the_input_is_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "alice")
    with pytest.raises(typer.Exit) as ended:
        init(tmp_path / "a")
    assert ended.value.exit_code == 1
    assert not (tmp_path / "a").exists()


def test_a_port_that_is_in_use_is_not_suggested() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert free_port("127.0.0.1", port) > port


def test_it_says_how_this_program_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "connector"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert init_module._started() == {"command": (str(program),)}
    monkeypatch.setattr(sys, "argv", ["/somewhere/connector/__main__.py"])
    started = init_module._started()
    assert started["command"] == (sys.executable, "-m", "connector")
    assert json.dumps(started)
