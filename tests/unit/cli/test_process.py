"""The process of a command: Ctrl-C, and a standard output that is full or that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector.cli import process
from connector.cli.process import Output, OutputError
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


@pytest.fixture
def as_in_a_shell() -> Iterator[None]:
    changed = (signal.SIGINT, signal.SIGUSR1, *STOP_SIGNALS)
    before = {one: signal.getsignal(one) for one in changed}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in changed[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_nobody_reads_any_more_is_dropped() -> None:
    reading, writing = os.pipe()
    out = Output(os.fdopen(writing, "wb"))
    os.close(reading)
    assert out.has_reader
    print("one", file=out, flush=True)
    assert not out.has_reader
    print("two", file=out, flush=True)
    out.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_disk_is_one_error_and_nothing_fails_later(buffered: bool) -> None:
    file = Path("/dev/full").open("wb", buffering=-1 if buffered else 0)  # noqa: SIM115
    out = Output(file, write_through=not buffered)
    with pytest.raises(OutputError, match="the output cannot be written: No space left on device"):
        print("one", file=out, flush=True)
    print("two", file=out, flush=True)
    out.close()


def test_ctrl_c_and_output_that_fails_are_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def raises(error: BaseException) -> int | str | None:
        def command() -> None:
            raise error

        with pytest.raises(SystemExit) as ended:
            process.run(command)
        return ended.value.code

    assert raises(KeyboardInterrupt()) == 130
    assert raises(SystemExit(7)) == 7
    assert capsys.readouterr().err == ""
    assert raises(OutputError("the output cannot be written: full")) == 1
    assert capsys.readouterr().err == "connector: the output cannot be written: full\n"
    process.run(lambda: None)


@pytest.mark.usefixtures("as_in_a_shell")
def test_ctrl_c_is_an_exception_only_when_all_is_loaded() -> None:
    process.prepare()
    assert signal.getsignal(signal.SIGINT) is process._end
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    for number in STOP_SIGNALS:
        assert signal.getsignal(number) is process._end
    process.loaded()
    # As process 1 they would be ignored without a handler.
    for number in STOP_SIGNALS:
        assert signal.getsignal(number) is process._end
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("as_in_a_shell")
@pytest.mark.parametrize("number", [signal.SIGINT, *STOP_SIGNALS])
def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    """`nohup`, or a job in the background of a script."""
    signal.signal(number, signal.SIG_IGN)
    process.prepare()
    process.loaded()
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, *STOP_SIGNALS])
def test_a_signal_while_modules_are_loaded_is_quiet(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "connector", "status"],
        env=INHERITED,
        stderr=subprocess.PIPE,
        text=True,
    ) as starting:
        assert starting.stderr is not None
        patience = threading.Timer(PATIENCE_SECONDS, starting.kill)
        patience.start()
        for line in starting.stderr:
            # Of the many that come after it, some take long.
            if line.rpartition("|")[2].strip() == "typer":
                starting.send_signal(number)
                break
        rest = starting.stderr.read()
        assert starting.wait() == 128 + number
        patience.cancel()
    assert "Traceback" not in rest


@pytest.mark.processes
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["check-config", "--json"], ["compose", "--topology", "line"]]
)
def test_output_on_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "connector", *arguments],
            env=INHERITED,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.stderr == "connector: the output cannot be written: No space left on device\n"
    assert done.returncode == 1
