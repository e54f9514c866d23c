"""What a transfer costs through our own ledger port as accounts and the data file grow.

    python benchmarks/tigerbeetle_scale.py                       a server of its own, in full mode
    python benchmarks/tigerbeetle_scale.py --accounts 10,1000 --grow 0,1000000 --json
    python benchmarks/tigerbeetle_scale.py --history      accounts keep their balances

Each step books packets as the connector's writer does: a request of pending transfers between
random peer accounts with a credit limit, then a request that posts them, one request at a time.
First with ever more accounts, then with a data file that holds ever more transfers. Prints machine,
versions and numbers; a figure of a shared machine means little by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from connector.base.clock import SystemClock
from connector.ledger.model import (
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    ACCOUNT_HISTORY,
    PENDING,
    PHASE_RESOLVE,
    POST,
    Account,
    AccountStatus,
    IdGenerator,
    Status,
    Transfer,
)
from connector.ledger.tigerbeetle import TigerBeetleLedger

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from bench import machine  # noqa: E402 - a sibling, no package

LEDGER = 7
CREDIT = 10**15


class Load:
    """Accounts of one step, and packets between them."""

    def __init__(
        self, ledger: TigerBeetleLedger, accounts: int, batch: int, flags: int = 0
    ) -> None:
        self.ledger = ledger
        self.batch = batch
        self.flags = flags
        self.ids = IdGenerator(random_bits=secrets.randbits)
        tag = secrets.token_bytes(8)
        self.accounts = [
            int.from_bytes(hashlib.sha256(tag + n.to_bytes(8, "big")).digest()[:16], "big")
            for n in range(accounts)
        ]
        self.random = random.Random(accounts)

    async def open(self) -> None:
        """Create the accounts and grant each its credit."""
        line = int.from_bytes(secrets.token_bytes(15), "big")
        rows = [Account(line, ledger=LEDGER, code=2, flags=self.flags)]
        flags = ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS | self.flags
        rows += [Account(one, ledger=LEDGER, code=1, flags=flags) for one in self.accounts]
        assert set(await self.ledger.create_accounts(rows)) == {AccountStatus.CREATED}
        grants = [
            Transfer(self.id(), line, one, CREDIT, ledger=LEDGER, code=5) for one in self.accounts
        ]
        assert set(await self.ledger.create_transfers(grants)) == {Status.CREATED}

    def id(self) -> int:
        return self.ids.next(time.time_ns() // 1_000_000)

    def reservations(self) -> list[Transfer]:
        held = []
        for _ in range(self.batch):
            debit, credit = self.random.sample(self.accounts, 2)
            held.append(Transfer(self.id(), debit, credit, 1, 0, 1, 2, 3, 40, LEDGER, 1, PENDING))
        return held

    async def run(self, *, seconds: float = 0.0, events: int = 0) -> dict[str, Any]:
        """Book for so long, or so many transfers, and measure only the ledger's part."""
        request_ms: list[float] = []
        cpu_s = wall_s = 0.0
        done = 0
        while wall_s < seconds or done < events:
            held = self.reservations()
            posts = [
                Transfer(one.id | PHASE_RESOLVE, amount=one.amount, pending_id=one.id, flags=POST)
                for one in held
            ]
            for request in (held, posts):
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                statuses = await self.ledger.create_transfers(request)
                took_s = time.perf_counter() - began_s
                cpu_s += time.process_time() - began_cpu_s
                wall_s += took_s
                request_ms.append(took_s * 1000)
                assert statuses.count(Status.CREATED) == len(request)
                done += len(request)
        request_ms.sort()
        return {
            "events": done,
            "events_per_second": round(done / wall_s),
            "request_ms_p50": round(request_ms[len(request_ms) // 2], 2),
            "request_ms_p99": round(request_ms[int(len(request_ms) * 0.99)], 2),
            "request_ms_max": round(request_ms[-1], 2),
            "client_cpu_us_per_event": round(cpu_s / done * 1e6, 3),
        }


class Server:
    """A TigerBeetle of its own in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [ROOT / "scripts/tigerbeetle", *arguments, "--data-dir", self.folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        return done.stderr

    def start(self, cache_grid: str) -> str:
        said = self._run("start", "--port", str(self.port), "--full", "--cache-grid", cache_grid)
        return said.splitlines()[-1]

    def stop(self) -> None:
        self._run("stop")

    def megabytes(self) -> int:
        (file,) = self.folder.glob("*.tigerbeetle")
        return file.stat().st_blocks * 512 // 10**6


async def measure(arguments: argparse.Namespace, server: Server) -> list[dict[str, Any]]:
    ledger = TigerBeetleLedger(
        cluster_id=0, addresses=f"127.0.0.1:{server.port}", clock=SystemClock(), timeout_ms=60_000
    )
    await ledger.open()
    rows: list[dict[str, Any]] = []
    flags = ACCOUNT_HISTORY if arguments.history else 0

    def note(step: str, accounts: int, figures: dict[str, Any]) -> None:
        row = {"step": step, "accounts": accounts, "file_mb": server.megabytes(), **figures}
        rows.append(row)
        if not arguments.json:
            print(LINE.format(**row), flush=True)

    for count in arguments.accounts:
        load = Load(ledger, count, arguments.batch, flags)
        began_s = time.perf_counter()
        await load.open()
        opened_s = time.perf_counter() - began_s
        await load.run(events=4 * arguments.batch)  # not measured: everybody warms up
        figures = await load.run(seconds=arguments.seconds)
        note(f"accounts (made in {opened_s:.1f} s)", count, figures)
    load = Load(ledger, arguments.grow_accounts, arguments.batch, flags)
    await load.open()
    total = 0
    for target in arguments.grow:
        if target > total:
            filler = Load(ledger, 1, 8189)
            filler.accounts, filler.ids = load.accounts, load.ids
            total += (await filler.run(events=target - total))["events"]
        figures = await load.run(seconds=arguments.seconds)
        note(f"after {total:,} transfers", arguments.grow_accounts, figures)
        total += figures["events"]
    await ledger.close()
    return rows


HEAD = "{step:32} {accounts:>8} {file_mb:>8} {events_per_second:>10} {request_ms_p50:>8} {request_ms_p99:>8} {request_ms_max:>8} {client_cpu_us_per_event:>12}"
LINE = HEAD
TITLES = {
    "step": "step", "accounts": "accounts", "file_mb": "file MB", "events_per_second": "events/s",
    "request_ms_p50": "p50 ms", "request_ms_p99": "p99 ms", "request_ms_max": "max ms",
    "client_cpu_us_per_event": "CPU us/event",
}  # fmt: skip


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=numbers, default=[10, 100, 1000, 10_000, 100_000])
    parser.add_argument(
        "--grow", type=numbers, default=[0, 1_000_000, 4_000_000],
        help="transfers in the file before each further step",
    )  # fmt: skip
    parser.add_argument("--grow-accounts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6.0, help="per step")
    parser.add_argument("--batch", type=int, default=1000, help="transfers a request")
    parser.add_argument("--cache-grid", default="1GiB", help="page cache of the server")
    parser.add_argument("--folder", type=Path, help="where the data file goes (default: temporary)")
    parser.add_argument("--history", action="store_true", help="accounts keep their balances")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tigerbeetle-scale-", dir=arguments.folder))
    server = Server(folder)
    about = machine(folder)
    about["client"] = importlib.metadata.version("tigerbeetle")
    try:
        about["server"] = server.start(arguments.cache_grid)
        about["load_average"] = round(os.getloadavg()[0], 2)
        if not arguments.json:
            print("\n".join(f"{name}: {value}" for name, value in about.items()))
            print(f"\n{arguments.batch} transfers a request\n" + HEAD.format(**TITLES), flush=True)
        rows = uvloop.run(measure(arguments, server))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps({"machine": about, "batch": arguments.batch, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
