"""A small settlement engine (RFC 38) in a process of its own, which misbehaves when told to.

What it has taken is in a file, on disk before it answers, so it keeps its word over `kill -9`. As a
program: `python engine.py PORT FILE`. The faults it is told of (`POST /faults`, a list) happen to
the next orders, one each; they are on disk too, since some of them end the process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

READY_SECONDS_MAX = 20.0
SLOW_SECONDS = 12.0
"""Longer than anybody waits for an answer (`SETTLEMENT_ENGINE_SECONDS_MAX`)."""


class Handler(BaseHTTPRequestHandler):
    """Answers a connector."""

    protocol_version = "HTTP/1.1"
    file: Path
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = self.path.strip("/").split("/")
        if parts == ["faults"]:
            with self.lock:
                self._change(faults=json.loads(body))
            self._answer(200)
        elif parts == ["accounts"]:
            with self.lock:
                state = self._state()
                self._change(accounts=sorted({*state["accounts"], json.loads(body)["id"]}))
            self._answer(201)
        elif parts[2:] == ["settlements"]:
            self._settle(parts[1], json.loads(body))
        elif parts[2:] == ["messages"]:
            assert self.headers["content-type"] == "application/octet-stream"
            self._answer(201, b"heard " + body, "application/octet-stream")
        else:
            self._answer(404)

    def do_DELETE(self) -> None:
        self._answer(204)

    def _settle(self, account: str, quantity: dict[str, Any]) -> None:
        key = self.headers["idempotency-key"]
        with self.lock:
            state = self._state()
            fault = state["faults"].pop(0) if state["faults"] else ""
            order = {"account": account, **quantity}
            asked = [*state["asked"], key]
            self._change(faults=state["faults"], asked=asked)
            if fault == "500":
                self._answer(500)
                return
            if fault == "die before":
                os._exit(9)
            paid = state["paid"]
            if paid.setdefault(key, order) != order:
                self._answer(409)
                return
            self._change(paid=paid)
        if fault == "die":
            os._exit(9)
        if fault == "500 after":
            self._answer(500)
        elif fault == "cut":
            self.close_connection = True
        else:
            if fault == "slow":
                time.sleep(SLOW_SECONDS)
            self._answer(201, b"{}", "application/json")

    def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
        try:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # nobody waits for it any more

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.file.read_text())
        return state

    def _change(self, **changes: Any) -> None:
        beside = self.file.with_suffix(".new")
        with beside.open("w") as file:
            json.dump({**self._state(), **changes}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.file)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class EngineProcess:
    """The engine, as a test starts, kills and asks it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "engine.json"
        self.file.write_text(json.dumps({"paid": {}, "asked": [], "accounts": [], "faults": []}))
        # Not above: as a program this file stands alone.
        from tests.support.ports import free_port

        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> dict[str, Any]:
        """What it has on disk: `paid` by key, keys as they were `asked`, `accounts`, `faults`."""
        state: dict[str, Any] = json.loads(self.file.read_text())
        return state

    @property
    def paid(self) -> list[tuple[str, str, int]]:
        """Account, amount and scale of each payment."""
        return [
            (one["account"], one["amount"], one["scale"]) for one in self.state["paid"].values()
        ]

    def fail(self, *faults: str) -> None:
        """What happens to the next orders; before it is started."""
        self.file.write_text(json.dumps({**self.state, "faults": list(faults)}))

    def start(self) -> None:
        assert not self.is_running
        # -P: the modules beside this file have names of the standard library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(self.port), str(self.file)]
        )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "the engine did not start"
                time.sleep(0.02)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def main() -> None:
    Handler.file = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
