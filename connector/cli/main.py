"""The commands. `python -m connector --help` lists them.

Exit codes: 0 done, 1 it did not work, 2 wrong configuration or usage.
"""

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import re
import resource
import secrets
import signal
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any, Optional
from urllib.parse import quote, urlencode

import structlog
import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from connector.base import limits
from connector.base.clock import SystemClock
from connector.base.errors import ConfigError, ConnectorError, OperatorError
from connector.base.urls import is_dialable
from connector.cli import bounds
from connector.cli.simulate import simulate
from connector.ilp import address
from connector.tools import compose as compose_module
from connector.tools.sender import Order, Report, Sender
from connector.tools.terminal import console, plain, table
from connector.version import __version__

# What only some commands need is imported by them: the daemon with its web framework, the settings
# and the HTTP client take half a second to load, longer than most commands have to do.

app = typer.Typer(
    help="An Interledger (ILPv4) connector with the accounting built in.",
    no_args_is_help=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Url = Annotated[str, typer.Option(help="HTTP address of the node.", envvar="CONNECTOR_URL")]
Key = Annotated[
    Optional[str], typer.Option(help="ADMIN_API_KEY of the node.", envvar="ADMIN_API_KEY")
]
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
        import uvloop  # there is none on Windows
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
    from connector.node.connector import serve
    from connector.settings.load import load

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
        sys.setswitchinterval(0.0001)
        _raise_open_files_limit()
        _run(work())


def _raise_open_files_limit() -> None:
    """A link is an open file: let there be as many as the system allows, not the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
    from connector.tools import demo as demo_module

    async def work() -> demo_module.DemoResult:
        return await demo_module.run_demo(
            peers=peers,
            packets=packets,
            amount=amount,
            keep=keep,
            data_dir=data_dir,
            console=console(quiet=as_json),
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
    auth: Annotated[
        str,
        typer.Option(
            metavar="USER:TOKEN", help="Log-in; USER may be empty.", envvar="CONNECTOR_AUTH"
        ),
    ],
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

    screen = console(quiet=as_json)
    with (
        _faults_named(),
        _grouped_faults(),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=screen,
            disable=as_json or count == 1,
        ) as progress,
    ):
        bar = progress.add_task(f"Packets to {destination}", total=count)
        report: Report = _run(work(lambda now: progress.update(bar, completed=now.answered)))
        progress.update(bar, completed=report.answered)
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        _print_report(report, order, screen)
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


def _print_report(report: Report, order: Order, screen: Console) -> None:
    screen.print(
        f"{report.fulfilled} of {order.count} fulfilled in {report.seconds:.2f} s: "
        f"{report.answered / report.seconds if report.seconds else 0:,.0f} packets/s, "
        f"p50 {report.percentile(0.5):.2f} ms, p99 {report.percentile(0.99):.2f} ms"
    )
    for code, count in report.rejected.items():
        message = plain(report.messages.get(code, ""))
        screen.print(f"{count} x {plain(code)}: {message}", highlight=False)


def _get(url: str, path: str, key: str | None, *, verify: bool = True) -> dict[str, Any]:
    from connector.tools.client import NodeClient

    with _faults_named():
        return NodeClient(url, key, verify=verify).get(path)


def _table_command(
    path: str, make: Callable[[dict[str, Any]], Table], url: str, key: str | None,
    as_json: bool, watch: bool,
) -> None:  # fmt: skip
    if as_json:
        print(json.dumps(_get(url, path, key), indent=2))
        return
    screen = console()
    if not watch:
        screen.print(make(_get(url, path, key)))
        return
    with Live(console=screen, auto_refresh=False) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            live.update(make(_get(url, path, key)), refresh=True)
            SystemSleep.one_second()


class SystemSleep:
    """Waiting in a command that has no event loop."""

    @staticmethod
    def one_second() -> None:
        """Wait a second; Ctrl-C ends it."""
        SystemSleep.seconds(1)

    @staticmethod
    def seconds(seconds: float) -> None:
        """Wait so many seconds; Ctrl-C ends it."""
        import time

        time.sleep(seconds)


DEFAULT_URL = "http://127.0.0.1:8080"


@app.command()
def status(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """The node at a glance."""

    def make(body: dict[str, Any]) -> Table:
        rows = table("what", "value", title=body["nodeId"])
        for name in ("status", "ilpAddress", "version", "uptimeSeconds", "peersConnected",
                     "peersTotal", "routes", "packetsInFlight", "packetsFulfilled",
                     "packetsRejected"):  # fmt: skip
            rows.add_row(name, str(body[name]))
        accounting = body["accounting"]
        rows.add_row("accounting", f"{accounting['state']} ({accounting['backend']})")
        return rows

    _table_command("/api/status", make, url, key, as_json, watch)


@app.command()
def peers(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """Peers and their links."""

    def make(body: dict[str, Any]) -> Table:
        rows = table("peer", "relation", "asset", "link", "packets in", "packets out", "in flight")
        for item in body["items"]:
            link = (
                item["direction"]
                if item["connected"]
                else f"down {plain(item['lastError'])}".strip()
            )
            rows.add_row(
                item["peerId"],
                item["relation"],
                f"{item['assetCode']}/{item['assetScale']}",
                f"[green]{link}[/green]" if item["connected"] else f"[red]{link}[/red]",
                f"{item['fulfilledIn']} ok, {item['rejectedIn']} rejected",
                f"{item['fulfilledOut']} ok, {item['rejectedOut']} rejected",
                str(item["inFlight"]),
            )
        return rows

    _table_command("/api/peers", make, url, key, as_json, watch)


@app.command()
def routes(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """The routing table (the first 1000 routes)."""

    def make(body: dict[str, Any]) -> Table:
        rows = table("prefix", "next hop", "source")
        for item in body["items"]:
            rows.add_row(
                item["prefix"] or "(default)", item["nextHop"] or "(this node)", item["source"]
            )
        return rows

    _table_command("/api/routes?limit=1000", make, url, key, as_json, watch)


def _standing(item: dict[str, Any]) -> tuple[str, ...]:
    """How we stand with a peer, in plain words."""
    net, granted = int(item["netBalance"]), int(item.get("granted", item["creditLimit"]))
    if net == 0:
        words = "even"
    elif net > 0:
        words = f"[green]owes us {net}[/green]"
    else:
        words = f"[magenta]we owe {-net}[/magenta]"
    payable = item.get("maxPayable")
    room = "any amount"
    if payable is not None:
        room = str(max(0, int(payable) + net - int(item["pendingCredits"])))
    credit = f"{granted} granted of limit {item['creditLimit']}"
    return (
        words,
        item["availableCredit"],
        room,
        item["pendingDebits"],
        item["pendingCredits"],
        credit,
    )


@app.command()
def balances(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """What every peer owes us and we owe it, in plain words."""

    def make(body: dict[str, Any]) -> Table:
        rows = table(
            "peer", "asset", "balance", "may still send", "we may still owe it",
            "pending from it", "pending to it", "credit",
        )  # fmt: skip
        for item in body["items"]:
            rows.add_row(
                item["peerId"] + (" (removed)" if item.get("removed") else ""),
                f"{item['assetCode']}/{item['assetScale']}",
                *_standing(item),
            )
        return rows

    _table_command("/api/accounts", make, url, key, as_json, watch)


_ENDS = ("PACKET_FULFILLED", "PACKET_REJECTED")


def _packet_row(event: dict[str, Any]) -> tuple[str, ...]:
    """Cells of a packet that has ended."""
    rejected = event["type"] == "PACKET_REJECTED"
    said = (
        f"[red]{event['code']}[/red] {plain(event['message'])}" if rejected else "[green]ok[/green]"
    )
    hop = event["nextHop"]
    return (
        event["timestamp"][11:23],
        event["packetId"][:20],
        event["peerId"] or "(this node)",
        "" if hop is None else hop or "(this node)",
        plain(event["destination"]),
        event["amount"],
        f"{event['durationMs']:.1f} ms",
        said,
    )


@app.command()
def packets(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print packets as they end, until Ctrl-C.")
    ] = False,
    count: Annotated[
        int, typer.Option(min=1, max=limits.HTTP_PAGE_ITEMS_MAX, help="How many, newest first.")
    ] = 20,
    peer: Annotated[Optional[str], typer.Option(help="Only from or to this peer.")] = None,
) -> None:  # fmt: skip
    """The last packets and how they ended."""
    if follow:
        with _faults_named(), contextlib.suppress(KeyboardInterrupt):
            _follow_packets(url, key, as_json, peer)
        return

    def make(body: dict[str, Any]) -> Table:
        rows = table("time (UTC)", "packet", "from", "next hop", "destination", "amount", "took",
                      "result")  # fmt: skip
        for event in body["items"]:
            rows.add_row(*_packet_row(event))
        return rows

    query = {"type": ",".join(_ENDS), "limit": count, **({} if peer is None else {"peer": peer})}
    _table_command(f"/api/events?{urlencode(query)}", make, url, key, as_json, watch)


def _follow_packets(url: str, key: str | None, as_json: bool, peer: str | None) -> None:
    from connector.tools.follow import follow

    screen = console()
    for event in follow(url, key, SystemSleep.seconds):
        if event["type"] not in _ENDS:
            continue
        if peer is not None and peer not in (event["peerId"], event["nextHop"]):
            continue
        if as_json:
            print(json.dumps(event), flush=True)
        else:
            screen.print("  ".join(_packet_row(event)), highlight=False, soft_wrap=True)


@app.command()
def settle(
    peer: Annotated[
        Optional[str], typer.Argument(help="Whose settlements; without it, those of all.")
    ] = None,
    incoming: Annotated[
        Optional[int], typer.Option(min=1, metavar="AMOUNT", help="Record: the peer has paid us.")
    ] = None,
    outgoing: Annotated[
        Optional[int], typer.Option(min=1, metavar="AMOUNT", help="Record: we have paid the peer.")
    ] = None,
    pay: Annotated[
        bool,
        typer.Option("--pay", help="Have the peer paid now, all that we owe it or --amount."),
    ] = False,
    amount: Annotated[Optional[int], typer.Option(min=1, help="For --pay.")] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Say that the settlement in progress has been paid.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take the settlement in progress back, unpaid.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel although an engine was asked, and may pay.")
    ] = False,
    scale: Annotated[
        Optional[int],
        typer.Option(min=0, max=255, help="Of the recorded amount; else the asset's."),
    ] = None,
    settlement_id: Annotated[
        str, typer.Option("--id", help="Which settlement; else the one in progress.")
    ] = "",
    idempotency_key: Annotated[
        Optional[str], typer.Option(help="The same key again does nothing; else a new one.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List settlements; record one, have one made, confirm or cancel the one in progress.

    Amounts are in the smallest unit of the peer's asset. Changing something needs ADMIN_API_KEY.
    """
    asked = {
        "--incoming": incoming is not None, "--outgoing": outgoing is not None, "--pay": pay,
        "--confirm": confirm, "--cancel": cancel,
    }  # fmt: skip
    chosen = [name for name, given in asked.items() if given]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other")
    if chosen and peer is None:
        raise typer.BadParameter("needs a peer", param_hint=chosen[0])
    path = "/admin/settlements" if peer is None else f"/admin/accounts/{quote(peer)}/settlements"
    if not chosen:
        body = _admin("GET", url, path, key)
        print(json.dumps(body, indent=2)) if as_json else console().print(_settlements(body))
        return
    if confirm or cancel:
        named = settlement_id or _in_progress(_admin("GET", url, path, key), peer or "")
        step = "confirm" if confirm else "cancel"
        done = _admin(
            "POST", url, f"{path}/{quote(named)}/{step}", key,
            {"force": force} if cancel else None,
        )  # fmt: skip
    else:
        order: dict[str, Any] = {"direction": "incoming" if incoming else "outgoing"}
        wanted = amount if pay else incoming or outgoing
        if pay:
            order["execute"] = True
        if wanted is not None:
            order["amount"] = str(wanted)
        if scale is not None:
            order["scale"] = scale
        # Kept over all attempts of this command, so that one whose answer was lost is safe.
        done = _admin("POST", url, path, key, order, idempotency_key or uuid.uuid4().hex)
    if as_json:
        print(json.dumps(done, indent=2))
    else:
        print(
            f"{done['direction']} settlement of {done['amount']} with {done['peerId']}: "
            f"{done['phase']} ({done['settlementId']})"
        )


def _in_progress(body: dict[str, Any], peer: str) -> str:
    for one in body["items"]:
        if one["state"] == "IN_PROGRESS":
            return str(one["settlementId"])
    raise _fail(f"no settlement with {peer} is in progress", 1)


def _settlements(body: dict[str, Any]) -> Table:
    rows = table("settlement", "peer", "direction", "amount", "asset", "phase", "paid by", "note")
    for one in body["items"]:
        rows.add_row(
            one["settlementId"], one["peerId"], one["direction"], one["amount"],
            f"{one['assetCode']}/{one['assetScale']}", one["phase"],
            "" if one["payer"] == "nobody" else one["payer"], plain(one["error"]),
        )  # fmt: skip
    return rows


def _admin(
    method: str, url: str, path: str, key: str | None, body: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    from connector.tools.client import NodeClient

    with _faults_named():
        return NodeClient(url, key).admin(method, path, body, idempotency_key)


@app.command()
def audit(
    nodes: Annotated[
        str, typer.Option(help="Other nodes in the same ledger, comma-separated: checked too.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check the invariants of the books against the configured ledger."""
    from connector.settings.load import load
    from connector.tools import audit as audit_module

    with _faults_named():
        settings = load().settings
        if settings.ledger == "memory":
            raise ConfigError(["LEDGER=memory keeps no books that could be audited"])
        others = [name for name in nodes.split(",") if name]
        report = _run(audit_module.audit(settings, SystemClock(), others))
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        screen = console()
        for name, holds, details in report.checks:
            mark = "[green]ok  [/green]" if holds else "[red]FAIL[/red]"
            said = f"  [dim]{plain(details)}[/dim]" if details else ""
            screen.print(f"{mark} {name}{said}")
        if report.pending:
            screen.print(f"{report.pending} held by packets in flight")
        screen.print(f"audit: {'ok' if report.ok else 'FAILED'}")
    raise typer.Exit(0 if report.ok else 1)


@app.command("check-config")
def check_config(as_json: AsJson = False) -> None:
    """Validate the configuration and print it, secrets redacted, with the source of each value."""
    from connector.settings.describe import describe
    from connector.settings.load import load
    from connector.settings.overlay import with_changes

    with _faults_named():
        rows = describe(with_changes(load()))
    if as_json:
        print(json.dumps([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows],
                         indent=2))  # fmt: skip
        return
    shown = table("setting", "value", "source")
    for name, value, source in rows:
        shown.add_row(name, plain(value), source, style="dim" if source == "default" else None)
    console().print(shown)


@app.command()
def compose(
    topology: Annotated[compose_module.Topology, typer.Option(help="How the nodes are linked.")],
    nodes: Annotated[int, typer.Option(help="How many nodes.")] = 3,
    ledger: Annotated[
        str, typer.Option(help="`embedded`: each its own; `tigerbeetle`: one server for all.")
    ] = "embedded",
    btp_port: Annotated[int, typer.Option(help="Of the first node, on the host.")] = 3000,
    http_port: Annotated[int, typer.Option(help="Of the first node, on the host.")] = 8080,
    image: Annotated[str, typer.Option(help="Image of the connector.")] = "ilp-connector:local",
    project: Annotated[
        str,
        typer.Option(help="Folder of this project, seen from the file: the image is built there."),
    ] = ".",
    subnet: Annotated[
        str, typer.Option(help="First three numbers of the network, for TigerBeetle's address.")
    ] = "172.30.6",
    output: Annotated[
        Optional[Path], typer.Option(help="File to write (default: standard output).")
    ] = None,
) -> None:
    """Write a compose file: a line, a ring, a mesh or a hub of connectors, with secrets of its own."""
    if ledger not in ("embedded", "tigerbeetle"):
        raise typer.BadParameter("must be embedded or tigerbeetle", param_hint="--ledger")
    number = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
    if not re.fullmatch(rf"{number}\.{number}\.{number}", subnet):
        raise typer.BadParameter("must be three numbers such as 172.30.6", param_hint="--subnet")
    try:
        plan = compose_module.Plan(
            topology=topology,
            # A wrong number is Plan's to report, without making so many names first.
            names=compose_module.default_names(topology, min(nodes, limits.COMPOSE_NODES_MAX + 1)),
            secret=functools.cache(lambda _: secrets.token_urlsafe(24)),
            image=image,
            project=project,
            tigerbeetle=ledger == "tigerbeetle",
            subnet=subnet,
            btp_port=btp_port,
            http_port=http_port,
        )
    except ValueError as error:
        raise _fail(str(error), 2) from None
    command = f"docker compose -f {output or 'FILE'}"
    header = f"{compose_module.describe(plan, command)}\nThe secrets are this file's own: keep it to yourself."
    text = compose_module.compose_file(plan, header)
    if output is None:
        print(text, end="")
        return
    try:
        # It holds secrets: for its owner only, and no other file is lost for it.
        output.touch(mode=0o600, exist_ok=False)
        output.write_text(text, "utf-8")
    except OSError as error:
        raise _fail(f"cannot write {output}: {error.strerror}", 1) from None
    print(f"{output}: {nodes} nodes; start them with: docker compose -f {output} up -d --build")


@app.command()
def healthcheck() -> None:
    """Exit 0 when the local daemon is ready; for Docker's HEALTHCHECK."""
    from connector.settings.load import load

    with _faults_named():
        settings = load().settings
    host = settings.http_host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - reaching it, not binding
    where = f"[{host}]" if ":" in host else host
    scheme = "http" if settings.http_tls_cert is None else "https"
    # The certificate is for the name that others use; this is our own machine.
    body = _get(f"{scheme}://{where}:{settings.http_port}", "/health/ready", None, verify=False)
    if body.get("status") not in ("ready", "degraded"):
        raise _fail(str(body.get("reason") or body.get("error") or body), 1)
    print(body["status"])


app.command()(simulate)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
