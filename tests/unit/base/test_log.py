"""Logs: one JSON object a line, in camel case, without secrets, and not in floods."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from connector.base.log import REDACTED, Log, Sampler, drain, set_up


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Logging belongs to the process: leave it as it was found."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    drain()
    captured = capsys.readouterr()
    assert captured.out == "", "stdout belongs to the commands"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_is_an_object_with_event_level_time_and_node(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up("info", "json", "alice").info("connector_started", btp_server_port=3000, peers=2)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "connector_started",
        "level": "info",
        "nodeId": "alice",
        "btpServerPort": 3000,
        "peers": 2,
    }


def test_what_peers_say_cannot_break_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "json", "alice").info("x", reason='"}\n{"event": "forged"')
    assert [line["event"] for line in lines(capsys)] == ["x"]


@pytest.mark.parametrize(
    "name",
    ["secret", "receiver_secret", "auth_token", "admin_api_key", "apikey", "password", "Authorization"],
)  # fmt: skip
def test_values_of_names_that_sound_secret_never_get_out(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    set_up("info", "json", "alice").info("x", **{name: "hunter2"})
    (line,) = lines(capsys)
    assert "hunter2" not in str(line)
    assert REDACTED in line.values()


def test_that_there_is_no_secret_may_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "json", "alice").info("x", secret=None)
    assert lines(capsys)[0]["secret"] is None


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_says_how_much_is_heard(
    capsys: pytest.CaptureFixture[str], level: str, heard: list[str]
) -> None:
    log: Log = set_up(level, "json", "alice")
    log.debug("x")
    log.info("x")
    log.warning("x")
    log.error("x")
    assert [line["level"] for line in lines(capsys)] == heard


def test_off_a_terminal_lines_are_json_and_console_is_for_people(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up("info", "", "alice").info("chosen_by_itself")
    assert lines(capsys)[0]["event"] == "chosen_by_itself"
    set_up("info", "console", "alice").info("for_people", peer_id="bob", token="hunter2")
    drain()
    text = capsys.readouterr().err
    assert "for_people" in text
    assert "peerId" in text
    assert "hunter2" not in text


def test_an_exception_is_a_field_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up("info", "json", "alice")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        log.error("impossible", exc_info=True)  # noqa: G201 - `Log` has no `exception`
    (line,) = lines(capsys)
    assert "ZeroDivisionError" in line["exception"]


def test_libraries_are_heard_from_warnings_on_and_the_chatty_ones_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up("debug", "json", "alice")
    logging.getLogger("asyncio").info("quiet")
    for name in ("websockets.server", "uvicorn.error", "httpx"):
        logging.getLogger(name).error("quiet: %s", "hunter2")
    logging.getLogger("asyncio").warning("heard %d", 1)
    logging.getLogger("asyncio").error("louder", exc_info=ValueError("why"))
    first, second = lines(capsys)
    assert (first["event"], first["library"], first["detail"], first["level"]) == (
        "library_message", "asyncio", "heard 1", "warning",
    )  # fmt: skip
    assert (second["detail"], second["level"]) == ("louder", "error")
    assert "ValueError: why" in second["exception"]


def test_a_sampler_lets_so_many_a_second_through_and_counts_the_others() -> None:
    sampler = Sampler(2)
    assert [sampler.allow(1.0), sampler.allow(1.5), sampler.allow(1.9)] == [0, 0, None]
    assert sampler.allow(1.99) is None
    assert sampler.allow(2.0) == 2
    assert sampler.allow(2.1) == 0
    assert sampler.allow(2.2) is None
