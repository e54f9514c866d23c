"""The command line. `python -m connector --help` lists the commands."""

import os
import shutil
import sys
from typing import Annotated, Final

import typer

from connector.cli import (
    conformance,
    init,
    log,
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
)  # fmt: skip
from connector.cli.common import name_of
from connector.cli.usage import Commands
from connector.version import __version__

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
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        run.run()


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
app.command()(settle.settle)
app.command()(offline.audit)
app.command("check-config")(run.check_config)
app.command()(offline.compose)
app.command()(run.healthcheck)
app.command()(simulate.simulate)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
