"""Commands that need no running node: a demonstration, an audit of the books, compose files."""

import functools
import json
import re
import secrets
import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from connector.base.clock import SystemClock
from connector.base.errors import ConfigError
from connector.cli import bounds
from connector.cli.common import (
    AsJson,
    cancelled_by_signal,
    fail,
    faults_named,
    key_of,
    quiet_log,
    run_loop,
    stopped_by_signal,
    url_of,
)
from connector.cli.process import EXIT_INTERRUPTED
from connector.cli.progress import told_of_progress
from connector.tools import compose as compose_module
from connector.tools.terminal import console, plain


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
        with cancelled_by_signal():
            return await demo_module.run_demo(
                peers=peers,
                packets=packets,
                amount=amount,
                keep=keep,
                data_dir=data_dir,
                console=console(quiet=as_json),
                clock=SystemClock(),
                log=quiet_log(),
                stopped_by_signal=stopped_by_signal,
            )

    with faults_named():
        result = run_loop(work())
    if as_json:
        print(demo_module.as_json(result))
    if result.report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(0 if result.ok else 1)


def audit(
    nodes: Annotated[
        str, typer.Option(help="Other nodes in the same ledger, comma-separated: checked too.")
    ] = "",
    as_json: AsJson = False,
    url: Annotated[
        Optional[str],
        typer.Option(
            help="HTTP address of a running node, which then checks its own books.", callback=url_of
        ),
    ] = None,
    key: Annotated[
        Optional[str],
        typer.Option(
            help="Its ADMIN_API_KEY, with --url.", envvar="ADMIN_API_KEY", callback=key_of
        ),
    ] = None,
) -> None:
    """Check the invariants of the books, of this environment or of a running node; exit 0 only when all hold.

    Without --url it reads the ledger itself, not a node: run it with the node's configuration, where its
    DATA_DIR is. With --url the running node does it, in a process of its own, and packets go on.
    """
    if url is not None:
        if nodes:
            raise typer.BadParameter("goes not with --url: ask each node", param_hint="--nodes")
        _show_report(_audited_by_node(url, key), as_json=as_json)
        return
    from connector.settings.load import load
    from connector.tools import audit as audit_module

    with faults_named():
        settings = load().settings
        if settings.ledger == "memory":
            raise ConfigError(["LEDGER=memory keeps no books that could be audited"])
        others = [name for name in nodes.split(",") if name]
        with told_of_progress("requests of the journal replayed", SystemClock()) as tell:
            report = run_loop(audit_module.audit(settings, SystemClock(), others, tell))
    _show_report(report.as_json(), as_json=as_json)


def _audited_by_node(url: str, key: str | None) -> dict[str, Any]:
    """Have a node check its books, and wait for its report."""
    from connector.tools.client import NodeClient

    with faults_named():
        client = NodeClient(url, key)
        seen = client.admin("POST", "/admin/audit", None)
        with told_of_progress("requests of the journal replayed", SystemClock()) as tell:
            while seen["state"] == "running":
                tell(seen["done"], seen["of"])
                time.sleep(bounds.AUDIT_LOOK_SECONDS)
                seen = client.admin("GET", "/admin/audit", None)
    if seen["report"] is None:
        raise fail(f"the node could not check its books: {plain(seen['error'])}", 1)
    report: dict[str, Any] = seen["report"]
    return report


def _show_report(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        screen = console()
        for one in report["checks"]:
            mark = "[green]ok  [/green]" if one["ok"] else "[red]FAIL[/red]"
            said = f"  [dim]{plain(one['details'])}[/dim]" if one["details"] else ""
            screen.print(f"{mark} {plain(one['name'])}{said}")
        if int(report["pending"]):
            screen.print(f"{report['pending']} held by packets in flight")
        screen.print(f"audit: {'ok' if report['ok'] else 'FAILED'}")
    raise typer.Exit(0 if report["ok"] else 1)


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
        Optional[str],
        typer.Option(
            help="First three numbers of the network (default: Docker chooses; with TigerBeetle, "
            f"which has a fixed address, {compose_module.SUBNET_TIGERBEETLE})."
        ),
    ] = None,
    output: Annotated[
        Optional[Path], typer.Option(help="File to write (default: standard output).")
    ] = None,
) -> None:
    """Write a compose file: a line, a ring, a mesh or a hub of connectors, with secrets of its own."""
    if ledger not in ("embedded", "tigerbeetle"):
        raise typer.BadParameter("must be embedded or tigerbeetle", param_hint="--ledger")
    number = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
    if subnet is not None and not re.fullmatch(rf"{number}\.{number}\.{number}", subnet):
        raise typer.BadParameter("must be three numbers such as 172.30.6", param_hint="--subnet")
    try:
        compose_module.check_count(topology, nodes)
        plan = compose_module.Plan(
            topology=topology,
            names=compose_module.default_names(topology, nodes),
            secret=functools.cache(lambda _: secrets.token_urlsafe(24)),
            image=image,
            project=project,
            tigerbeetle=ledger == "tigerbeetle",
            subnet=subnet,
            btp_port=btp_port,
            http_port=http_port,
        )
    except ValueError as error:
        raise fail(str(error), 2) from None
    command = f"docker compose -f {output or 'FILE'}"
    header = f"{compose_module.describe(plan, command)}\nThe secrets are this file's own: keep it to yourself."
    text = compose_module.compose_file(plan, header)
    if output is None:
        print(text, end="")
        return
    try:
        # It has secrets: readable by its owner only, and it never overwrites another file.
        output.touch(mode=0o600, exist_ok=False)
        output.write_text(text, "utf-8")
    except OSError as error:
        raise fail(f"cannot write {output}: {error.strerror}", 1) from None
    print(f"{output}: {nodes} nodes; start them with: docker compose -f {output} up -d --build")
