"""The command line. `python -m connector --help` lists the commands."""

import os
import shutil
import sys
from typing import Annotated, Final, Optional

import typer

from connector.cli import (
    completion,
    conformance,
    init,
    log,
    nodes,
    offline,
    pay,
    peers,
    probe,
    received,
    run,
    send,
    settle,
    show,
    simulate,
    sinks,
)  # fmt: skip
from connector.cli.common import ChosenNode, fail, faults_named, name_of
from connector.cli.usage import Commands
from connector.version import __version__

ASK_NO_NODE: Final = frozenset(
    (
        "check-config",
        "completion",
        "compose",
        "conformance",
        "demo",
        "init",
        "nodes",
        "run",
        "send",
        "simulate",
    )
)
"""Commands for which `--node` means nothing."""
BOX_COLUMNS_MIN: Final = 100
"""Where there are fewer, help has no boxes: they would cut options and split ranges."""

app = typer.Typer(
    cls=Commands,
    help="An Interledger (ILPv4) connector with the accounting built in.",
    no_args_is_help=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    if sys.flags.optimize:
        sys.exit("connector: refusing to run with assertions off (python -O / PYTHONOPTIMIZE)")
    if shutil.get_terminal_size().columns < BOX_COLUMNS_MIN:
        app.rich_markup_mode = None
    app(prog_name=name_of(sys.argv[0]))


@app.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    node: Annotated[
        Optional[str],
        typer.Option(
            "--node", metavar="NAME", envvar="CONNECTOR_NODE",
            help="The node that commands ask, by its name (`nodes`), instead of --url and --key.",
        ),
    ] = None,
) -> None:  # fmt: skip
    if version:
        print(__version__)
        raise typer.Exit
    if node:
        _choose(context, node)
    if context.invoked_subcommand is None:
        run.run()


def _choose(context: typer.Context, name: str) -> None:
    """Let commands ask the node of this name."""
    command = context.invoked_subcommand or "run"
    is_typed = getattr(context.get_parameter_source("node"), "name", "") == "COMMANDLINE"
    if command in ASK_NO_NODE:
        if is_typed:
            raise typer.BadParameter(f"`{command}` asks no node", param_hint="--node")
        return
    if not is_typed and os.environ.get("CONNECTOR_URL"):
        raise fail("CONNECTOR_NODE and CONNECTOR_URL are both set: keep one", 2)
    from connector.tools.nodes import Nodes

    with faults_named():
        found = Nodes.of(os.environ).named(name)
        context.obj = ChosenNode(found.name, found.url, found.key(), is_typed)


# In the order of `--help`.
app.command()(run.run)
app.command()(init.init)
app.command()(offline.demo)
app.command()(send.send)
app.command()(pay.pay)
app.command()(probe.ping)
app.command()(probe.trace)
app.command()(probe.explain)
app.command()(conformance.conformance)
app.add_typer(nodes.nodes_app, name="nodes")
app.command()(show.status)
app.add_typer(peers.peers_app, name="peers")
app.command()(peers.limits)
app.add_typer(peers.routes_app, name="routes")
app.command()(show.balances)
app.command()(show.wallets)
app.command()(received.received)
app.command()(received.payments)
app.command()(show.packets)
app.command()(log.log)
app.command()(sinks.sinks)
app.command()(settle.settle)
app.command()(offline.audit)
app.command("check-config")(run.check_config)
app.command()(offline.compose)
app.command()(run.healthcheck)
app.command()(simulate.simulate)
app.command()(completion.completion)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
