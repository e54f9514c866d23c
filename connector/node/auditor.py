"""Checks of the books of the running node, asked for over its API; in a process of its own.

An audit replays the journal, which takes its time and the interpreter: a child process of lower priority does
it (`tools.audit_process`) and packets go on. One runs at a time; who asks meanwhile gets the same one.
The child is given the settings over a pipe, and says how far it is in lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import ConfigError, ConflictError
from connector.base.log import Log
from connector.node import bounds
from connector.settings.model import Settings
from connector.telemetry.events import BooksChecked, Event, iso

_MODULE: Final = "connector.tools.audit_process"


class Auditor:
    """Of one node; implements `web.audit.BooksAuditor`."""

    def __init__(
        self, *, settings: Settings, clock: Clock, emit: Callable[[Event], None], log: Log
    ) -> None:
        """Nothing is started.

        Args:
            settings: of the configuration; what was changed while it ran is read from DATA_DIR.
            clock: for the times that are shown.
            emit: takes the event of each audit.
            log: for a line of each audit.
        """
        self._settings: Final = settings
        self._clock: Final = clock
        self._emit: Final = emit
        self._log: Final = log
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._view: dict[str, Any] = {"state": "none", "report": None, "error": None}

    def attach(self, group: asyncio.TaskGroup) -> None:
        """Audits are tasks of `group` from now on."""
        self._group = group

    async def stop(self) -> None:
        """End an audit that runs. Safe to call twice."""
        self._group = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def view(self) -> dict[str, Any]:
        """How far the audit is, or how the last one ended."""
        return dict(self._view)

    def begin(self) -> dict[str, Any]:
        """Begin an audit, unless one runs; returns `view`.

        Raises:
            ConfigError: the ledger keeps nothing that could be audited.
            ConflictError: the node is stopping.
        """
        if self._settings.ledger == "memory":
            raise ConfigError(["LEDGER=memory keeps no books that could be audited"])
        if self._group is None:
            raise ConflictError("the node is stopping")
        if self._view["state"] != "running":
            self._view = {
                "state": "running",
                "beganAt": iso(self._clock.now_ms()),
                "done": 0,
                "of": 0,
                "report": None,
                "error": None,
            }
            self._task = self._group.create_task(self._run())
        return self.view()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(bounds.AUDIT_SECONDS_MAX):
                report, error = await self._ask_child()
        except TimeoutError:
            report, error = None, f"it took more than {bounds.AUDIT_SECONDS_MAX:.0f} s"
        except (OSError, ValueError) as fault:
            report, error = None, f"it could not be run: {fault}"
        # Last, without a wait after it: from now on another one may begin.
        self._ended(report, error[: bounds.CHANGE_FAULT_CHARACTERS_MAX])

    async def _ask_child(self) -> tuple[dict[str, Any] | None, str]:
        """The report, or None and why there is none."""
        report: dict[str, Any] | None = None
        error = ""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=bounds.AUDIT_LINE_BYTES_MAX,
            # The same package as here, and nothing of the settings: they come by the pipe.
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(ConnectionError):  # it has ended: its answer says why
                child.stdin.write(pickle.dumps(self._settings))
                await child.stdin.drain()
            child.stdin.close()
            while line := await child.stdout.readline():
                said = json.loads(line)
                if "report" in said:
                    report = said["report"]
                elif "error" in said:
                    error = str(said["error"])
                else:
                    self._view.update(done=said["done"], of=said["of"])
            code = await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return report, error or f"its process ended with {code}"

    def _ended(self, report: dict[str, Any] | None, error: str) -> None:
        self._view = {
            "state": "failed" if report is None else "done",
            "beganAt": self._view["beganAt"],
            "endedAt": iso(self._clock.now_ms()),
            "report": report,
            "error": error if report is None else None,
        }
        if report is None:
            self._log.warning("audit_failed", reason=error)
            return
        wrong = [one for one in report["checks"] if not one["ok"]]
        self._emit(
            BooksChecked(
                ok=report["ok"],
                checks=len(report["checks"]),
                failed="; ".join(one["name"] for one in wrong),
                detail="; ".join(one["details"] for one in wrong),
                pending=int(report["pending"]),
            )
        )
        level = self._log.info if report["ok"] else self._log.warning
        level(
            "books_checked",
            ok=report["ok"],
            checks=len(report["checks"]),
            failed=[one["name"] for one in wrong][: bounds.AUDIT_FAILED_SHOWN_MAX],
        )
