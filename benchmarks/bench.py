"""Packets per second through one connector process, beside the JS connector in the same run.

The load is pinned to one core; the connector, ours or the JS one, may use any, since both have
threads of their own (`--one-core` pins it to another core). The targets take turns (A B A B): a
figure of a shared machine means little by itself. `scripts/bench --help` lists the options.

What is measured is what `pip install .` installs: with its core compiled, where there is a C compiler
(the first run compiles it, which takes a minute); `--interpreted` measures the sources as they are.

    scripts/bench                                      all ledgers, windows 1, 100 and 500
    scripts/bench --compare main --rounds 10           this tree beside that commit, in turns
    scripts/bench --hops 5 --ledgers memory            what does each further connector cost?
    scripts/bench --million --ledgers embedded         is memory flat over a million packets?
    scripts/bench --idle-peers 1000 --routes 100000    what do idle peers and routes cost?
    scripts/bench --learned-routes 10000               what do routes cost that a neighbour announces?
    scripts/bench --viewers 1,5 --stalled-seconds 300  what do those cost who look at the page?
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import yaml
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
import turns  # noqa: E402 - beside this file

import hatch_compile  # noqa: E402 - it stands beside the package

START_SECONDS_MAX = 60.0
WARM_UP_PACKETS = 3000
OPEN_FILES = 65_536
JS_CREDIT = "1000000000000000"
HELD_SETTINGS = ("TIGERBEETLE_", "BTP_", "ACCOUNTING_")

Figures = dict[str, Any]


# --- the machine


ONE_CORE = "--one-core" in sys.argv
INTERPRETED = "--interpreted" in sys.argv
PACKET_IDS = "--packet-ids" in sys.argv
HISTORY = HERE / "history"


def cores() -> tuple[set[int], set[int]]:
    """Cores of the connector and of the load; empty: any."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    usable = sorted(os.sched_getaffinity(0))
    return {usable[-1]} if ONE_CORE else set(), {usable[0]}


def pinned(core: set[int]) -> Callable[[], None]:
    """For a child process, before it starts."""

    def pin() -> None:
        if core:
            os.sched_setaffinity(0, core)

    return pin


def machine(folder: Path) -> Figures:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit(),
        "load_average": round(os.getloadavg()[0], 2),
        "fsync_ms": fsync_ms(folder),
    }  # fmt: skip


def commit() -> str:
    """Of the tree that is measured; `+` behind it: with changes."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        head = _output("git", "rev-parse", "--short", "HEAD")
        return head + ("+" if _output("git", "status", "--porcelain", "connector") else "")
    return "unknown"


def _output(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def fsync_ms(folder: Path) -> float:
    """The median time of writing a page durably, where the embedded ledger will write."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began_s)
    return round(statistics.median(times) * 1000, 3)


def cpu_seconds(pid: int) -> float | None:
    """CPU that a process has used; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float | None:
    """Memory of a process, in 10**6 octets."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def free_ports(count: int) -> list[int]:
    """Ports that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


# --- what is measured


class Target(Protocol):
    """A running connector."""

    name: str
    process: subprocess.Popen[bytes]
    load_options: list[str]


@dataclass
class Ours:
    """`python -m connector run` with a ledger of some kind."""

    name: str
    process: subprocess.Popen[bytes]
    load_options: list[str]
    url: str
    start_seconds: float

    @property
    def feed(self) -> str:
        """The live feed of its page."""
        return self.url.replace("http", "ws", 1) + "/ws"


@dataclass
class Js:
    """npm's ilp-connector with balances in memory."""

    name: str
    process: subprocess.Popen[bytes]
    load_options: list[str]


def wait_until(check: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until it is so.

    Raises:
        SystemExit: the process ended, or it took too long; with the end of its log.
    """
    deadline_s = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            if check():
                return
        time.sleep(0.02)
    raise SystemExit("\n".join(["did not start:", *log.read_text().splitlines()[-10:]]))


@contextlib.contextmanager
def child(
    command: Sequence[str], environment: Mapping[str, str], core: set[int], log: Path, cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=dict(environment), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, preexec_fn=pinned(core),  # noqa: PLW1509 - no threads here
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def ours(
    ledger: str, core: set[int], folder: Path, *, name: str | None = None,
    config: dict[str, Any] | None = None, settings: Mapping[str, str] = MappingProxyType({}),
    tree: Path = ROOT,
) -> Iterator[Ours]:  # fmt: skip
    """A connector of ours with the peers alice and bob, and what `config` and `settings` add.

    `tree`: the sources that it is built from.
    """
    name = name or ledger
    place = folder / name.replace(" ", "-")
    place.mkdir(parents=True)
    btp_port, http_port = free_ports(2)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(HELD_SETTINGS)}
    environment |= {
        "NODE_ID": "hub",
        "ILP_ADDRESS": "g.hub",
        "DATA_DIR": str(place / "data"),
        "BTP_SERVER_PORT": str(btp_port),
        "HTTP_PORT": str(http_port),
        "LOG_FORMAT": "json",
        "BTP_PEER_ALICE_SECRET": "sa",
        "BTP_PEER_ALICE_CREDIT_LIMIT": "1000000000000000",
        "BTP_PEER_BOB_SECRET": "sb",
        "BTP_PEER_BOB_ROUTES": "g.hub.bob",
    }
    if ledger == "tigerbeetle":
        for variable in ("TIGERBEETLE_CLUSTER_ID", "TIGERBEETLE_REPLICAS"):
            if variable not in os.environ:
                raise SystemExit(f"--ledgers tigerbeetle needs {variable} of a running server")
            environment[variable] = os.environ[variable]
        # Balances stay in the cluster: a name of its own for every run.
        environment["NODE_ID"] = f"bench-{os.urandom(6).hex()}"
    else:
        environment["LEDGER"] = ledger
    if config is not None:
        environment["CONFIG_FILE"] = str(place / "config.yaml")
        with (place / "config.yaml").open("w") as file:
            yaml.dump(config, file, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    environment |= settings
    log = place / "log"
    url = f"http://127.0.0.1:{http_port}"
    package = tree if INTERPRETED else compiled(tree)
    environment |= {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "connector", "run"]
    began_s = time.perf_counter()
    with child(command, environment, core, log, tree) as process:
        wait_until(lambda: get(f"{url}/health")["status"] == "healthy", process, log)
        yield Ours(
            name, process, ["--url", f"ws://127.0.0.1:{btp_port}"], url,
            time.perf_counter() - began_s,
        )  # fmt: skip


def get(url: str) -> Any:
    """JSON of a page on loopback; proxies of the environment are left aside."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as response:
        return json.load(response)


def metric(target: Ours, name: str) -> float:
    """A metric without labels."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"{target.url}/metrics", timeout=5
    ) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise SystemExit(f"{target.url}/metrics has no {name}")


def js_modules() -> Path | None:
    """The folder of the JS connector, filled from npm once; None where that cannot be done."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    folder = ROOT / "build" / "bench-js"
    installed = folder / "node_modules" / "ilp-connector" / "package.json"
    if not installed.exists():
        print("installing the JS connector ...", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "js" / file, folder)
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            print(f"no JS connector: npm ci failed: {done.stderr[:300]}", file=sys.stderr)
            return None
    return folder


@contextlib.contextmanager
def js(modules: Path, core: set[int], folder: Path) -> Iterator[Js]:
    """npm's ilp-connector with the child accounts a and b; nothing it keeps is durable."""
    place = folder / "js"
    place.mkdir()
    ports = free_ports(2)
    accounts = {
        name: {
            "relation": "child",
            "plugin": "ilp-plugin-btp",
            "assetCode": "USD",
            "assetScale": 9,
            "balance": {"maximum": JS_CREDIT},
            "rateLimit": {"refillPeriod": 1000, "refillCount": 10**7, "capacity": 10**7},
            "options": {
                "listener": {
                    "port": port,
                    "secret": secret,
                    "wsOpts": {"host": "127.0.0.1", "port": port},
                }
            },
        }
        for name, port, secret in (("a", ports[0], "sa"), ("b", ports[1], "sb"))
    }
    environment = os.environ | {
        "CONNECTOR_ENV": "production",
        "CONNECTOR_ILP_ADDRESS": "test.conn",
        "CONNECTOR_SPREAD": "0",
        "CONNECTOR_BACKEND": "one-to-one",
        "CONNECTOR_STORE": "ilp-store-memory",
        "CONNECTOR_ADMIN_API": "false",
        "CONNECTOR_LOG_LEVEL": "warn",
        "CONNECTOR_ACCOUNTS": json.dumps(accounts),
        "DEBUG": "",
    }
    log = place / "log"
    command = ["node", "node_modules/ilp-connector/dist/index.js"]

    def listening() -> bool:
        for port in ports:
            socket.create_connection(("127.0.0.1", port), 1).close()
        return True

    with child(command, environment, core, log, modules) as process:
        wait_until(listening, process, log)
        options = [
            "--url", f"ws://127.0.0.1:{ports[0]}", "--receiver-url", f"ws://127.0.0.1:{ports[1]}",
            "--sender", ":sa", "--receiver", ":sb", "--destination", "test.conn.b.x",
        ]  # fmt: skip
        yield Js("js", process, options)


# --- measuring


def progress(text: str) -> None:
    """What is being done, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="\r" if not text else "", file=sys.stderr, flush=True)


def measure(target: Target, packets: int, window: int, core: set[int]) -> Figures:
    """One load on one target.

    Raises:
        SystemExit: not every packet was fulfilled.
    """
    before_s = cpu_seconds(target.process.pid)
    ids = ["--packet-ids"] if PACKET_IDS and isinstance(target, Ours) else []
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), *target.load_options,
         "--packets", str(packets), "--window", str(window), *ids],
        stdout=subprocess.PIPE, text=True, preexec_fn=pinned(core), check=False,
    )  # fmt: skip
    after_s = cpu_seconds(target.process.pid)
    if done.returncode:
        raise SystemExit(f"{target.name}, window {window}: {done.stdout or 'the load failed'}")
    figures: Figures = json.loads(done.stdout)
    if before_s is not None and after_s is not None:
        figures["cpu_us"] = round((after_s - before_s) / packets * 1e6, 1)
    figures["rss_mb"] = rss_mb(target.process.pid)
    return figures


def packets_for(window: int, packets: int) -> int:
    """A window of few packets has less to do in the same time."""
    return packets if window >= 50 else max(500, packets // 10)


def median(rows: list[Figures], name: str) -> float:
    """Over the rounds."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(statistics.median(values)) if values else float("nan")


def compare(
    targets: Sequence[Target], options: argparse.Namespace, core: set[int], base: str | None
) -> list[Figures]:
    """Every target at every window, in turns; one row each, with the ratio to target `base`."""
    for target in targets:
        measure(target, WARM_UP_PACKETS, 100, core)
    seen: dict[tuple[str, int], list[Figures]] = {}
    for number in range(options.rounds):
        for window in options.windows:
            for target in targets:
                progress(f"round {number + 1} of {options.rounds}, window {window}, {target.name}")
                figures = measure(target, packets_for(window, options.packets), window, core)
                seen.setdefault((target.name, window), []).append(figures)
    progress("")
    rows = []
    for (name, window), rounds in seen.items():
        row: Figures = {"target": name, "window": window}
        row["packets_per_second"] = round(median(rounds, "packets_per_second"))
        row["best"] = max(one["packets_per_second"] for one in rounds)
        for figure in ("p50_ms", "p99_ms", "cpu_us", "rss_mb"):
            row[figure] = round(median(rounds, figure), 3)
        if base is not None and (base, window) in seen:
            # Of the same round: what slows the machine down slows both.
            row["ratio"] = round(
                statistics.median(
                    one["packets_per_second"] / other["packets_per_second"]
                    for one, other in zip(rounds, seen[base, window], strict=True)
                ),
                2,
            )
        rows.append(row)
    return rows


def show(rows: list[Figures], base: str | None, console: Console) -> None:
    """The table of `compare`; CPU is that of the connector's process for each packet."""
    table = Table("connector")
    for name in ("window", "packets/s", "best", "p50 ms", "p99 ms", "CPU us", "RSS MB"):
        table.add_column(name, justify="right")
    if base:
        table.add_column(f"x {base}", justify="right")
    previous = None
    for row in sorted(rows, key=lambda row: row["window"]):
        if previous not in (None, row["window"]):
            table.add_section()
        previous = row["window"]
        cells = [
            row["target"], str(row["window"]), f"{row['packets_per_second']:,}",
            f"{row['best']:,}", f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}",
            f"{row['cpu_us']:.1f}", f"{row['rss_mb']:.0f}",
        ]  # fmt: skip
        if base:
            cells.append("" if row["target"] == base else f"{row['ratio']:.2f}")
        table.add_row(*cells)
    console.print(table)


# --- the questions


def against(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """How does this tree compare with a commit, in turns?"""
    own, other = cores()
    before = turns.commit_of(ROOT, options.compare)
    seen: dict[tuple[str, int, str], list[Figures]] = {}
    with turns.tree_of(ROOT, before) as tree:
        compile_core(console, tree)
        versions = (("before", tree), ("after", ROOT))
        for number in range(options.rounds):
            place = folder / f"round-{number}"
            for ledger in options.ledgers:
                with contextlib.ExitStack() as stack:
                    targets = [
                        stack.enter_context(ours(ledger, own, place / name, tree=at))
                        for name, at in turns.in_turn(versions, number)
                    ]
                    names = [name for name, _ in turns.in_turn(versions, number)]
                    for target in targets:
                        measure(target, WARM_UP_PACKETS, 100, other)
                    for window in options.windows:
                        for name, target in zip(names, targets, strict=True):
                            progress(f"round {number + 1} of {options.rounds}, {ledger}, {window}")
                            packets = packets_for(window, options.packets)
                            figures = measure(target, packets, window, other)
                            seen.setdefault((ledger, window, name), []).append(figures)
            shutil.rmtree(place)
    progress("")
    rows = turns.rows_of(seen)
    table = Table("ledger", "window")
    for name in ("packets/s", "ratio", "p50 ms", "ratio", "CPU us", "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row["target"], str(row["window"])]
        for figure, form in (("packets_per_second", ",.0f"), ("p50_ms", ".3f"), ("cpu_us", ".1f")):
            one = row.get(figure)
            if one is None:
                cells += ["", ""]
                continue
            cells.append(f"{one['before']:{form}} -> {one['after']:{form}}")
            cells.append(str(turns.Ratio(one["ratio"], one["error"])))
        table.add_row(*cells)
    console.print(f"{before[:12]} -> {commit()}; ± is the standard error of the ratio's mean")
    console.print(table)
    return {"compare": {"before": before, "after": commit(), "rows": rows}}


@contextlib.contextmanager
def line(ledger: str, count: int, core: set[int], folder: Path) -> Iterator[list[Ours]]:
    """So many connectors one behind the other: alice's packets come in at the first, bob is at the last."""
    run = os.urandom(6).hex()
    nodes: list[Ours] = []
    with contextlib.ExitStack() as stack:
        # The last one first: the one before it dials it.
        for number in range(count, 0, -1):
            peers: list[dict[str, Any]] = []
            if number > 1:
                peers.append(
                    {
                        "id": f"n{number - 1}-{run}",
                        "secret": f"link-{number - 1}",
                        "creditLimit": int(JS_CREDIT),
                    }
                )
            if nodes:
                peers.append(
                    {"id": f"n{number + 1}-{run}", "secret": f"link-{number}", "url": nodes[0].load_options[1],
                     "routes": ["g.hub"]}
                )  # fmt: skip
            settings = {"NODE_ID": f"n{number}-{run}", "ILP_ADDRESS": f"g.n{number}"}
            if nodes:
                settings["BTP_PEER_BOB_ROUTES"] = "g.nowhere"
            one = ours(
                ledger, core, folder, name=f"{ledger} {number} of {count}",
                config={"peers": peers}, settings=settings,
            )  # fmt: skip
            nodes.insert(0, stack.enter_context(one))
        for node in nodes[:-1]:
            wait_until(
                lambda node=node: get(f"{node.url}/health")["peersConnected"] > 0,  # type: ignore[misc]
                node.process, folder / node.name.replace(" ", "-") / "log",
            )  # fmt: skip
        nodes[0].load_options += ["--receiver-url", nodes[-1].load_options[1]]
        yield nodes


def hops(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """What does each further connector on a packet's way cost?"""
    own, other = cores()
    rows: list[Figures] = []
    table = Table("ledger", "connectors")
    for name in ("window", "packets/s", "p50 ms", "CPU us of all", "of each"):
        table.add_column(name, justify="right")
    for ledger in options.ledgers:
        for count in sorted({1, 2, options.hops}):
            with line(ledger, count, own, folder) as nodes:
                measure(nodes[0], WARM_UP_PACKETS, 100, other)
                for window in options.windows:
                    progress(f"{ledger}, {count} in a line, window {window}")
                    packets = packets_for(window, options.packets)
                    rounds = []
                    for _ in range(options.rounds):
                        before_s = [cpu_seconds(node.process.pid) or 0.0 for node in nodes]
                        figures = measure(nodes[0], packets, window, other)
                        after_s = [cpu_seconds(node.process.pid) or 0.0 for node in nodes]
                        figures["all_us"] = (sum(after_s) - sum(before_s)) / packets * 1e6
                        rounds.append(figures)
                    row: Figures = {"target": ledger, "connectors": count, "window": window}
                    row["packets_per_second"] = round(median(rounds, "packets_per_second"))
                    row["p50_ms"] = round(median(rounds, "p50_ms"), 3)
                    row["cpu_us"] = round(median(rounds, "all_us"), 1)
                    rows.append(row)
                    table.add_row(
                        ledger, str(count), str(window), f"{row['packets_per_second']:,}",
                        f"{row['p50_ms']:.2f}", f"{row['cpu_us']:.1f}",
                        f"{row['cpu_us'] / count:.1f}",
                    )  # fmt: skip
    progress("")
    console.print(table)
    return {"hops": rows}


def throughput(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """How fast, and how much faster than the JS connector?"""
    own, other = cores()
    modules = js_modules() if options.js is not False else None
    if options.js and modules is None:
        raise SystemExit("--js needs node, npm and an npm registry")
    if modules is None:
        console.print("without the JS connector: " + (
            "--no-js" if options.js is False else "no node, no npm or no registry"
        ))  # fmt: skip
    with contextlib.ExitStack() as stack:
        targets: list[Target] = []
        if modules is not None:
            targets.append(stack.enter_context(js(modules, own, folder)))
        targets += [stack.enter_context(ours(one, own, folder)) for one in options.ledgers]
        rows = compare(targets, options, other, "js" if modules else None)
    show(rows, "js" if modules else None, console)
    return {"throughput": rows}


def million(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """Is memory flat over a million packets?"""
    own, other = cores()
    table = Table("ledger", "packets", "RSS MB", "packets/s", "CPU us")
    for column in table.columns[1:]:
        column.justify = "right"
    result: Figures = {}
    parts = 10
    for ledger in options.ledgers:
        with ours(ledger, own, folder) as target:
            sizes: Figures = {"0": rss_mb(target.process.pid)}
            table.add_row(ledger, "0", f"{sizes['0']}")
            for part in range(1, parts + 1):
                progress(f"{ledger}: part {part} of {parts}")
                figures = measure(target, options.million_packets // parts, 100, other)
                sent = options.million_packets * part // parts
                sizes[str(sent)] = figures["rss_mb"]
                table.add_row(
                    "", f"{sent:,}", f"{figures['rss_mb']}", f"{figures['packets_per_second']:,}",
                    f"{figures.get('cpu_us', '')}",
                )  # fmt: skip
            table.add_section()
            progress("")
            half = sizes[str(options.million_packets // 2)]
            grown = round(sizes[str(options.million_packets)] - half, 1)
            result[ledger] = {"rss_mb": sizes, "grown_in_second_half_mb": grown}
    console.print(table)
    for ledger, figures in result.items():
        console.print(f"{ledger}: {figures['grown_in_second_half_mb']:+} MB in the second half")
    return {"million": result}


@contextlib.contextmanager
def company(load_options: Sequence[str], core: set[int]) -> Iterator[Figures]:
    """Clients that are there meanwhile; yields what they say when they are."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "load.py"), *load_options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=pinned(core),  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    said: Figures = {}
    try:
        said.update(json.loads(process.stdout.readline() or "{}"))
        yield said
    finally:
        process.stdin.close()
        said.update(json.loads(process.stdout.readline() or "{}"))
        process.wait()


def audience(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """What do events and viewers cost, and one that does not read?"""
    if not options.viewers:
        return {"audience": {"stalled": stalled(options, folder, console)}}
    own, other = cores()
    ledger = options.ledgers[0]
    nothing = {"EXPLORER_MAX_EVENTS": "0", "TELEMETRY_PACKETS_PER_SECOND": "0"}
    base = "no events"
    result: Figures = {}
    with contextlib.ExitStack() as stack:

        def start(name: str, settings: Mapping[str, str] = MappingProxyType({})) -> Ours:
            return stack.enter_context(ours(ledger, own, folder, name=name, settings=settings))

        targets = [start(base, nothing), start("0 viewers")]
        watched = []
        for count in options.viewers:
            targets.append(start(f"{count} viewers"))
            many = ["--url", targets[-1].feed, "--viewers", str(count)]
            watched.append(stack.enter_context(company(many, other)))
        rows = compare(targets, options, other, base)
        show(rows, base, console)
        result["rows"] = rows
    for count, said in zip(options.viewers, watched, strict=True):
        console.print(
            f"{count} viewers got {said['frames']:,} frames with {said['octets']:,} octets; "
            f"{said['lost']} were let go of"
        )
        result[f"{count} viewers"] = said
    if options.stalled_seconds:
        result["stalled"] = stalled(options, folder, console)
    return {"audience": result}


def stalled(options: argparse.Namespace, folder: Path, console: Console) -> list[Figures]:
    """Rate and memory without viewers, and with one that does not read, for so long."""
    own, other = cores()
    table = Table("target")
    for column in ("seconds", "packets/s", "RSS MB", "CPU us"):
        table.add_column(column, justify="right")
    rows = []
    with contextlib.ExitStack() as stack:
        plain, deaf = (
            stack.enter_context(ours(options.ledgers[0], own, folder, name=name))
            for name in ("no viewer", "a stalled viewer")
        )
        for target in (plain, deaf):
            measure(target, WARM_UP_PACKETS, 100, other)
        stack.enter_context(company(["--url", deaf.feed, "--stalled"], other))
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < options.stalled_seconds or not rows:
            progress(f"a stalled viewer: {passed_s:.0f} of {options.stalled_seconds} s")
            for target in (plain, deaf):
                figures = measure(target, options.packets, 100, other)
                rows.append({"target": target.name, "after_seconds": round(passed_s), **figures})
        dropped = metric(deaf, "telemetry_viewers_dropped_total")
    progress("")
    step = max(1, len(rows) // 20)
    for one, other_one in list(zip(rows[::2], rows[1::2], strict=True))[::step]:
        for row in (one, other_one):
            table.add_row(
                row["target"], f"{row['after_seconds']}", f"{row['packets_per_second']:,}",
                f"{row['rss_mb']}", f"{row.get('cpu_us', '')}",
            )  # fmt: skip
    console.print(table)
    for target in (plain, deaf):
        own_rows = [row for row in rows if row["target"] == target.name]
        console.print(
            f"{target.name}: median {median(own_rows, 'packets_per_second'):,.0f} packets/s, "
            f"memory {own_rows[0]['rss_mb']} MB at first, {own_rows[-1]['rss_mb']} MB at the end"
        )
    console.print(f"{dropped:.0f} viewer was let go of for not reading")
    return rows


def crowd(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """What do idle peers and many routes cost?"""
    own, other = cores()
    ledger = options.ledgers[0]
    config = {
        "peers": [
            {"id": f"idle-{number}", "secret": f"idle-{number}"}
            for number in range(options.idle_peers)
        ],
        "routes": [
            {"prefix": f"g.route{number}.far.away", "nextHop": "bob"}
            for number in range(options.routes)
        ],
    }
    plain_name, crowd_name = f"{ledger} plain", f"{ledger} crowded"
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(ours(ledger, own, folder, name=plain_name))
        crowded = stack.enter_context(ours(ledger, own, folder, name=crowd_name, config=config))
        started = {"start_seconds": round(crowded.start_seconds, 2),
                   "plain_start_seconds": round(plain.start_seconds, 2),
                   "rss_mb_before_peers": rss_mb(crowded.process.pid)}  # fmt: skip
        if options.idle_peers:
            many = ["--idle", str(options.idle_peers)]
            ready = stack.enter_context(company([*crowded.load_options, *many], other))
            started["connect_seconds"] = ready.get("seconds")
            started["peers_connected"] = get(f"{crowded.url}/health")["peersConnected"]
        started["rss_mb"] = rss_mb(crowded.process.pid)
        rows = compare([plain, crowded], options, other, plain_name)
        started["peers_connected_at_end"] = get(f"{crowded.url}/health")["peersConnected"]
    console.print(
        f"{options.idle_peers:,} idle peers and {options.routes:,} routes: ready after "
        f"{started['start_seconds']} s (plain {started['plain_start_seconds']} s), "
        f"{started.get('peers_connected', 0)} idle peers connected in "
        f"{started.get('connect_seconds', 0)} s, RSS {started['rss_mb']} MB"
    )
    show(rows, plain_name, console)
    return {"crowd": started | {"rows": rows}}


def learned(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """What do routes cost that were learned from a neighbour (CCP)?

    The neighbour is `teller.py` on the core of the load; once it has told all it is idle. The time is that from its
    first update until all routes are in the table.
    """
    own, other = cores()
    ledger, count = options.ledgers[0], options.learned_routes
    plain_name, taught_name = f"{ledger} plain", f"{ledger} taught"
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(ours(ledger, own, folder, name=plain_name))
        peers = {"peers": [{"id": "teller", "secret": "st"}]}
        taught = stack.enter_context(ours(ledger, own, folder, name=taught_name, config=peers))
        log = folder / "teller-log"
        at = taught.load_options[taught.load_options.index("--url") + 1]
        command = [sys.executable, str(HERE / "teller.py"), at, "teller", "st", str(count)]
        teller = stack.enter_context(child(command, dict(os.environ), other, log, ROOT))
        wait_until(
            lambda: (
                get(f"{taught.url}/api/status")["routes"] >= count
                and b"told_seconds" in log.read_bytes()
            ),
            teller,
            log,
        )
        figures: Figures = {
            "learned": get(f"{taught.url}/api/status")["routes"],
            "learn_seconds": round(_said(log)["told_seconds"], 2),
            "rss_mb": rss_mb(taught.process.pid),
            "plain_rss_mb": rss_mb(plain.process.pid),
        }
        rows = compare([plain, taught], options, other, plain_name)
        figures["at_end"] = get(f"{taught.url}/api/status")["routes"]
    console.print(
        f"{count:,} routes learned in {figures['learn_seconds']} s, RSS {figures['rss_mb']} MB "
        f"(plain {figures['plain_rss_mb']} MB); {figures['at_end']:,} routes at the end"
    )
    show(rows, plain_name, console)
    return {"learned": figures | {"rows": rows}}


def _said(log: Path) -> Any:
    """The line of JSON in the output of a child."""
    return json.loads(next(one for one in log.read_text().splitlines() if one.startswith("{")))


# --- command line


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="scripts/bench",
    )  # fmt: skip
    parser.add_argument("--packets", type=int, default=20_000, help="in a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the median is shown")
    parser.add_argument(
        "--windows", type=lambda text: [int(one) for one in _list(text)], default=[1, 100, 500],
        help="packets in flight; default 1,100,500",
    )  # fmt: skip
    parser.add_argument(
        "--ledgers", type=_list, default=["memory", "embedded"],
        help="of memory, embedded, tigerbeetle (with TIGERBEETLE_CLUSTER_ID and _REPLICAS set)",
    )  # fmt: skip
    parser.add_argument(
        "--js", action=argparse.BooleanOptionalAction, default=None,
        help="with the JS connector; default: where node and npm are there",
    )  # fmt: skip
    parser.add_argument(
        "--compare", metavar="COMMIT",
        help="measure this tree and that commit in turns, each built as it is installed; prints the "
        "ratios within the rounds and their standard error",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--record", action="store_true",
        help="write the figures into benchmarks/history/, with machine and commit",
    )  # fmt: skip
    parser.add_argument("--data-dir", type=Path, help="where ledgers are written; default build/")
    parser.add_argument("--one-core", action="store_true", help="pin the connector to one core")
    parser.add_argument(
        "--interpreted", action="store_true", help="the sources, nothing of them compiled"
    )
    parser.add_argument(
        "--packet-ids", action="store_true",
        help="the sender gives its packets ids, the next hop knows none: fulfilments are kept",
    )  # fmt: skip
    parser.add_argument(
        "--hops",
        type=int,
        default=0,
        help="connectors in a line, up to so many; beside one and two",
    )
    parser.add_argument("--million", action="store_true", help="memory over a million packets")
    parser.add_argument("--million-packets", type=int, default=1_000_000, help=argparse.SUPPRESS)
    parser.add_argument("--idle-peers", type=int, default=0, help="connected, doing nothing")
    parser.add_argument("--routes", type=int, default=0, help="static routes beside the one used")
    parser.add_argument(
        "--learned-routes", type=int, default=0, help="announced by a neighbour; beside none"
    )
    parser.add_argument(
        "--viewers", type=lambda text: [int(one) for one in _list(text)], default=[],
        help="of the page, such as 1,5; beside none, and no events at all",
    )  # fmt: skip
    parser.add_argument(
        "--stalled-seconds", type=int, default=0, help="how long a viewer does not read"
    )
    options = parser.parse_args()
    unknown = set(options.ledgers) - {"memory", "embedded", "tigerbeetle"}
    if unknown or not options.ledgers:
        parser.error(f"--ledgers: unknown {', '.join(sorted(unknown)) or 'nothing'}")
    if min(options.packets, options.rounds, *options.windows) < 1:
        parser.error("--packets, --rounds and --windows must be above zero")
    return options


def compiled(tree: Path) -> Path:
    """Where the package of a tree is, with its core compiled."""
    return tree / "build" / "compiled"


def compile_core(console: Console, tree: Path = ROOT) -> None:
    """Have the package of a tree with its core compiled, unless that cannot be, or is not wanted."""
    global INTERPRETED  # noqa: PLW0603 - settled once, before anything is measured
    why = "--interpreted" if INTERPRETED else hatch_compile.missing()
    if why is not None:
        if tree is ROOT:
            console.print(f"[yellow]interpreted: {why}[/yellow]")
        INTERPRETED = True
        return
    with console.status("compiling the core ..."):
        program = [sys.executable, str(tree / "hatch_compile.py"), "package", str(compiled(tree))]
        done = subprocess.run(program, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the core could not be compiled:\n{(done.stdout + done.stderr)[-4000:]}")


def main() -> int:
    """Measure what was asked for."""
    options = parse()
    console = Console(quiet=options.json, highlight=False)
    if not console.is_terminal:
        console.width = 120
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    # Not in /tmp, which may be memory: a ledger there would be durable for nothing.
    place = options.data_dir or ROOT / "build"
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        compile_core(console)
        about = machine(folder)
        console.print(", ".join(f"{name} {value}" for name, value in about.items()))
        own, other = cores()
        if own == other:
            console.print(
                "[yellow]one core only, or none to pin: load and connector share[/yellow]"
            )
        if options.compare:
            result = against(options, folder, console)
        elif options.hops:
            result = hops(options, folder, console)
        elif options.million:
            result = million(options, folder, console)
        elif options.viewers or options.stalled_seconds:
            result = audience(options, folder, console)
        elif options.learned_routes:
            result = learned(options, folder, console)
        elif options.idle_peers or options.routes:
            result = crowd(options, folder, console)
        else:
            result = throughput(options, folder, console)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said = json.dumps({"machine": about, **result}, indent=2)
    if options.json:
        print(said)
    if options.record:
        HISTORY.mkdir(exist_ok=True)
        record = HISTORY / f"{time.strftime('%Y-%m-%d', time.gmtime())}-{about['commit']}.json"
        record.write_text(said + "\n", "utf-8")
        console.print(f"written: {record.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
