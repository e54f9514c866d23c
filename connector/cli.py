"""The commands. `python -m connector --help` lists them.

Exit codes: 0 done, 1 it did not work, 2 wrong configuration or usage.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

import httpx
import structlog
import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from connector import audit as audit_module
from connector import demo as demo_module
from connector.clock import SystemClock
from connector.config import describe, is_dialable, load
from connector.daemon import serve
from connector.errors import ConfigError, ConnectorError, OperatorError
from connector.ilp import address
from connector.sender import Order, Report, Sender
from connector.version import __version__

app = typer.Typer(
    help="An Interledger (ILPv4) connector with the accounting built in.",
    no_args_is_help=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Url = Annotated[str, typer.Option(help="HTTP address of the node.", envvar="CONNECTOR_URL")]
Key = Annotated[Optional[str], typer.Option(help="ADMIN_API_KEY of the node.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show it again every second.")]

# The packet path frees what it makes by reference counts; scanning for cycles all the time only
# makes pauses. Numbers of allocations, in the terms of `gc.set_threshold`.
_GC_THRESHOLDS = (100_000, 20, 50)


def main() -> None:
    """Run the command line."""
    if sys.flags.optimize:
        sys.exit("connector: refusing to run with assertions off (python -O / PYTHONOPTIMIZE)")
    app(prog_name="connector")


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        import uvloop  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _quiet_log() -> Any:
    logging.basicConfig(level=logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return structlog.get_logger()


def _fail(message: str, code: int) -> "typer.Exit":
    print(f"connector: {message}", file=sys.stderr)
    return typer.Exit(code)


@contextlib.contextmanager
def _faults_named() -> Iterator[None]:
    """Turn the package's errors into a message and an exit code."""
    try:
        yield
    except ConfigError as error:
        print("connector: the configuration cannot be used:", file=sys.stderr)
        for fault in error.faults:
            print(f"  - {fault}", file=sys.stderr)
        raise typer.Exit(2) from None
    except OperatorError as error:
        raise _fail(str(error), 2) from None
    except ConnectorError as error:
        raise _fail(str(error), 1) from None


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@app.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        run()


@app.command()
def run() -> None:
    """Run the daemon, configured from the environment (default)."""

    async def work() -> None:
        await serve(settings, _stop_event())

    with _faults_named():
        # Settings can be large and stay: scanning them for cycles doubles the time to read them.
        gc.disable()
        settings = load().settings
        gc.enable()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        # The ledger's thread needs the interpreter only for moments: let it have them soon.
        sys.setswitchinterval(0.0005)
        _run(work())


@app.command()
def demo(
    peers: Annotated[int, typer.Option(min=2, max=20, help="Connectors in the line.")] = 5,
    packets: Annotated[int, typer.Option(min=1, max=10_000_000, help="Packets to send.")] = 1000,
    amount: Annotated[int, typer.Option(min=0, max=10**15, help="Amount of each.")] = 1000,
    keep: Annotated[bool, typer.Option(help="Stay up until Ctrl-C.")] = False,
    data_dir: Annotated[
        Optional[Path], typer.Option(help="Keep the books here (default: a temporary folder).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Five connectors in a line, packets through all of them, balances, audit."""

    async def work() -> demo_module.DemoResult:
        return await demo_module.run_demo(
            peers=peers,
            packets=packets,
            amount=amount,
            keep=keep,
            data_dir=data_dir,
            console=Console(quiet=as_json),
            clock=SystemClock(),
            log=_quiet_log(),
            stopped=_stop_event() if keep else asyncio.Event(),
        )

    with _faults_named():
        result = _run(work())
    if as_json:
        print(demo_module.as_json(result))
    raise typer.Exit(0 if result.ok else 1)


def _hex(text: str | None) -> bytes | None:
    if text is None:
        return None
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text):
        raise typer.BadParameter("must be an even number of hex digits", param_hint="--secret")
    return bytes.fromhex(text)


@app.command()
def send(
    url: Annotated[str, typer.Option(help="BTP listener, ws://host:port or wss://...")],
    auth: Annotated[str, typer.Option(metavar="USER:TOKEN", help="Log-in; USER may be empty.")],
    destination: Annotated[str, typer.Option(help="ILP address to send to.")],
    amount: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Amount of each.")] = 1000,
    count: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many packets.")] = 1,
    window: Annotated[int, typer.Option(min=1, max=5000, help="How many in flight.")] = 1,
    expiry: Annotated[float, typer.Option(min=0.001, max=3600, help="Seconds to expiry.")] = 30.0,
    data: Annotated[str, typer.Option(help="Data for the receiver.")] = "",
    secret: Annotated[
        Optional[str], typer.Option(help="RECEIVER_SECRET of the receiver, hex; else ping.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send Prepares as a BTP client; exit 0 only when all were fulfilled."""
    if ":" not in auth:
        raise typer.BadParameter("must be USER:TOKEN", param_hint="--auth")
    if not is_dialable(url):
        raise typer.BadParameter("must be ws://host:port or wss://host:port", param_hint="--url")
    if not address.is_address(destination):
        raise typer.BadParameter("is not an ILP address", param_hint="--destination")
    if len(data.encode()) > 32_000:
        raise typer.BadParameter("at most 32000 octets", param_hint="--data")
    user, _, token = auth.partition(":")
    order = Order(
        destination=destination,
        amount=amount,
        count=count,
        window=window,
        expiry_s=expiry,
        data=data.encode(),
        secret=_hex(secret),
    )

    async def work(on_progress: Callable[[Report], None]) -> Report:
        sender = Sender(url=url, username=user, token=token, clock=SystemClock(), log=_quiet_log())
        return await sender.send(order, on_progress)

    console = Console(quiet=as_json)
    with (
        _faults_named(),
        _grouped_faults(),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            disable=as_json or count == 1,
        ) as progress,
    ):
        bar = progress.add_task(f"Packets to {destination}", total=count)
        report: Report = _run(work(lambda now: progress.update(bar, completed=now.answered)))
        progress.update(bar, completed=report.answered)
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        _print_report(report, order, console)
    raise typer.Exit(0 if report.fulfilled == count else 1)


@contextlib.contextmanager
def _grouped_faults() -> Iterator[None]:
    """A task group wraps what went wrong in it: unwrap the one error that matters."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours = group.subgroup(ConnectorError)
        if ours is None:
            raise
        error: BaseException = ours
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def _print_report(report: Report, order: Order, console: Console) -> None:
    console.print(
        f"{report.fulfilled} of {order.count} fulfilled in {report.seconds:.2f} s: "
        f"{report.answered / report.seconds if report.seconds else 0:,.0f} packets/s, "
        f"p50 {report.percentile(0.5):.2f} ms, p99 {report.percentile(0.99):.2f} ms"
    )
    for code, count in report.rejected.items():
        console.print(f"{count} x {code}: {report.messages.get(code, '')}", highlight=False)


def _get(url: str, path: str, key: str | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx.get(url.rstrip("/") + path, headers=headers, timeout=5, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _fail(f"{url} does not answer: {error}; is the node running?", 1) from None
    if response.status_code == 401:
        raise _fail(f"{url} asks for a key: pass --key ADMIN_API_KEY", 1)
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or (response.status_code >= 500 and path.startswith("/api")):
        raise _fail(f"{url}{path} answered HTTP {response.status_code}: not a connector?", 1)
    return body


def _table_command(
    path: str, make: Callable[[dict[str, Any]], Table], url: str, key: str | None,
    as_json: bool, watch: bool,
) -> None:  # fmt: skip
    if as_json:
        print(json.dumps(_get(url, path, key), indent=2))
        return
    console = Console()
    if not watch:
        console.print(make(_get(url, path, key)))
        return
    with Live(console=console, auto_refresh=False) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            live.update(make(_get(url, path, key)), refresh=True)
            SystemSleep.one_second()


class SystemSleep:
    """Waiting in a command that has no event loop."""

    @staticmethod
    def one_second() -> None:
        """Wait a second; Ctrl-C ends it."""
        import time  # noqa: PLC0415 - for this command only

        time.sleep(1)


DEFAULT_URL = "http://127.0.0.1:8080"


@app.command()
def status(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """The node at a glance."""

    def make(body: dict[str, Any]) -> Table:
        table = Table("what", "value", title=body["nodeId"], title_justify="left")
        for name in ("status", "ilpAddress", "version", "uptimeSeconds", "peersConnected",
                     "peersTotal", "routes", "packetsInFlight", "packetsFulfilled",
                     "packetsRejected"):  # fmt: skip
            table.add_row(name, str(body[name]))
        accounting = body["accounting"]
        table.add_row("accounting", f"{accounting['state']} ({accounting['backend']})")
        return table

    _table_command("/api/status", make, url, key, as_json, watch)


@app.command()
def peers(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """Peers and their links."""

    def make(body: dict[str, Any]) -> Table:
        table = Table("peer", "relation", "asset", "link", "packets in", "packets out", "in flight")
        for item in body["items"]:
            link = item["direction"] if item["connected"] else f"down {item['lastError']}".strip()
            table.add_row(
                item["peerId"],
                item["relation"],
                f"{item['assetCode']}/{item['assetScale']}",
                f"[green]{link}[/green]" if item["connected"] else f"[red]{link}[/red]",
                f"{item['fulfilledIn']} ok, {item['rejectedIn']} rejected",
                f"{item['fulfilledOut']} ok, {item['rejectedOut']} rejected",
                str(item["inFlight"]),
            )
        return table

    _table_command("/api/peers", make, url, key, as_json, watch)


@app.command()
def routes(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """The routing table (the first 1000 routes)."""

    def make(body: dict[str, Any]) -> Table:
        table = Table("prefix", "next hop", "source")
        for item in body["items"]:
            table.add_row(
                item["prefix"] or "(default)", item["nextHop"] or "(this node)", item["source"]
            )
        return table

    _table_command("/api/routes?limit=1000", make, url, key, as_json, watch)


@app.command()
def balances(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """What every peer owes us and we owe it, in plain words."""

    def make(body: dict[str, Any]) -> Table:
        table = Table("peer", "asset", "balance", "may still send", "pending in", "pending out",
                      "credit limit")  # fmt: skip
        for item in body["items"]:
            net = int(item["netBalance"])
            words = (
                "even" if net == 0
                else f"[green]owes us {net}[/green]" if net > 0
                else f"[magenta]we owe {-net}[/magenta]"
            )  # fmt: skip
            table.add_row(
                item["peerId"], f"{item['assetCode']}/{item['assetScale']}", words,
                item["availableCredit"], item["pendingDebits"], item["pendingCredits"],
                item["creditLimit"],
            )  # fmt: skip
        return table

    _table_command("/api/accounts", make, url, key, as_json, watch)


@app.command()
def audit(
    nodes: Annotated[
        str, typer.Option(help="Other nodes in the same ledger, comma-separated: checked too.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check the invariants of the books against the configured ledger."""
    with _faults_named():
        settings = load().settings
        if settings.ledger == "memory":
            raise ConfigError(["LEDGER=memory keeps no books that could be audited"])
        others = [name for name in nodes.split(",") if name]
        report = _run(audit_module.audit(settings, SystemClock(), others))
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        console = Console()
        for name, holds, details in report.checks:
            mark = "[green]ok  [/green]" if holds else "[red]FAIL[/red]"
            console.print(f"{mark} {name}" + (f"  [dim]{details}[/dim]" if details else ""))
        if report.pending:
            console.print(f"{report.pending} held by packets in flight")
        console.print(f"audit: {'ok' if report.ok else 'FAILED'}")
    raise typer.Exit(0 if report.ok else 1)


@app.command("check-config")
def check_config(as_json: AsJson = False) -> None:
    """Validate the configuration and print it, secrets redacted, with the source of each value."""
    with _faults_named():
        rows = describe(load())
    if as_json:
        print(json.dumps([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows],
                         indent=2))  # fmt: skip
        return
    table = Table("setting", "value", "source")
    for name, value, source in rows:
        table.add_row(name, value, source, style="dim" if source == "default" else None)
    Console().print(table)


@app.command()
def healthcheck() -> None:
    """Exit 0 when the local daemon is ready; for Docker's HEALTHCHECK."""
    with _faults_named():
        settings = load().settings
    host = settings.http_host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - reaching it, not binding
    where = f"[{host}]" if ":" in host else host
    body = _get(f"http://{where}:{settings.http_port}", "/health/ready", None)
    if body.get("status") not in ("ready", "degraded"):
        raise _fail(str(body.get("reason") or body.get("error") or body), 1)
    print(body["status"])


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
