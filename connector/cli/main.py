"""The command line. `python -m connector --help` lists the commands."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from connector.cli import offline, run, send, settle, show, simulate
from connector.version import __version__

app = typer.Typer(
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
    app(prog_name=name_of(sys.argv[0]))


def name_of(program: str) -> str:
    """The command as it was called, so that what help shows works as it stands."""
    called = Path(program).name
    return "python -m connector" if called == "__main__.py" else called


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
app.command()(offline.demo)
app.command()(send.send)
app.command()(show.status)
app.command()(show.peers)
app.command()(show.routes)
app.command()(show.balances)
app.command()(show.packets)
app.command()(settle.settle)
app.command()(offline.audit)
app.command("check-config")(run.check_config)
app.command()(offline.compose)
app.command()(run.healthcheck)
app.command()(simulate.simulate)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
