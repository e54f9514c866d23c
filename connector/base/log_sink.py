"""The sink of log lines: a bounded queue, and a thread that writes them to a stream.

Logging never blocks and never fails: with a slow or closed reader or a full disk, lines are lost, not
packets. Lost lines are counted, and the number is logged once lines can be written again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

QUEUE_BYTES_MAX: Final = 4 << 20
_WRITE_BYTES_MAX: Final = 1 << 16
_FULL_PIPE_SECONDS: Final = 0.05
_CLOSE_SECONDS_MAX: Final = 1.0


class LogSink:
    """A file-like object for one line at a time."""

    def __init__(self, stream: TextIO, on_recovery: Callable[[int], None] | None = None) -> None:
        """`on_recovery` is called, in the thread, with the number of lines lost before."""
        self.on_recovery = on_recovery
        self.lost = 0
        """Lines that could not be written, of all time."""
        self.stream: Final = stream
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lost_until_said = 0
        self._is_writing = False
        self._is_closed = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Queue a line; drops it if the queue is full."""
        line = text.encode("utf-8", "backslashreplace")
        with self._change:
            if self._is_closed or self._bytes + len(line) > QUEUE_BYTES_MAX:
                self._lose(1)
            else:
                self._lines.append(line)
                self._bytes += len(line)
                self._change.notify_all()
        return len(text)

    def flush(self) -> None:
        """Nothing: the thread writes each line as soon as it can. See `drain`."""

    def drain(self, seconds_max: float = _CLOSE_SECONDS_MAX) -> bool:
        """Wait until all queued lines are written, for so long at most; whether they are."""
        with self._change:
            return self._change.wait_for(
                lambda: not self._lines and not self._is_writing, seconds_max
            )

    def close(self) -> None:
        """Write what is queued, for a bounded time, and end the thread."""
        self.drain()
        with self._change:
            self._is_closed = True
            self._change.notify_all()

    def _lose(self, lines: int) -> None:
        self.lost += lines
        self._lost_until_said += lines

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._lines or self._is_closed)
                if not self._lines:
                    return
                part = self._take()
                self._is_writing = True
            is_written = self._write(b"".join(part))
            with self._change:
                self._is_writing = False
                said = 0
                if not is_written:
                    self._lose(len(part))
                elif self._lost_until_said:
                    said, self._lost_until_said = self._lost_until_said, 0
                self._change.notify_all()
            if said and self.on_recovery is not None:
                self.on_recovery(said)

    def _take(self) -> list[bytes]:
        part: list[bytes] = []
        size = 0
        while self._lines and size < _WRITE_BYTES_MAX:
            line = self._lines.popleft()
            size += len(line)
            part.append(line)
        self._bytes -= size
        assert self._bytes >= 0, self._bytes
        return part

    def _write(self, octets: bytes) -> bool:
        try:
            number = self.stream.fileno()
        except (OSError, ValueError):
            # A stream without a descriptor, or a closed one.
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(octets.decode())
                self.stream.flush()
                return True
            return False
        # Past the stream's own buffer, which keeps what could not be written and fails ever after.
        try:
            while octets:
                try:
                    octets = octets[os.write(number, octets) :]
                except BlockingIOError:
                    threading.Event().wait(_FULL_PIPE_SECONDS)
        except OSError:
            return False
        return True
