"""The log never waits and never fails; lost lines are counted and reported."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import TextIO

import pytest

from connector.base import log_sink
from connector.base.log_sink import LogSink


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end, and a stream for the other one."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, stream


def test_lines_come_in_order(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    sink = LogSink(stream)
    for number in range(1000):
        sink.write(f"line {number}\n")
    assert sink.drain(10)
    said = os.read(reading, 1 << 16).decode()
    assert said.splitlines() == [f"line {number}" for number in range(1000)]
    sink.close()
    os.close(reading)


def test_a_reader_that_does_not_read_costs_lines_and_nobody_waits(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, stream = pipe
    monkeypatch.setattr(log_sink, "QUEUE_BYTES_MAX", 100_000)
    sink = LogSink(stream)
    told: list[int] = []
    was_told = threading.Event()
    sink.on_recovery = lambda lost: (told.append(lost), was_told.set())[0]
    for _ in range(1000):
        sink.write("x" * 999 + "\n")  # a pipe takes 64 KiB, the queue 100,000 octets
    lost = sink.lost
    assert lost > 500
    assert not sink.drain(0.01)
    got = b""
    while len(got) < 1000 * (1000 - lost):
        got += os.read(reading, 1 << 16)
    assert was_told.wait(10)
    assert told == [lost]
    assert set(got) == {ord("x"), ord("\n")}
    sink.write("back\n")
    assert sink.drain(10)
    assert os.read(reading, 100) == b"back\n"
    sink.close()
    os.close(reading)


def test_a_reader_that_is_gone_ends_nothing(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    sink = LogSink(stream)
    os.close(reading)
    for number in range(3):
        sink.write("to nobody\n")
        assert sink.drain(10)
        assert sink.lost == number + 1
    sink.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_ends_nothing() -> None:
    with Path("/dev/full").open("w") as stream:
        sink = LogSink(stream)
        sink.write("does not fit\n")
        assert sink.drain(10)
        assert sink.lost == 1
        sink.close()


def test_a_stream_without_a_descriptor_or_closed() -> None:
    stream = StringIO()
    sink = LogSink(stream)
    sink.write("here\n")
    assert sink.drain(10)
    assert stream.getvalue() == "here\n"
    stream.close()
    sink.write("gone\n")
    assert sink.drain(10)
    assert sink.lost == 1
    sink.close()
    sink.write("after the end\n")
    assert sink.lost == 2


def test_what_no_encoding_has_is_escaped(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    sink = LogSink(stream)
    sink.write("\ud800\n")
    assert sink.drain(10)
    assert os.read(reading, 100) == b"\\ud800\n"
    sink.close()
    os.close(reading)
