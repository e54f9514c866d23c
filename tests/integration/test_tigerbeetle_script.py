"""`scripts/tigerbeetle` and `scripts/dev` as a developer runs them: real processes, exit codes.

Downloads come from a server on loopback and hold a stand-in for the TigerBeetle server; what is
started is the real one where the machine has it.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.tigerbeetle_server import MISSING, binary

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0
TOOLS = (
    "bash", "basename", "cat", "chmod", "cksum", "cut", "dirname", "du", "env", "find", "grep", "mkdir",
    "mktemp", "mv", "nohup", "rm", "rmdir", "sed", "seq", "sleep", "sort", "tail", "tr", "uname",
)  # fmt: skip
CLIENT = re.search(r'"tigerbeetle==([\d.]+)"', ROOT.joinpath("pyproject.toml").read_text()).group(1)  # type: ignore[union-attr]
STAND_IN = """#!/bin/sh
[ "$1" = version ] && echo "TigerBeetle version {version}+c0ffee" && exit
[ "$1" = format ] && for last; do :; done && echo whole >"$last" && exit
echo "{last_words}" >&2
exit 1
"""


def stand_in(version: str, last_words: str = "") -> str:
    """A program that answers `version` and formats, but does not start."""
    return STAND_IN.format(version=version, last_words=last_words)


def archive(program: str) -> bytes:
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as file:
        file.writestr(zipfile.ZipInfo("tigerbeetle"), program)
    return octets.getvalue()


def later(version: str) -> str:
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


class Sandbox:
    """The scripts in a project folder of their own, with just the tools that they need."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project with a space"
        self.bin = folder / "bin"
        self.data = folder / "data"
        self.bin.mkdir(parents=True)
        (self.root / "scripts").mkdir(parents=True)
        for name in ("scripts/tigerbeetle", "scripts/dev", "scripts/_venv.sh", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None, name
            (self.bin / name).symlink_to(found)
        self.put("python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        self.env: dict[str, str] = {}

    def put(self, name: str, program: str) -> Path:
        """Make a program that stands on PATH."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(program)
        path.chmod(0o755)
        return path

    def curl(self) -> None:
        found = shutil.which("curl")
        if found is None:
            pytest.skip("there is no curl here")
        (self.bin / "curl").symlink_to(found)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.root / "scripts/tigerbeetle"), *arguments],
            env={"PATH": str(self.bin), "HOME": str(self.root), **self.env, **env},
            cwd=self.bin, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert "unbound variable" not in done.stderr
        assert "syntax error" not in done.stderr
        return done

    def pretend_venv(self) -> None:
        """Let the scripts find the package installed: here it is, in the running interpreter."""
        (self.root / "connector").symlink_to(ROOT / "connector")
        for name in ("hatch_build.py", "hatch_compile.py", "requirements"):
            (self.root / name).symlink_to(ROOT / name)
        (self.root / "explorer-ui").mkdir()
        (self.root / ".venv/bin").mkdir(parents=True)
        python = self.root / ".venv/bin/python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        summed = subprocess.run(
            "cat requirements/*.txt pyproject.toml connector/version.py hatch_build.py hatch_compile.py | cksum", shell=True, cwd=self.root,
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        (self.root / ".venv/installed").write_text(f"base {summed} {self.root}\n")

    def hurry(self) -> None:
        """Let `stop` wait for two seconds instead of ten."""
        script = self.root / "scripts/tigerbeetle"
        text = script.read_text()
        assert text.count("stop_seconds_max=10\n") == 1
        script.write_text(text.replace("stop_seconds_max=10\n", "stop_seconds_max=2\n"))

    @property
    def installed(self) -> Path:
        return self.root / ".tigerbeetle" / "tigerbeetle"

    def leftovers(self) -> list[str]:
        folder = self.root / ".tigerbeetle"
        return [path.name for path in folder.glob("*") if path != self.installed]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path)
    yield sandbox
    sandbox.run("stop", "--data-dir", str(sandbox.data))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Mirror:
    """Where releases are downloaded from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def offer(self, version: str, octets: bytes) -> str:
        """Put an archive there; its checksum."""
        system = f"{'aarch64' if platform.machine() in ('arm64', 'aarch64') else 'x86_64'}-linux"
        if sys.platform == "darwin":
            system = "universal-macos"
        path = self.folder / version / f"tigerbeetle-{system}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)
        return hashlib.sha256(octets).hexdigest()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    mirror = Mirror(tmp_path / "mirror")
    yield mirror
    mirror.close()


# --- install


@pytest.mark.parametrize("with_curl", [True, False])
def test_install_downloads_checks_and_is_done_once(
    sandbox: Sandbox, mirror: Mirror, with_curl: bool
) -> None:
    if with_curl:
        sandbox.curl()
    checksum = mirror.offer(CLIENT, archive(stand_in(CLIENT)))
    done = sandbox.run("install", "--from", mirror.url, "--sha256", checksum)
    assert done.returncode == 0, done.stderr
    assert f"Installed TigerBeetle {CLIENT}" in done.stderr
    assert os.access(sandbox.installed, os.X_OK)
    again = sandbox.run("install", "--from", "http://127.0.0.1:9")
    assert again.returncode == 0
    assert "is there already" in again.stderr
    assert str(sandbox.installed) in again.stderr
    assert sandbox.leftovers() == []


def test_install_takes_only_the_official_archive(sandbox: Sandbox, mirror: Mirror) -> None:
    """The checksums of the client's version are known, also for a mirror."""
    mirror.offer(CLIENT, archive(stand_in(CLIENT)))
    done = sandbox.run("install", "--from", mirror.url)
    assert done.returncode == 1
    assert "is not the official one" in done.stderr
    assert not sandbox.installed.exists()
    assert sandbox.leftovers() == []


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (archive(stand_in("0.17.1")), "holds version 0.17.1, not"),
        (archive("#!/bin/sh\necho hello\n"), "does not run on this machine"),
        (archive("\x7fELF garbage"), "does not run on this machine"),
        (b"<html>Sign in to this network</html>", "is no archive with a tigerbeetle in it"),
    ],
)
def test_install_refuses_what_is_no_such_server(
    sandbox: Sandbox, mirror: Mirror, octets: bytes, said: str
) -> None:
    checksum = mirror.offer(CLIENT, octets)
    done = sandbox.run("install", "--from", mirror.url, "--sha256", checksum)
    assert done.returncode == 1
    assert said in done.stderr
    assert not sandbox.installed.exists()
    assert sandbox.leftovers() == []


@pytest.mark.parametrize("with_curl", [True, False])
def test_install_without_network_says_what_to_do(sandbox: Sandbox, with_curl: bool) -> None:
    if with_curl:
        sandbox.curl()
    done = sandbox.run("install", "--from", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "cannot download it" in done.stderr
    assert "export TIGERBEETLE_BIN=" in done.stderr
    assert "Traceback" not in done.stderr
    assert sandbox.leftovers() == []


def test_install_of_a_later_version_beside_one_that_fits(sandbox: Sandbox, mirror: Mirror) -> None:
    sandbox.put("tigerbeetle", stand_in(CLIENT))
    done = sandbox.run("install", "--from", mirror.url)
    assert done.returncode == 0, "what is on PATH fits"
    mirror.offer(later(CLIENT), archive(stand_in(later(CLIENT))))
    done = sandbox.run("install", "--from", mirror.url, "--version", later(CLIENT))
    assert done.returncode == 0, done.stderr
    assert "No checksum" in done.stderr
    assert sandbox.installed.exists()


def test_install_goes_past_a_server_that_is_too_old(sandbox: Sandbox, mirror: Mirror) -> None:
    sandbox.put("tigerbeetle", stand_in("0.17.2"))
    done = sandbox.run("start", "--data-dir", str(sandbox.data))
    assert done.returncode == 1
    assert "0.17.2, older than the client" in done.stderr
    assert "scripts/tigerbeetle install" in done.stderr
    checksum = mirror.offer(CLIENT, archive(stand_in(CLIENT)))
    done = sandbox.run("install", "--from", mirror.url, "--sha256", checksum)
    assert done.returncode == 0, done.stderr
    assert str(sandbox.installed) in sandbox.run("status").stdout


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (None, "is no program"),
        ("#!/bin/sh\nexit 1\n", "is no TigerBeetle server that runs here"),
        (stand_in("0.16.70"), f"0.16.70, older than the connector's client ({CLIENT})"),
    ],
)
def test_tigerbeetle_bin_is_used_or_named_as_wrong(
    sandbox: Sandbox, tmp_path: Path, program: str | None, said: str
) -> None:
    path = tmp_path / "my server"
    if program is not None:
        path.write_text(program)
        path.chmod(0o755)
    done = sandbox.run("start", TIGERBEETLE_BIN=str(path))
    assert done.returncode == 1
    assert said in done.stderr
    path.write_text(stand_in(later(CLIENT)))
    path.chmod(0o755)
    status = sandbox.run("status", TIGERBEETLE_BIN=str(path))
    assert f"{path}, version {later(CLIENT)}" in status.stdout


# --- usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say what to do"),
        (("dance",), "there is no dance"),
        (("start", "--colour"), "does not know --colour"),
        (("start", "--port"), "--port needs a value"),
        (("start", "--port", "0"), "--port takes"),
        (("start", "--port", "65535", "--replicas", "3"), "too high"),
        (("start", "--replicas", "7"), "1 to 6"),
        (("start", "--cluster", "0x1"), "decimal"),
        (("start", "--cache-grid", "1GiB"), "--full"),
        (("stop", "--replica", "9"), "0 to 5"),
        (("status", "--port", "1"), "does not know"),
        (("install", "--version", "latest"), "--version takes"),
        (("install", "--version", "0.16.1"), "older than the connector's client"),
    ],
)
def test_wrong_usage_is_said_with_exit_code_2(
    sandbox: Sandbox, arguments: tuple[str, ...], said: str
) -> None:
    done = sandbox.run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "--help" in done.stderr


def test_help_names_every_verb_and_option(sandbox: Sandbox) -> None:
    done = sandbox.run("--help")
    assert done.returncode == 0
    for word in ("install", "start", "stop", "status", "--data-dir", "--full", "TIGERBEETLE_BIN"):
        assert word in done.stdout
    assert sandbox.run("start", "--help").stdout == done.stdout


# --- processes


def test_a_server_that_does_not_start_is_told_with_its_last_words_and_a_hint(
    sandbox: Sandbox,
) -> None:
    sandbox.put("tigerbeetle", stand_in(CLIENT, "error: PermissionDenied"))
    done = sandbox.run("start", "--data-dir", str(sandbox.data), "--port", str(free_port()))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "the server ended while it started" in done.stderr
    assert "error: PermissionDenied" in done.stderr
    assert "denies io_uring" in done.stderr
    assert not list(sandbox.data.glob("*.pid"))
    assert not list(sandbox.data.glob("*.new*"))
    assert not (sandbox.data / "starting").exists()


def test_a_half_written_data_file_is_not_kept(sandbox: Sandbox) -> None:
    program = (
        stand_in(CLIENT).replace("echo whole", "echo half").replace('"$last" && exit', '"$last"')
    )
    sandbox.put("tigerbeetle", program)
    done = sandbox.run("start", "--data-dir", str(sandbox.data), "--port", str(free_port()))
    assert done.returncode == 1
    assert "cannot make the data file" in done.stderr
    assert not list(sandbox.data.glob("*.tigerbeetle*")) or not [
        path for path in sandbox.data.iterdir() if path.suffix == ".tigerbeetle"
    ]


def test_a_process_that_is_not_ours_is_never_ended(sandbox: Sandbox) -> None:
    """Its id stands in the file of a server that is long gone."""
    sandbox.put("tigerbeetle", stand_in(CLIENT))
    sandbox.data.mkdir()
    file = sandbox.data / "0_0_of_1.tigerbeetle"
    file.write_text("data")
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            for said in (str(other.pid), f"{other.pid} 127.0.0.1:3001 development", "", "-1", "x"):
                file.with_name(file.name + ".pid").write_text(said + "\n")
                status = sandbox.run("status", "--data-dir", str(sandbox.data))
                assert status.returncode == 3
                assert "not running" in status.stdout
                done = sandbox.run("stop", "--data-dir", str(sandbox.data))
                assert done.returncode == 0
                assert "Nothing runs" in done.stderr
                assert other.poll() is None
        finally:
            other.kill()


def test_a_port_that_another_program_has_is_named(sandbox: Sandbox) -> None:
    sandbox.put("tigerbeetle", stand_in(CLIENT))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = sandbox.run("start", "--data-dir", str(sandbox.data), "--port", port)
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr


# --- with the real server


@pytest.fixture
def real(sandbox: Sandbox) -> Sandbox:
    path = binary()
    if path is None:
        pytest.skip(MISSING)
    sandbox.env["TIGERBEETLE_BIN"] = path
    return sandbox


def variables(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What `eval` would set."""
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("export ").partition("=") for line in done.stdout.splitlines()]
    return {name: value for name, _, value in lines}


@pytest.mark.tigerbeetle
def test_start_status_stop_and_start_again(real: Sandbox) -> None:
    where = ("--data-dir", str(real.data))
    port = free_port()
    order = ("start", *where, "--port", str(port), "--cluster", "77")
    found = variables(real.run(*order))
    assert found == {
        "TIGERBEETLE_CLUSTER_ID": "77",
        "TIGERBEETLE_REPLICAS": f"127.0.0.1:{port}",
    }
    socket.create_connection(("127.0.0.1", port), 1).close()
    status = real.run("status", *where)
    assert status.returncode == 0
    pid = int(re.search(r"running, process (\d+)", status.stdout).group(1))  # type: ignore[union-attr]
    assert variables(real.run(*order)) == found, "it runs already"
    assert f"process {pid}," in real.run("status", *where).stdout
    other = real.run("start", *where, "--port", str(free_port()), "--cluster", "77")
    assert other.returncode == 1
    assert "otherwise than asked for" in other.stderr
    assert real.run("stop", *where).returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    assert real.run("status", *where).returncode == 3
    data = (real.data / "77_0_of_1.tigerbeetle").stat().st_ino
    variables(real.run(*order))
    assert (real.data / "77_0_of_1.tigerbeetle").stat().st_ino == data, "the data stays"
    # A server that does not react to being asked is ended all the same.
    again = real.run("status", *where).stdout
    pid = int(re.search(r"running, process (\d+)", again).group(1))  # type: ignore[union-attr]
    os.kill(pid, signal.SIGSTOP)
    real.hurry()
    began = time.monotonic()
    assert real.run("stop", *where).returncode == 0
    assert 1 < time.monotonic() - began < 20
    assert real.run("status", *where).returncode == 3


@pytest.mark.tigerbeetle
def test_two_starts_at_once_make_one_server(real: Sandbox) -> None:
    port = str(free_port())
    results: list[subprocess.CompletedProcess[str]] = []

    def start() -> None:
        results.append(real.run("start", "--data-dir", str(real.data), "--port", port))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert variables(results[0]) == variables(results[1])
    assert len(list(real.data.glob("*.tigerbeetle"))) == 1
    assert not list(real.data.glob("*.new*"))


@pytest.mark.tigerbeetle
def test_three_replicas_on_one_machine(real: Sandbox) -> None:
    where = ("--data-dir", str(real.data))
    for port in range(free_port(), 65_000):
        try:
            for replica in range(3):
                socket.create_server(("127.0.0.1", port + replica)).close()
            break
        except OSError:
            continue
    found = variables(real.run("start", *where, "--port", str(port), "--replicas", "3"))
    assert found["TIGERBEETLE_REPLICAS"].split(",") == [f"127.0.0.1:{port + n}" for n in range(3)]
    assert real.run("status", *where).stdout.count("running, process") == 3
    assert real.run("stop", *where, "--replica", "1").returncode == 0
    status = real.run("status", *where)
    assert status.returncode == 3
    assert status.stdout.count("running, process") == 2
    assert "0_1_of_3  not running" in status.stdout
    variables(real.run("start", *where, "--port", str(port), "--replicas", "3"))
    assert real.run("status", *where).returncode == 0


def test_dev_names_a_port_in_use_before_it_formats_anything(sandbox: Sandbox) -> None:
    sandbox.pretend_venv()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [str(sandbox.root / "scripts/dev"), "--data-dir", str(sandbox.data)],
            env={"PATH": str(sandbox.bin), "HTTP_PORT": "0", "BTP_SERVER_PORT": str(port)},
            capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert (
        f"BTP_SERVER_PORT={port} cannot be had on 127.0.0.1: Address already in use" in done.stderr
    )
    assert not sandbox.data.exists()
    assert not sandbox.installed.exists()


@pytest.mark.tigerbeetle
def test_dev_runs_both_and_stops_both(real: Sandbox, tmp_path: Path) -> None:
    real.pretend_venv()
    http, btp = free_port(), free_port()
    where = ("--data-dir", str(real.data))
    process = subprocess.Popen(
        [str(real.root / "scripts/dev"), *where, "--port", str(free_port())],
        env={
            **real.env,
            "PATH": str(real.bin),
            "HTTP_PORT": str(http),
            "BTP_SERVER_PORT": str(btp),
            "DATA_DIR": str(tmp_path / "node"),
            "NODE_ID": "dev",
            "LOG_FORMAT": "json",
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if '"connector_started"' in line:
                break
        text = "".join(said)
        assert re.search(r'"backend": ?"tigerbeetle"', text), text
        assert "send --auth sender:dev" in text
        sent = subprocess.run(
            [sys.executable, "-m", "connector", "send", "--auth", "sender:dev", "--url",
             f"ws://127.0.0.1:{btp}", "--destination", "test.dev"],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr + sent.stdout
        # As Ctrl-C does: to all processes of the terminal.
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert '"connector_stopped"' in rest
        assert "Stopped 1" in rest
        status = real.run("status", *where)
        assert status.returncode == 3
        assert "not running" in status.stdout
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
