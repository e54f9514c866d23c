"""Files and folders of the settings: every one that cannot be used is named, and none is made."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import ConfigError, ListenError
from connector.node.preflight import check, check_ports, learned_first, without_effect
from connector.settings.model import PeerSettings, Settings

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def faults(**settings: Any) -> tuple[str, ...]:
    try:
        check(Settings(**settings))
    except ConfigError as error:
        return error.faults
    return ()


# --- folders


def test_a_folder_that_is_not_there_yet_can_be_used_and_is_not_made(tmp_path: Path) -> None:
    assert faults(data_dir=tmp_path / "a" / "b") == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["file", "dangling"])
@pytest.mark.parametrize("below", [".", "data", "a/b"])
def test_a_folder_in_whose_way_something_stands_is_named(
    tmp_path: Path, way: str, below: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    folder = tmp_path / way / below
    (said,) = faults(data_dir=folder)
    assert said == (
        f"DATA_DIR={folder} cannot be used: {tmp_path / way} is not a folder; choose another one"
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_folder_that_takes_no_file_is_named() -> None:
    """Not even of root, whom permissions do not stop."""
    (said,) = faults(data_dir=Path("/proc/x"))
    assert said.startswith("DATA_DIR=/proc/x cannot be used: no file can be made in /proc (")
    assert said.endswith("let this user write there, or choose another folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (said,) = faults(data_dir=tmp_path)
    assert f"no file can be made in {tmp_path} (Permission denied)" in said


def test_a_full_disk_is_no_fault_of_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert faults(data_dir=tmp_path) == ()


def test_the_folder_of_archives_is_checked_where_there_will_be_any(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    used: dict[str, Any] = {"data_dir": tmp_path, "ledger_archive_dir": file}
    (said,) = faults(**used)
    assert said.startswith(f"LEDGER_ARCHIVE_DIR={file} cannot be used")
    assert faults(**used, ledger="memory") == ()
    cluster = {"tigerbeetle_cluster_id": 0, "tigerbeetle_replicas": "3001"}
    assert faults(**used, **cluster) == ()


# --- certificates


def openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificates with openssl, which is not on PATH")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, the same key encrypted, and other keys."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("", "other-"):
        openssl(
            "req", "-x509", *EC, "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-keyout", f"{folder}/{name}key.pem", "-out", f"{folder}/{name}cert.pem",
        )  # fmt: skip
    openssl("genrsa", "-out", f"{folder}/rsa-key.pem", "2048")
    openssl(
        "pkey", "-in", f"{folder}/key.pem", "-aes256", "-passout", "pass:word",
        "-out", f"{folder}/encrypted-key.pem",
    )  # fmt: skip
    (folder / "text.pem").write_text("neither")
    os.mkfifo(folder / "pipe")  # nobody writes to it
    both = (folder / "cert.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "both.pem").write_text(both)
    return folder


@pytest.mark.processes
@pytest.mark.parametrize("which", ["btp", "http"])
@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("cert.pem", "key.pem", None),
        ("both.pem", "both.pem", None),
        ("none.pem", "key.pem", "CERT={cert} cannot be read: No such file or directory"),
        ("cert.pem", "none.pem", "KEY={key} cannot be read: No such file or directory"),
        ("cert.pem", "", "KEY={key} cannot be read: Is a directory"),
        ("pipe", "key.pem", "CERT={cert} cannot be read: it is not a regular file"),
        ("cert.pem", "pipe", "KEY={key} cannot be read: it is not a regular file"),
        ("text.pem", "key.pem", "CERT={cert} holds no certificate in PEM format"),
        ("key.pem", "key.pem", "CERT={cert} holds no certificate in PEM format"),
        ("cert.pem", "text.pem", "KEY={key} holds no private key in PEM format"),
        ("cert.pem", "cert.pem", "KEY={key} holds no private key in PEM format"),
        ("cert.pem", "other-key.pem", "KEY={key} is not the key of the certificate {cert}"),
        ("cert.pem", "rsa-key.pem", "KEY={key} is not the key of the certificate {cert}"),
        ("cert.pem", "encrypted-key.pem", "KEY={key} is encrypted, and nobody could type its"),
    ],
)
def test_the_file_at_fault_is_named(
    tls: Path, which: str, cert: str, key: str, said: str | None
) -> None:
    files = {f"{which}_tls_cert": tls / cert, f"{which}_tls_key": tls / key}
    found = faults(data_dir=tls, **files)
    if said is None:
        assert found == ()
        return
    (line,) = found
    expected = said.format(cert=tls / cert, key=tls / key)
    assert line.startswith(f"{which.upper()}_TLS_{expected}")


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = faults(
        data_dir=tmp_path / "file",
        btp_tls_cert=tmp_path / "a",
        btp_tls_key=tmp_path / "b",
        http_tls_cert=tmp_path / "c",
        http_tls_key=tmp_path / "d",
    )
    assert [line.split("=")[0] for line in found] == [
        "BTP_TLS_CERT", "BTP_TLS_KEY", "HTTP_TLS_CERT", "HTTP_TLS_KEY", "DATA_DIR",
    ]  # fmt: skip


# --- ports


def test_every_port_that_others_have_is_named() -> None:
    fields = {
        "BTP_SERVER_PORT": "btp_server_port", "HTTP_PORT": "http_port",
        "ILP_HTTP_PORT": "ilp_http_port", "PAY_PORT": "pay_port",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in fields.values()
        ]
        ports = [one.getsockname()[1] for one in others]
        taken = dict(zip(fields.values(), ports, strict=True))
        with pytest.raises(ListenError) as caught:
            check_ports(Settings(**taken))
        assert [line.strip() for line in str(caught.value).splitlines()] == [
            f"{name}={port} cannot be had on 127.0.0.1: Address already in use; choose another one"
            for name, port in zip(fields, ports, strict=True)
        ]
    check_ports(Settings(btp_server_port=0, http_port=0))


# --- settings that do nothing


def test_what_has_no_effect_for_want_of_another_setting_is_named() -> None:
    peers = [PeerSettings(id="bob-b", secret="s", http_token="t")]
    alone = Settings(
        wallets=["a"],
        pay_url="https://pay.example",
        ilp_http_url="https://ilp.example",
        fulfill_when="booked",
        peers=peers,
    )
    assert without_effect(alone) == [
        "WALLETS has no effect without PAY_PORT",
        "PAY_URL has no effect without PAY_PORT",
        "ILP_HTTP_URL has no effect without ILP_HTTP_PORT",
        "FULFILL_WHEN has no effect without TIGERBEETLE_CLUSTER_ID",
        "BTP_PEER_BOB_B_HTTP_TOKEN has no effect without BTP_PEER_BOB_B_HTTP_URL",
    ]
    peers = [PeerSettings(id="bob-b", secret="s", http_token="t", http_url="http://b/ilp")]
    whole = alone.model_copy(
        update={"pay_port": 0, "ilp_http_port": 0, "peers": peers, "tigerbeetle_cluster_id": 1}
    )
    assert without_effect(whole) == without_effect(Settings()) == []


@pytest.mark.parametrize(
    ("bob", "mallory", "is_said"),
    [
        ({"routes": ["g.bob"]}, {}, True),
        ({"routes": ["g.bob"]}, {"receive_prefixes": ["g.mallory"]}, False),
        ({"routes": ["g.bob"]}, {"receive_routes": False}, False),
        ({"routes": ["g.bob"]}, {"relation": "child"}, False),
        ({"routes": ["g"]}, {}, False),
        ({}, {}, False),
    ],
)
def test_it_is_said_that_learned_routes_may_go_before_configured_ones(
    bob: dict[str, Any], mallory: dict[str, Any], is_said: bool
) -> None:
    peers = [
        PeerSettings(id="bob", secret="b", receive_routes=False, **bob),  # type: ignore[arg-type]
        PeerSettings(id="mallory", secret="m", **mallory),  # type: ignore[arg-type]
    ]
    said = learned_first(Settings(peers=peers))
    assert bool(said) is is_said
    if is_said:
        assert "mallory" in said
        assert "g.bob=bob" in said
