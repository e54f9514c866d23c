"""`conformance`: checks any BTP and ILP peer from outside."""

import json
from collections import Counter
from typing import Annotated, Optional

import typer

from connector.base import limits
from connector.base.clock import SystemClock
from connector.base.urls import is_dialable
from connector.cli.common import AsJson, faults_named, run_loop, stopped_by_signal
from connector.cli.process import EXIT_INTERRUPTED
from connector.cli.send import grouped_faults
from connector.ilp import address
from connector.tools.terminal import console, plain


def _auth(text: str, option: str) -> tuple[str, str]:
    user, colon, token = text.partition(":")
    if not colon:
        raise typer.BadParameter("must be USER:TOKEN", param_hint=option)
    return user, token


def conformance(
    url: Annotated[str, typer.Option(help="BTP listener, ws://host:port or wss://...")],
    auth: Annotated[
        str,
        typer.Option(metavar="USER:TOKEN", help="Log-in of an account there.", envvar="CONNECTOR_AUTH"),
    ],
    next_auth: Annotated[
        Optional[str],
        typer.Option(metavar="USER:TOKEN", help="A second account: checks what is forwarded to it."),
    ] = None,
    next_address: Annotated[
        Optional[str],
        typer.Option(metavar="ADDR", help="Packets for it are forwarded to the second account."),
    ] = None,
    next_url: Annotated[
        Optional[str], typer.Option(help="Where the second account logs in; else --url.")
    ] = None,
    next_limit: Annotated[
        Optional[int],
        typer.Option(
            min=1, max=limits.AMOUNT_MAX // 2,
            help="What the peer may come to owe the second account; it is used up.",
        ),
    ] = None,
    amount: Annotated[
        int, typer.Option(min=1, max=limits.AMOUNT_MAX, help="Of packets that are forwarded.")
    ] = 100,
    only: Annotated[
        Optional[list[str]], typer.Option(help="Only this check; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Check a BTP and ILP peer from outside; exit 0 only when no check fails.

    Money moves only from the account to the second one. What each check is for: docs/conformance.md.
    """
    from connector.tools import conformance_btp, conformance_ilp
    from connector.tools.conformance import Account, Result, Target, Verdict, run_checks

    for option, one in (("--url", url), ("--next-url", next_url)):
        if one is not None and not is_dialable(one):
            raise typer.BadParameter("must be ws://host:port or wss://host:port", param_hint=option)
    if next_address is not None and not address.is_address(next_address):
        raise typer.BadParameter("is not an ILP address", param_hint="--next-address")
    user, token = _auth(auth, "--auth")
    second = None
    if next_auth is not None:
        next_user, next_token = _auth(next_auth, "--next-auth")
        second = Account(url=next_url or url, username=next_user, token=next_token)
    target = Target(
        account=Account(url=url, username=user, token=token),
        clock=SystemClock(),
        amount=amount,
        next_hop=second,
        next_address=next_address or "",
        next_limit=next_limit,
    )
    checks = [*conformance_btp.CHECKS.all, *conformance_ilp.CHECKS.all]
    if only:
        names = [one.name for one in checks]
        unknown = set(only) - {*names}
        if unknown:
            said = f"no such check: {', '.join(sorted(unknown))}; there are: {', '.join(names)}"
            raise typer.BadParameter(said, param_hint="--only")
        checks = [one for one in checks if one.name in only]
    screen = console(quiet=as_json)
    colours = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.SKIP: "yellow"}

    def show(result: Result) -> None:
        check, colour = result.check, colours[result.verdict]
        numbers = ", ".join(map(str, check.requirements))
        detail = f": {plain(result.detail)}" if result.detail else ""
        screen.print(
            f"[{colour}]{result.verdict.value}[/{colour}] {check.name} ({check.level.value}, {numbers}): "
            f"{check.rule}{detail}", highlight=False,
        )  # fmt: skip

    async def work() -> tuple[list[Result], bool]:
        with stopped_by_signal() as stopped:
            results = await run_checks(checks, target, stopped=stopped, on_result=show)
            return results, stopped.is_set()

    with faults_named(), grouped_faults():
        results, interrupted = run_loop(work())
    counts = Counter(result.verdict for result in results)
    if as_json:
        body = {
            **({"interrupted": True} if interrupted else {}),
            "url": url,
            **{verdict.value: counts[verdict] for verdict in Verdict},
            "checks": [result.as_json() for result in results],
        }
        print(json.dumps(body, indent=2))
    else:
        said = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
        screen.print(f"{said} of {len(checks)}{'; interrupted' if interrupted else ''}")
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(1 if counts[Verdict.FAIL] else 0)
