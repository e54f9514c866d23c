"""`send`: Prepares as a BTP client."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from connector.base.clock import SystemClock
from connector.base.errors import ConnectorError
from connector.base.urls import is_dialable
from connector.cli.common import (
    AsJson,
    faults_named,
    finite,
    quiet_log,
    run_loop,
    stopped_by_signal,
)
from connector.cli.process import EXIT_INTERRUPTED
from connector.ilp import address
from connector.tools.sender import Order, Report, Sender
from connector.tools.terminal import console, figures, plain


def _hex(text: str | None) -> bytes | None:
    if text is None:
        return None
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text):
        raise typer.BadParameter("must be an even number of hex digits", param_hint="--secret")
    return bytes.fromhex(text)


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
    expiry: Annotated[
        float,
        typer.Option(min=0.001, max=3600, help="Seconds to expiry.", callback=finite),
    ] = 30.0,
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
        sender = Sender(url=url, username=user, token=token, clock=SystemClock(), log=quiet_log())
        with stopped_by_signal() as stopped:
            return await sender.send(order, on_progress, stopped)

    screen = console(quiet=as_json)
    with (
        faults_named(),
        grouped_faults(),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=screen,
            disable=as_json or count == 1,
        ) as progress,
    ):
        bar = progress.add_task(f"Packets to {destination}", total=count)
        report: Report = run_loop(work(lambda now: progress.update(bar, completed=now.answered)))
        progress.update(bar, completed=report.answered)
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        _print_report(report, order, screen)
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(0 if report.fulfilled == count else 1)


@contextlib.contextmanager
def grouped_faults() -> Iterator[None]:
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
    figures(
        screen,
        f"{report.fulfilled} of {order.count} fulfilled in {report.seconds:.2f} s:",
        f"{report.answered / report.seconds if report.seconds else 0:,.0f} packets/s,",
        f"p50 {report.percentile(0.5):.2f} ms,",
        f"p99 {report.percentile(0.99):.2f} ms",
    )
    for code, count in report.rejected.items():
        message = plain(report.messages.get(code, ""))
        screen.print(f"{count} x {plain(code)}: {message}", highlight=False)
    if report.interruption:
        screen.print(report.interruption)
