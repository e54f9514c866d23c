"""The demo: a line of connectors, each its own process with its own books; packets through all.

    sender -> peer1 -> peer2 -> ... -> peerN      addresses g.peer1 .. g.peerN

It shows that packets arrive, that the books of every node balance, and that the books of neighbours
match.

Long because what is started, what is checked and what is shown belong to one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from connector.base import limits
from connector.base.clock import Clock
from connector.base.disk import SystemDisk
from connector.base.errors import (
    ConnectorError,
    EnvironmentFault,
    HttpError,
    LedgerUnavailableError,
    OperatorError,
)
from connector.base.http import HttpClient
from connector.base.log import Log
from connector.ledger.select import make_ledger
from connector.settings.load import load
from connector.settings.model import Settings
from connector.tools import bounds
from connector.tools.audit import AuditReport, audit, mirror_faults
from connector.tools.sender import Order, Report, Sender
from connector.tools.terminal import figures, plain, python_command, table

SENDER_ID = "sender"
_SAID = "connector: "
"""Begins the one line with which a command says why it ends."""


@dataclass(slots=True)
class DemoNode:
    """One connector of the line."""

    node_id: str
    btp_port: int
    http_port: int
    data_dir: Path
    environment: dict[str, str]
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its HTTP surface."""
        return f"http://127.0.0.1:{self.http_port}"


@dataclass(slots=True)
class DemoResult:
    """The result of the demo."""

    report: Report
    audits: list[AuditReport]
    mirror_faults: list[str]
    """Empty too where the sending was interrupted: nothing was compared then."""
    nodes: list[DemoNode] = field(default_factory=list)
    packets: int = 0

    @property
    def ok(self) -> bool:
        """Every packet fulfilled, every audit fine, every pair of neighbours mirrored."""
        return (
            self.report.fulfilled == self.packets
            and not self.report.interrupted
            and all(one.ok for one in self.audits)
            and not self.mirror_faults
        )


def free_ports(count: int) -> list[int]:
    """Ports that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def chain(
    count: int, data_dir: Path, inherited: Mapping[str, str], sender_secret: str
) -> list[DemoNode]:
    """The nodes of a line and their configuration: each dials the one before it."""
    ports = free_ports(3 * count)
    pay_ports = ports[2 * count :]
    del ports[2 * count :]
    admin_key = secrets.token_urlsafe(24)
    names = [f"peer{number}" for number in range(1, count + 1)]
    tokens = [secrets.token_urlsafe(24) for _ in range(count - 1)]
    common = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("BTP_") and name.removesuffix("_FILE") not in _OWN_SETTINGS
    }
    nodes = []
    for index, name in enumerate(names):
        environment = {
            **common,
            "NODE_ID": name,
            "ILP_ADDRESS": f"g.{name}",
            "BTP_SERVER_PORT": str(ports[2 * index]),
            "HTTP_PORT": str(ports[2 * index + 1]),
            "ADMIN_API_KEY": admin_key,
            "PAY_PORT": str(pay_ports[index]),
            "DATA_DIR": str(data_dir / name),
            "LOG_FORMAT": "json",
            "CREDIT_LIMIT": str(10**18),
            "MESSAGE_WINDOW_MS": "1000",
        }
        routes = []
        if index == 0:
            environment["BTP_PEER_SENDER_SECRET"] = sender_secret
        else:
            before = names[index - 1]
            environment[f"BTP_PEER_{before.upper()}_SECRET"] = tokens[index - 1]
            environment[f"BTP_PEER_{before.upper()}_URL"] = f"ws://127.0.0.1:{ports[2 * index - 2]}"
            routes += [f"g.{other}={before}" for other in names[:index]]
        if index + 1 < count:
            after = names[index + 1]
            environment[f"BTP_PEER_{after.upper()}_SECRET"] = tokens[index]
            routes += [f"g.{other}={after}" for other in names[index + 1 :]]
        environment["ROUTES"] = ",".join(routes)
        environment["EXPLORER_NODES"] = ",".join(f"http://127.0.0.1:{port}" for port in ports[1::2])
        nodes.append(
            DemoNode(name, ports[2 * index], ports[2 * index + 1], data_dir / name, environment)
        )
    return nodes


_OWN_SETTINGS = frozenset(
    (
        "ADMIN_API_KEY", "CONFIG", "CREDIT_LIMIT", "DATA_DIR", "EXPLORER_NODES",
        "EXPLORER_NODES_KEY", "EXPLORER_NODE_KEYS", "FEE_BASIS_POINTS", "HTTP_HOST", "HTTP_PORT", "ILP_ADDRESS", "ILP_HTTP_HOST", "ILP_HTTP_PORT", "LEDGER", "LOCAL_DELIVERY_URL", "LOG_FORMAT", "MAX_HOLD_MS",
        "MESSAGE_WINDOW_MS", "METRICS_KEY", "NODE_ID", "PAY_DATA_URL", "PAY_HOST", "PAY_PORT", "PAY_QUIET_SECONDS", "PAY_SECRET", "PAY_SECRET_FORMER", "PAY_URL", "PAY_WEBHOOK_SECRET", "PAY_WEBHOOK_URL", "RATES", "READ_API_KEY", "RECEIVER_SECRET", "ROUTES",
        "SETTLEMENT_ENGINE_URL", "SETTLEMENT_TOKEN", "TRUSTED_PROXIES", "WALLETS",
    )
)  # fmt: skip


async def start(node: DemoNode) -> None:
    """Start the process of a node; its log goes to `connector.log` in its data folder.

    Raises:
        OperatorError: the folder cannot be used.
    """
    try:
        node.data_dir.mkdir(parents=True, exist_ok=True)
        log = (node.data_dir / "connector.log").open("ab")
    except OSError as error:
        raise OperatorError(f"{node.data_dir} cannot be used: {error.strerror}") from None
    with log:
        node.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "connector",
            "run",
            "--until-eof",
            env=node.environment,
            stdout=log,
            stderr=log,
            # Nothing is written to it: it ends when this process ends, also by SIGKILL.
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )


def _client() -> HttpClient:
    return HttpClient(
        seconds_max=2, answer_bytes_max=bounds.NODE_ANSWER_BYTES_MAX, connections_max=10
    )


async def wait_ready(node: DemoNode, peers: int, clock: Clock) -> None:
    """Return when a node is ready and connected to `peers` peers.

    Raises:
        ConnectorError: it ended, or is not ready in time; with the end of its log.
    """
    assert node.process is not None
    deadline_s = clock.monotonic_s() + bounds.DEMO_START_SECONDS_MAX
    async with _client() as client:
        while clock.monotonic_s() < deadline_s:
            if node.process.returncode is not None:
                break
            with contextlib.suppress(HttpError):
                health = (await client.ask("GET", f"{node.url}/health")).json()
                if health["status"] == "healthy" and health["peersConnected"] >= peers:
                    return
            await asyncio.sleep(0.05)
    log = (node.data_dir / "connector.log").read_text("utf-8", "replace").splitlines()
    if log and log[-1].startswith(_SAID):
        raise ConnectorError(f"{node.node_id} did not start: {log[-1].removeprefix(_SAID)}")
    raise ConnectorError("\n".join([f"{node.node_id} did not start; its log ends:", *log[-5:]]))


async def stop(nodes: list[DemoNode]) -> None:
    """Terminate all processes; kill those that do not stop in time."""
    running = [node.process for node in nodes if node.process is not None]
    for process in running:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
    for process in running:
        try:
            async with asyncio.timeout(limits.STOP_IN_FLIGHT_SECONDS_MAX + 5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _check_cluster(settings: Settings, clock: Clock) -> None:
    """Ask the cluster, if there is one: nodes without it would only be seen not to become ready."""
    if settings.tigerbeetle_replicas is None:
        return
    ledger = make_ledger(settings, clock, SystemDisk(), read_only=True)
    try:
        await ledger.open()
    except LedgerUnavailableError as error:
        raise EnvironmentFault(
            f"TIGERBEETLE_REPLICAS: {error}; is TigerBeetle running? (`scripts/tigerbeetle start`; "
            "without these variables the demo has embedded ledgers)"
        ) from None
    finally:
        await ledger.close()


@contextlib.asynccontextmanager
async def line(
    count: int, data_dir: Path, inherited: Mapping[str, str], sender_secret: str, clock: Clock
) -> AsyncIterator[list[DemoNode]]:
    """A running line of connectors; all are stopped at the end.

    Raises:
        ConnectorError: the cluster of TIGERBEETLE_REPLICAS does not serve, or a node did not start.
    """
    nodes = chain(count, data_dir, inherited, sender_secret)
    await _check_cluster(load(nodes[0].environment).settings, clock)
    try:
        for node in nodes:
            await start(node)
        for index, node in enumerate(nodes):
            links = (index > 0) + (index + 1 < count)
            await wait_ready(node, links, clock)
        yield nodes
    finally:
        await stop(nodes)


async def at_rest(nodes: list[DemoNode], clock: Clock) -> None:
    """Wait, for a bounded time, until no node holds money for a packet."""
    deadline_s = clock.monotonic_s() + bounds.DEMO_REST_SECONDS_MAX
    async with _client() as client:
        for node in nodes:
            while clock.monotonic_s() < deadline_s:
                items = (await client.ask("GET", f"{node.url}/api/accounts")).json()["items"]
                if not any(
                    int(item["pendingDebits"]) or int(item["pendingCredits"]) for item in items
                ):
                    break
                await asyncio.sleep(0.05)


async def run_demo(
    *,
    peers: int,
    packets: int,
    amount: int,
    keep: bool,
    data_dir: Path | None,
    console: Console,
    clock: Clock,
    log: Log,
    stopped_by_signal: Callable[[], contextlib.AbstractContextManager[asyncio.Event]],
) -> DemoResult:
    """The whole demo; prints as it goes unless `console` is quiet.

    `stopped_by_signal` gives an event that Ctrl-C sets: sending ends there, and so does `keep`.

    Raises:
        ConnectorError: a node did not start, or the sender could not connect.
        OperatorError: `data_dir` cannot be used.
    """
    folder = _folder(data_dir)
    sender_secret = secrets.token_urlsafe(24)
    try:
        console.print(f"Starting {peers} connectors in a line, books in [bold]{folder}[/bold] ...")
        async with line(peers, folder, os.environ, sender_secret, clock) as nodes:
            last = nodes[-1].environment["ILP_ADDRESS"]
            order = Order(destination=last, amount=amount, count=packets, window=50)
            sender = Sender(
                url=f"ws://127.0.0.1:{nodes[0].btp_port}",
                username=SENDER_ID,
                token=sender_secret,
                clock=clock,
                log=log,
            )
            with (
                stopped_by_signal() as stopped,
                Progress(
                    TextColumn("[progress.description]{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    console=console,
                    disable=console.quiet,
                ) as progress,
            ):
                bar = progress.add_task(f"Packets to {last}", total=packets)
                report = await sender.send(
                    order, lambda now: progress.update(bar, completed=now.answered), stopped
                )
                progress.update(bar, completed=report.answered)
            if report.interrupted:
                result = DemoResult(report, [], [], nodes, packets)
                _show_report(result, console)
                return result
            await at_rest(nodes, clock)
            audits = [await audit(load(node.environment).settings, clock) for node in nodes]
            neighbours = [(one.node_id, other.node_id) for one, other in pairwise(nodes)]
            faults = mirror_faults(audits, neighbours)
            result = DemoResult(report, audits, faults, nodes, packets)
            show(result, console)
            if keep:
                with stopped_by_signal() as stopped:
                    _show_urls(nodes, sender_secret, console)
                    await stopped.wait()
            return result
    finally:
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(data_dir: Path | None) -> Path:
    """Where the books are kept: made if it is not there."""
    try:
        if data_dir is None:
            return Path(tempfile.mkdtemp(prefix="ilp-demo-"))
        data_dir.mkdir(parents=True, exist_ok=True)
        used = any(data_dir.glob("peer*/ledger.db"))
    except OSError as error:
        if data_dir is None:
            raise EnvironmentFault(f"no temporary folder can be made: {error.strerror}") from None
        raise OperatorError(f"--data-dir {data_dir} cannot be used: {error.strerror}") from None
    if used:
        raise ConnectorError(
            f"{data_dir} holds the books of an earlier demo, under other ports and secrets; "
            "choose another --data-dir, or remove it"
        )
    return data_dir


def _show_report(result: DemoResult, console: Console) -> None:
    report = result.report
    figures(
        console,
        f"[bold]{report.fulfilled} of {result.packets} fulfilled[/bold] through",
        f"{len(result.nodes)} connectors in {report.seconds:.2f} s:",
        f"{report.answered / report.seconds if report.seconds else 0:,.0f} packets/s,",
        f"p50 {report.percentile(0.5):.1f} ms, p99 {report.percentile(0.99):.1f} ms",
    )
    for code, count in report.rejected.items():
        console.print(f"[red]{count} x {plain(code)}: {plain(report.messages.get(code, ''))}[/red]")
    if report.interruption:
        console.print(report.interruption)


def show(result: DemoResult, console: Console) -> None:
    """The tables at the end."""
    _show_report(result, console)
    balances = table(
        "node", "with", "asset", "debited", "credited", "net", "in words",
        right=("debited", "credited", "net"), spare=("in words", "asset"),
        title="Balances of all links",
    )  # fmt: skip
    for one in result.audits:
        for peer in one.peers:
            net = int(peer["netBalance"])
            words = "even" if not net else "owes us" if net > 0 else "we owe"
            colour = "green" if net > 0 else "magenta" if net < 0 else "dim"
            balances.add_row(
                one.node_id,
                peer["peerId"],
                peer["asset"],
                peer["debitBalance"],
                peer["creditBalance"],
                f"[{colour}]{net:+d}[/{colour}]",
                words,
            )
    console.print(balances)
    for one in result.audits:
        for name, holds, details in one.checks:
            if not holds:
                console.print(f"[red]{one.node_id}: {name}: {plain(details)}[/red]")
    for fault in result.mirror_faults:
        console.print(f"[red]not mirrored: {plain(fault)}[/red]")
    if all(one.ok for one in result.audits) and not result.mirror_faults:
        checks = sum(len(one.checks) for one in result.audits)
        console.print(
            f"audit: ok ({checks} checks on {len(result.audits)} nodes, "
            f"{len(result.audits) - 1} pairs of neighbours mirror each other)"
        )
    else:
        console.print("audit: FAILED")


def _show_urls(nodes: list[DemoNode], sender_secret: str, console: Console) -> None:
    console.print("\nThe line stays up until Ctrl-C.")
    for node in nodes:
        console.print(
            f"  {node.node_id}  page {node.url}/  BTP ws://127.0.0.1:{node.btp_port}",
            highlight=False,
        )
    last = nodes[-1].environment["ILP_ADDRESS"]
    console.print(
        f"\nSend more:\n  {python_command()} -m connector send --url ws://127.0.0.1:{nodes[0].btp_port} "
        f"--auth {SENDER_ID}:{sender_secret} --destination {last}",
        highlight=False,
        soft_wrap=True,
    )
    end = nodes[-1].environment
    first = nodes[0]
    console.print(
        f"\nPay a wallet at the other end:\n  {python_command()} -m connector pay "
        f"http://127.0.0.1:{end['PAY_PORT']}/pay/{end['NODE_ID']} --amount 5 --url {first.url} "
        f"--key {first.environment['ADMIN_API_KEY']}",
        highlight=False,
        soft_wrap=True,
    )


def as_json(result: DemoResult) -> str:
    """For `--json`."""
    body: dict[str, Any] = {
        "ok": result.ok,
        "packets": result.packets,
        **result.report.as_json(),
        "audits": [one.as_json() for one in result.audits],
        "mirrorFaults": result.mirror_faults,
    }
    return json.dumps(body)
