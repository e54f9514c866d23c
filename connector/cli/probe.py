"""`ping`, `trace`, `explain`: how packets get to an address, or why they do not."""

import json
from typing import Annotated, Any, Optional
from urllib.parse import urlencode

import typer
from rich.progress import Progress, TextColumn

from connector.base.clock import SystemClock
from connector.base.urls import is_dialable
from connector.cli.ask import amount_form, units_typed
from connector.cli.common import (
    DEFAULT_URL,
    AsJson,
    Key,
    Url,
    check_peer,
    faults_named,
    finite,
    get,
    run_loop,
    stopped_by_signal,
    url_of,
)
from connector.cli.process import EXIT_INTERRUPTED
from connector.cli.send import grouped_faults
from connector.ilp import address
from connector.tools import bounds
from connector.tools.terminal import console, figures, plain, table

Destination = Annotated[str, typer.Argument(metavar="ADDR", help="ILP address.")]
ProbeUrl = Annotated[
    str,
    typer.Option(
        help="HTTP address of a node that sends, or the BTP listener (ws://) of a connector.",
        envvar="CONNECTOR_URL",
        callback=url_of,
    ),
]
Auth = Annotated[
    Optional[str],
    typer.Option(
        metavar="USER:TOKEN", help="Log-in, where --url is ws://; USER may be empty.",
        envvar="CONNECTOR_AUTH",
    ),
]  # fmt: skip
Amount = Annotated[
    str,
    typer.Option(
        metavar="AMOUNT", callback=amount_form,
        help="Amount of each packet: smallest units, or 1.25USD where a node is asked.",
    ),
]  # fmt: skip


def _check(destination: str, url: str, key: str | None, auth: str | None) -> None:
    if not address.is_address(destination):
        raise typer.BadParameter("is not an ILP address", param_hint="ADDR")
    if url.startswith(("http://", "https://")):
        # First as any other command asks: what is wrong with URL or key is said in the same words.
        get(url, "/api/status", key)
        return
    if not is_dialable(url):
        raise typer.BadParameter(
            "must be http://host:port, ws://host:port or wss://host:port", param_hint="--url"
        )
    if auth is None or ":" not in auth:
        raise typer.BadParameter("needs --auth USER:TOKEN", param_hint="--url ws://")


def _units(url: str, key: str | None, text: str) -> int:
    """The amount of packets; a connector that is asked over BTP does not tell its asset."""
    if url.startswith(("http://", "https://")):
        return units_typed(url, key, text)
    if not text.strip().isdecimal():
        raise typer.BadParameter(
            "must be whole smallest units where --url is ws://", param_hint="--amount"
        )
    return units_typed(url, key, text)


def ping(
    destination: Destination,
    amount: Amount = "0",
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")] = 4,
    interval: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds between two.", callback=finite)
    ] = 1.0,
    timeout: Annotated[
        float, typer.Option(min=0.01, max=300, help="Seconds to expiry.", callback=finite)
    ] = 10.0,
    url: ProbeUrl = DEFAULT_URL,
    key: Key = None,
    auth: Auth = None,
    as_json: AsJson = False,
) -> None:
    """Ping an ILP address: a packet that its connector fulfils; exit 0 only when all were.

    With an amount the money is paid to that connector.
    """
    from connector.tools.probe import Pings, Said, prober
    from connector.tools.probe import ping as send_pings

    _check(destination, url, key, auth)
    units = _units(url, key, amount)
    screen = console(quiet=as_json)

    def show(number: int, said: Said) -> None:
        if said.code:
            by = said.triggered_by or "an unknown node"
            screen.print(
                f"{number}: [red]{plain(said.code)}[/red] {plain(said.message)}, by {plain(by)}, "
                f"{said.ms:.2f} ms", highlight=False,
            )  # fmt: skip
        else:
            screen.print(f"{number}: fulfilled, {said.ms:.2f} ms", highlight=False)

    async def work() -> Pings:
        with stopped_by_signal() as stopped:
            async with prober(url, key, auth, SystemClock()) as one:
                return await send_pings(
                    one, destination, amount=units, count=count, interval_s=interval,
                    expiry_ms=max(1, round(timeout * 1000)), stopped=stopped, on_answer=show,
                )  # fmt: skip

    with faults_named(), grouped_faults():
        pings: Pings = run_loop(work())
    body = pings.as_json()
    if as_json:
        print(json.dumps(body))
    else:
        times = body["ms"]
        words = [f"{pings.fulfilled} of {pings.sent} fulfilled"]
        if times is not None:
            words += [f"min {times['min']:.2f} ms,", f"p50 {times['p50']:.2f} ms,",
                      f"max {times['max']:.2f} ms"]  # fmt: skip
            words[0] += ":"
        figures(screen, *words)
        if pings.interrupted:
            screen.print("interrupted")
    if pings.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(0 if pings.fulfilled == pings.sent else 1)


def trace(
    destination: Destination,
    amount: Amount = "0",
    step: Annotated[
        int,
        typer.Option(
            min=10, max=10_000, help="Milliseconds that each probe has more than the last."
        ),
    ] = bounds.TRACE_STEP_MS,
    url: ProbeUrl = DEFAULT_URL,
    key: Key = None,
    auth: Auth = None,
    as_json: AsJson = False,
) -> None:
    """Show the connectors on the way to an ILP address; exit 0 only when it has answered.

    Probes expire sooner or later: a connector without enough time left to forward one refuses it, and
    names itself. With an amount, a probe that gets there pays it.
    """
    from connector.tools.probe import Trace, prober
    from connector.tools.probe import trace as send_probes

    _check(destination, url, key, auth)
    units = _units(url, key, amount)
    screen = console(quiet=as_json)

    async def work(progress: Progress) -> Trace:
        bar = progress.add_task("", total=None)

        def show(now: Trace) -> None:
            progress.update(bar, description=f"{now.probes} probes, {len(now.hops)} hops")

        with stopped_by_signal() as stopped:
            async with prober(url, key, auth, SystemClock()) as one:
                return await send_probes(
                    one, destination, amount=units, step_ms=step,
                    expiry_ms_max=bounds.TRACE_MS_MAX, stopped=stopped, on_progress=show,
                )  # fmt: skip

    with (
        faults_named(),
        grouped_faults(),
        Progress(
            TextColumn("{task.description}"),
            console=screen,
            transient=True,
            disable=as_json or not screen.is_terminal,
        ) as progress,
    ):
        found: Trace = run_loop(work(progress))
    if as_json:
        print(json.dumps(found.as_json()))
    else:
        rows = table("hop", "address", "ms", "needs at least", text=("address",))
        for number, hop in enumerate(found.hops, 1):
            rows.add_row(
                str(number), plain(hop.address) or "(does not name itself)", f"{hop.ms:.2f}",
                f"{hop.expiry_ms} ms",
            )  # fmt: skip
        if found.hops:
            screen.print(rows)
        screen.print(_end_of(found.as_json()), highlight=False)
        if found.interrupted:
            screen.print("interrupted")
    if found.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(0 if found.reached else 1)


def _end_of(found: dict[str, Any]) -> str:
    end = found["end"]
    if end is None:
        return "no answer yet"
    if found["reached"]:
        return f"{plain(found['destination'])} has answered, {end['ms']:.2f} ms"
    by = plain(end["triggeredBy"]) or "an unknown node"
    return (
        f"[red]{plain(end['code'])}[/red] {plain(end['message'])}, by {by}: "
        f"{plain(found['destination'])} was not reached"
    )


def explain(
    destination: Destination,
    amount: Annotated[
        str,
        typer.Option(
            metavar="AMOUNT",
            callback=amount_form,
            help="Smallest units of the sender's asset, or 1.25USD.",
        ),
    ] = "0",
    source: Annotated[
        Optional[str], typer.Option("--from", metavar="PEER", help="Sender; else this node itself.")
    ] = None,
    expiry: Annotated[
        float, typer.Option(min=0.001, max=300, help="Seconds to expiry.", callback=finite)
    ] = 30.0,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What would happen to a packet now, and why; exit 1 if it would be rejected. Sends nothing."""
    if not address.is_address(destination):
        raise typer.BadParameter("is not an ILP address", param_hint="ADDR")
    if source is not None:
        check_peer(url, key, source)
    query = {
        "destination": destination, "amount": units_typed(url, key, amount, source), "expirySeconds": expiry,
        **({} if source is None else {"from": source}),
    }  # fmt: skip
    body = get(url, f"/api/explain?{urlencode(query)}", key)
    if as_json:
        print(json.dumps(body, indent=2))
    else:
        rows = table("what", "value", text=("value",), title=f"a packet to {plain(destination)}")
        for what, value in _lines(body):
            rows.add_row(what, value)
        console().print(rows)
    raise typer.Exit(1 if body["outcome"] == "rejected" else 0)


def _lines(body: dict[str, Any]) -> list[tuple[str, str]]:
    route, hop = body["route"], body["nextHop"]
    lines = [
        ("from", f"{body['from'] or '(this node)'}, {body['amount']} {body['asset']}"),
        ("route", "none" if route is None else
         f"{route['prefix'] or '(default)'} to {route['nextHop'] or '(this node)'} ({route['source']})"),
    ]  # fmt: skip
    lines += [
        ("instead of", f"{one['prefix'] or '(default)'} to {one['nextHop']} ({one['source']})")
        for one in [*body["beaten"], *body["shorter"]]
    ]
    if hop is not None:
        link = "up" if hop["connected"] else "[red]down[/red]"
        lines.append(("link to next hop", link))
        rate = "none: T00" if hop["rate"] is None else f"{hop['rate']} {hop['asset']}"
        if hop["asset"] != body["asset"]:
            lines.append(("rate", f"1 {body['asset']} (smallest units) = {rate}"))
        if hop["payableLeft"] is not None:
            lines.append(("we may still owe it", hop["payableLeft"]))
    if body["creditLeft"] is not None:
        lines.append(("it may still send", body["creditLeft"]))
    if body["amountOut"] is not None:
        lines.append(("fee", f"{body['fee']} {body['asset']}"))
        lines.append(("amount onward", body["amountOut"]))
    if body["expiresInMsOut"] is not None:
        lines.append(("expiry onward", f"{body['expiresInMsOut']} ms"))
    words = {
        "sent": "[green]sent to the next hop[/green], which decides",
        "delivered": "[green]given to this node's receiver[/green], which decides",
        "fulfilled": "[green]fulfilled[/green] by this node",
        "rejected": f"[red]{body['code']}[/red] {plain(body['message'])}",
    }
    return [*lines, ("outcome", words[body["outcome"]])]
