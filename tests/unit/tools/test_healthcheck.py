"""The health check that containers run."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connector.tools import healthcheck
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_ports


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A port that gives `answer` to one request, and the request."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], asked
        thread.join()


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("environment", "where"),
    [
        ({}, ("127.0.0.1", 8080)),
        ({"HTTP_HOST": "0.0.0.0", "HTTP_PORT": "1"}, ("127.0.0.1", 1)),
        ({"HTTP_HOST": "::", "HTTP_PORT": "65535"}, ("::1", 65535)),
        ({"HTTP_HOST": "10.1.2.3", "HTTP_PORT": ""}, ("10.1.2.3", 8080)),
        ({"HTTP_HOST": "10.1.2.3\r", "HTTP_PORT": " 81\r"}, ("10.1.2.3", 81)),
        ({"CONFIG_FILE": "node.yaml"}, None),
        ({"HTTP_PORT_FILE": "/run/port"}, None),
        ({"HTTP_TLS_CERT": "cert.pem"}, None),
        ({"HTTP_PORT": "0"}, None),
        ({"HTTP_PORT": "65536"}, None),
        ({"HTTP_PORT": "http"}, None),
    ],
)
def test_where_the_node_listens_or_that_it_has_to_be_found_out(
    environment: dict[str, str], where: tuple[str, int] | None
) -> None:
    assert healthcheck.address(environment) == where


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (http("200 OK", '{"status":"ready","reason":""}'), (True, "ready")),
        (http("200 OK", '{"status":"degraded","reason":"spooling"}'), (True, "degraded: spooling")),
        (
            http("503 Service Unavailable", '{"status":"not ready","reason":"starting"}'),
            (False, "starting"),
        ),
    ],
)
def test_what_the_node_says_is_passed_on(answer: bytes, result: tuple[bool, str]) -> None:
    with answering(answer) as (port, asked):
        assert healthcheck.ask("127.0.0.1", port) == result
    assert asked[0].startswith(b"GET /health/ready HTTP/1.0\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n", http("200 OK", "[]"), http("200 OK", "{")])
def test_another_program_on_the_port_is_not_healthy(answer: bytes) -> None:
    with answering(answer) as (port, _):
        healthy, said = healthcheck.ask("127.0.0.1", port)
    assert not healthy
    assert "not a connector?" in said


def test_nobody_there_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    healthy, said = healthcheck.ask("127.0.0.1", port)
    assert not healthy
    assert "is the node running?" in said


@pytest.mark.long
def test_a_node_that_is_not_ready_yet_can_be_waited_for() -> None:
    """Refused, then not ready, then ready."""
    answers = [
        http("503 Service Unavailable", '{"status":"not ready","reason":"starting"}'),
        http("200 OK", '{"status":"ready","reason":""}'),
    ]
    (port,) = free_ports(1)

    def serve() -> None:
        with socket.create_server(("127.0.0.1", port)) as server:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

    thread = threading.Timer(0.3, serve)
    thread.start()
    assert healthcheck.ask_until("127.0.0.1", port, PATIENCE_SECONDS) == (True, "ready")
    thread.join()
    assert healthcheck.ask_until("127.0.0.1", port, 0.2)[0] is False


NODE = (b"/usr/bin/python3\0-m\0connector\0run\0", b"HTTP_PORT=8100\0PATH=/bin\0")


def processes(folder: Path, *found: tuple[bytes | None, bytes | None]) -> str:
    """What /proc has of these processes: command lines and environments; None: it cannot be read."""
    for number, (words, variables) in enumerate(found):
        (folder / str(number)).mkdir()
        for name, content in (("cmdline", words), ("environ", variables)):
            if content is not None:
                (folder / str(number) / name).write_bytes(content)
    (folder / "self").mkdir()
    return str(folder)


@pytest.mark.parametrize(
    ("found", "may"),
    [
        ((b"/bin/bash\0", b""), False),
        ((b"", b""), False),
        ((None, None), False),
        (NODE, True),
        ((NODE[0], b"HTTP_PORT=8101\0"), False),
        ((NODE[0], b"PATH=/bin\0"), False),
        ((NODE[0], b"CONFIG_FILE=x.yaml\0HTTP_PORT=8101\0"), False),
        ((NODE[0], b"CONFIG_FILE=x.yaml\0"), True),
        ((NODE[0], b"HTTP_PORT_FILE=/run/port\0HTTP_PORT=\0"), True),
        ((NODE[0], b"HTTP_PORT=0\0"), False),
        ((NODE[0], None), True),
        ((b"/opt/bin/python\0/opt/bin/ilp-connector\0", NODE[1]), True),
        ((b"connector\0healthcheck\0--wait\0005\0", NODE[1]), False),
        ((b"vi\0/etc/connector.conf\0", NODE[1]), False),
    ],
)
def test_which_process_may_be_the_node(
    tmp_path: Path, found: tuple[bytes | None, bytes | None], may: bool
) -> None:
    assert healthcheck.may_run(8100, processes(tmp_path, (b"init\0", b""), found)) is may


def test_where_processes_cannot_be_seen_the_node_may_be_there(tmp_path: Path) -> None:
    assert healthcheck.may_run(8100, str(tmp_path / "nowhere"))
    assert healthcheck.may_run(8100, str(tmp_path))


def test_a_process_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    seen = iter([True, False, True, False, False, False])
    monkeypatch.setattr(healthcheck, "may_run", lambda _port: next(seen))
    monkeypatch.setattr(healthcheck, "GONE_SECONDS", 0.05)
    ready, said = healthcheck.ask_until("127.0.0.1", port, PATIENCE_SECONDS)
    assert not ready
    assert "No process of it is to be seen" in said
    assert list(seen) == [False], "seen again, it is waited for anew"


def test_how_long_to_wait_comes_from_the_environment_and_the_rest_is_the_full_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        healthcheck, "ask_until", lambda _host, _port, wait_s: (wait_s == 5, "said")
    )
    for value, code in (("", 1), ("5", 0), ("x", None), ("61", None)):
        monkeypatch.setenv(healthcheck.WAIT_VARIABLE, value)
        assert healthcheck.main([]) == code, value
    assert healthcheck.main(["--wait", "5"]) is None
    assert capsys.readouterr().out == "said\n"


@pytest.mark.processes
def test_it_loads_nothing_of_the_package_but_itself() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys, connector.tools.healthcheck\n"
                "print(sorted(m for m in sys.modules if m.split('.')[0] in "
                "('connector', 'asyncio', 'pydantic', 'ssl')))"
            ),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert loaded.strip() == "['connector', 'connector.tools', 'connector.tools.healthcheck']"
