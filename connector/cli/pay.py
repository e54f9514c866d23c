"""`pay`: pay a payment pointer or URL from a running node."""

import json
import re
import time
import uuid
from typing import Annotated, Any, Final, Optional
from urllib.parse import quote

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from connector.cli.ask import amount_form, units_typed
from connector.cli.common import (
    DEFAULT_URL,
    AsJson,
    Key,
    Url,
    fail,
    faults_named,
)
from connector.cli.process import EXIT_INTERRUPTED
from connector.settings.types import SLIPPAGE_PATTERN
from connector.tools.terminal import console, figures, plain

LOOK_SECONDS: Final = 0.1
"""Between two looks at a payment that is under way."""


def pay(
    target: Annotated[
        str,
        typer.Argument(help="A payment pointer ($host/path), or the URL that it stands for."),
    ],
    amount: Annotated[
        str,
        typer.Option(
            metavar="AMOUNT",
            callback=amount_form,
            help="To be sent: smallest units of the node's asset, or 1.25USD.",
        ),
    ],
    max_slippage: Annotated[
        str,
        typer.Option(
            help="By which part the rate may become worse than quoted, and the quote be worse than "
            "the node's own rates, 0 to 1."
        ),
    ] = "0.01",
    min_delivered: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**64 - 1,
            help="The least that the receiver must get, in the smallest unit of its asset.",
        ),
    ] = 0,
    timeout: Annotated[
        int,
        typer.Option(min=1, max=7 * 86_400, help="How long it may take in all, in seconds."),
    ] = 3600,
    idempotency_key: Annotated[
        Optional[str],
        typer.Option(help="The same key again pays nothing a second time; else a new one."),
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Pay a payment pointer or URL from a running node; exit 0 only when all was sent.

    Ctrl-C cancels it: nothing more is sent, and what was delivered is shown. It goes on in the node when this
    command is ended in another way. Needs ADMIN_API_KEY.
    """
    from connector.tools.client import NodeClient

    if not re.fullmatch(SLIPPAGE_PATTERN, max_slippage):
        raise typer.BadParameter(
            "must be a number from 0 to 1, such as 0.01", param_hint="--max-slippage"
        )
    units = units_typed(url, key, amount)
    if units < 1:
        raise typer.BadParameter("must be 1 or more", param_hint="--amount")
    key_of_it = idempotency_key or uuid.uuid4().hex
    order = {
        "target": target,
        "amount": str(units),
        "maxSlippage": max_slippage,
        "minDelivered": str(min_delivered),
        "timeoutSeconds": timeout,
        "key": key_of_it,
    }
    screen = console(quiet=as_json)
    client = NodeClient(url, key)
    with (
        faults_named(),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            console=screen,
            disable=as_json or not screen.is_terminal,
        ) as progress,
    ):
        bar = progress.add_task(plain(target[:60]), total=units)
        path = f"/admin/payments/{quote(key_of_it, safe='')}"
        is_cancelled = False

        def look(one: dict[str, Any]) -> dict[str, Any]:
            while one["state"] == "running":
                progress.update(bar, completed=int(one["sent"]))
                time.sleep(LOOK_SECONDS)
                one = client.admin("GET", path, None, None)
            progress.update(bar, completed=int(one["sent"]))
            return one

        try:
            one = look(client.admin("POST", "/admin/payments", order, key_of_it))
        except KeyboardInterrupt:
            is_cancelled = True
            progress.update(bar, description="cancelling")
            try:
                one = look(client.admin("DELETE", path, None, key_of_it))
            except KeyboardInterrupt:
                progress.stop()
                screen.print(f"not known how it ended; its key is {key_of_it}", highlight=False)
                raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print(json.dumps(one, indent=2))
    else:
        _print(one, screen)
    if is_cancelled:
        raise fail(f"{one['state']}: {plain(one['reason'])}", EXIT_INTERRUPTED)
    if one["state"] != "completed":
        raise fail(f"{one['state']}: {plain(one['reason'])}", 1)


def _print(one: dict[str, Any], screen: Any) -> None:
    figures(
        screen,
        f"sent {one['sent']} of {one['amount']} {one['asset']},",
        f"delivered {one['delivered']} {plain(one['receiverAsset'] or '')}".rstrip() + ",",
        f"{one['packets']} packet{'s' * (one['packets'] != 1)} in {one['durationMs']} ms",
    )
    proof = one["proof"]
    if one["packets"]:
        answers = f"{proof['acknowledged']} answer{'s' * (proof['acknowledged'] != 1)}"
        screen.print(f"the receiver has reported {proof['reported']} in {answers}", highlight=False)
    if int(one["uncertain"]):
        screen.print(f"of {one['uncertain']} the outcome is not known", highlight=False)
