"""The health check that containers run."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
