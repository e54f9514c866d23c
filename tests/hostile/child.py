"""A child process of a run: it takes commands as lines, and prints a line of JSON once a second."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.support.inherited import INHERITED

_LINE_BYTES_MAX: Final = 1 << 20


class Child:
    """A process of ours that says a line of JSON once a second."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self.last: dict[str, Any] = {}
        self.is_told_to_end = False
        self.failure = ""
        self._process = process

    @classmethod
    async def start(cls, name: str, *arguments: str, own_session: bool) -> Child:
        """Not yet told the target.

        `own_session`: Linux gives each session the same share of a processor, and niceness counts only
        within one (sched_autogroup). So all attackers are in one, and whoever measures is not.
        """
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, env=INHERITED, stdin=pipe, stdout=pipe, stderr=pipe,
            start_new_session=own_session, process_group=None if own_session else 0,
            limit=_LINE_BYTES_MAX,
        )  # fmt: skip
        return cls(process, name)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        if self._process.returncode is None:
            self._process.stdin.write(line.encode() + b"\n")

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """What it says until it ends; notes how it has ended if that was not asked for."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        while line := await self._process.stdout.readline():
            self.last = json.loads(line) or self.last
            yield self.last
        said = (await self._process.stderr.read()).decode("utf-8", "replace")
        code = await self._process.wait()
        if not self.is_told_to_end or code:
            self.failure = f"{self.name} ended with {code}: {said[-2000:]}"

    def end(self) -> None:
        """Close its standard input."""
        self.is_told_to_end = True
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def ended(self) -> None:
        """Wait until it has."""
        await self._process.wait()

    def kill(self) -> None:
        """At once."""
        if self._process.returncode is None:
            self._process.kill()
