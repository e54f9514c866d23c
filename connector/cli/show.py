"""Commands that show a node: status, peers, routes, balances, packets."""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Optional
from urllib.parse import urlencode

import typer
from rich.live import Live

from connector.base import limits
from connector.base.clock import SystemClock
from connector.cli import bounds, process
from connector.cli.common import (
    DEFAULT_URL,
    AsJson,
    Key,
    Url,
    Watch,
    faults_named,
    get,
    no_such_peer,
)
from connector.tools.terminal import Fitted, console, exact, plain, table


def table_command(
    path: str, make: Callable[[dict[str, Any]], Fitted], url: str, key: str | None,
    as_json: bool, watch: bool, none: str = "",
) -> None:  # fmt: skip
    """Print what the node answers for `path`, as a table or JSON; `none`: instead of an empty table.

    Watched, it is printed each second, JSON as one line; in a terminal the table stays in its place.
    """
    screen = console()

    def shown() -> Fitted | str:
        made = make(get(url, path, key))
        return made if len(made) else none

    if not watch:
        if as_json:
            print(json.dumps(get(url, path, key), indent=2))
        else:
            screen.print(shown())
        return
    in_place: contextlib.AbstractContextManager[Live | None] = contextlib.nullcontext()
    if screen.is_terminal and not as_json:
        in_place = Live(console=screen, auto_refresh=False)
    with in_place as live:
        while process.has_reader():
            if live is not None:
                live.update(shown(), refresh=True)
            elif as_json:
                print(json.dumps(get(url, path, key)), flush=True)
            else:
                screen.print(shown())
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


def sink_words(sink: dict[str, Any]) -> str:
    """How a sink is, in a few words."""
    said = str(sink["state"])
    if sink["lagEvents"]:
        said += f", {sink['lagEvents']} events behind ({sink['lagSeconds']:.0f} s)"
    if sink["missed"]:
        said += f", {sink['missed']} missed"
    if sink["deadLetters"]:
        said += f", {sink['deadLetters']} dead letters"
    return f"{said}: {plain(sink['fault'])}" if sink["fault"] else said


def _but(body: dict[str, Any]) -> str:
    """What a healthy node cannot do all the same."""
    if body["status"] != "healthy" or body["peersConnected"]:
        return ""
    if not body["peersTotal"]:
        return ", but has no peers: packets reach only the node itself"
    return ", but no peer is connected: packets reach only the node itself"


def status(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """The node at a glance."""

    def make(body: dict[str, Any]) -> Fitted:
        rows = table("what", "value", title=body["nodeId"])
        for name in ("status", "ilpAddress", "version", "uptimeSeconds", "peersConnected",
                     "peersTotal", "routes", "packetsInFlight", "packetsFulfilled",
                     "packetsRejected"):  # fmt: skip
            rows.add_row(name, str(body[name]) + _but(body) * (name == "status"))
        accounting = body["accounting"]
        rows.add_row("accounting", f"{accounting['state']} ({accounting['backend']})")
        for loop in body.get("routingLoops", ()):
            rows.add_row(
                "routing loop",
                f"to {loop['nextHop']} by {loop['prefix'] or '(default)'}, back from {loop['peerId']}: "
                f"{loop['packets']} packets refused",
            )
        for short in body.get("nextHopsShort", ()):
            rows.add_row(
                "next hop short",
                f"{short['peerId']} answers T04 ({short['packets']} packets): {plain(short['message'])}",
            )
        for one in body.get("secretRotations", ()):
            its = "; its link still uses it" * one["usesFormer"]
            rows.add_row(
                "secret rotation",
                f"the former secret of {one['peerId']} serves until {one['until']}{its}",
            )
        live = body.get("rates", {"state": "off"})
        if live["state"] != "off":
            why = plain(live["error"]) if live["error"] else f"{live['refused']} refused"
            age = "none yet" if live["ageSeconds"] is None else f"{live['ageSeconds']:.0f} s old"
            rows.add_row("live rates", f"{live['state']}: {age}, {why}")
        for sink in body.get("sinks", ()):
            rows.add_row(f"sink {sink['sink']}", sink_words(sink))
        if body.get("settlementsWaiting"):
            rows.add_row(
                "settlementsWaiting",
                f"{body['settlementsWaiting']}: settle PEER --accept or --decline",
            )
        return rows

    table_command("/api/status", make, url, key, as_json, watch)


def peers(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """Peers and their links."""

    def make(body: dict[str, Any]) -> Fitted:
        rows = table(
            "peer", "relation", "asset", "link", "packets in", "packets out", "in flight",
            text=("link",), spare=("relation", "asset", "in flight"),
        )  # fmt: skip
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

    table_command("/api/peers", make, url, key, as_json, watch, "no peers")


def wallets(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """Who can be paid at this node by name, and what they were paid."""

    def make(body: dict[str, Any]) -> Fitted:
        rows = table("wallet", "balance", "pending", "asset", "pay at", spare=("pending", "asset"))
        for item in body["items"]:
            rows.add_row(
                item["wallet"],
                item["balance"],
                item["pending"],
                f"{item['assetCode']}/{item['assetScale']}",
                plain(item["payUrl"] or ""),
            )
        return rows

    table_command("/api/wallets", make, url, key, as_json, watch, "no wallets: set PAY_PORT")


def routes(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """The routing table (the first 1000 routes)."""

    def make(body: dict[str, Any]) -> Fitted:
        rows = table(
            "prefix", "next hop", "source", "age", "announced to", "path",
            text=("prefix", "source", "announced to", "path"), spare=("path", "age", "announced to", "source"),
        )  # fmt: skip
        for item in body["items"]:
            rows.add_row(
                item["prefix"] or "(default)",
                item["nextHop"] or "(this node)",
                item["source"]
                + (f", before {before}" if (before := item.get("goesBefore")) else ""),
                _age(item.get("ageSeconds")),
                " ".join(item.get("announcedTo", ())),
                plain(" ".join(item["path"])),
            )
        return rows

    table_command("/api/routes?limit=1000", make, url, key, as_json, watch, "no routes")


def _age(seconds: int | None) -> str:
    """A time in its two largest units."""
    if seconds is None:
        return ""
    for unit, size, below, small in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // small} {below}"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


def _standing(item: dict[str, Any]) -> tuple[str, ...]:
    """The balance with a peer, in plain words."""
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
        f"{exact(abs(net), item['assetScale'])} {item['assetCode']}" if net else "",
        item["availableCredit"],
        room,
        item["pendingDebits"],
        item["pendingCredits"],
        credit,
    )


def balances(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False
) -> None:
    """What every peer owes us and we owe it, in plain words."""

    def make(body: dict[str, Any]) -> Fitted:
        rows = table(
            "peer", "asset", "balance", "that is", "may still send", "we may still owe it",
            "pending from it", "pending to it", "credit",
            spare=("credit", "pending to it", "pending from it", "that is", "we may still owe it", "asset"),
        )  # fmt: skip
        for item in body["items"]:
            rows.add_row(
                item["peerId"] + (" (removed)" if item.get("removed") else ""),
                f"{item['assetCode']}/{item['assetScale']}",
                *_standing(item),
            )
        return rows

    table_command("/api/accounts", make, url, key, as_json, watch, "no accounts")


_ENDS = ("PACKET_FULFILLED", "PACKET_REJECTED")


def _time(timestamp: str, today: str) -> str:
    """The time of an event, `2026-01-31T12:00:00.000Z`, with its day if that is not `today`."""
    day, time = timestamp[:10], timestamp[11:23]
    return time if day == today else f"{day} {time}"


def _today() -> str:
    """The day in UTC, as in timestamps."""
    return f"{datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC):%Y-%m-%d}"


def _packet_row(event: dict[str, Any], today: str) -> tuple[str, ...]:
    """Cells of a packet that has ended."""
    rejected = event["type"] == "PACKET_REJECTED"
    said = (
        f"[red]{event['code']}[/red] {plain(event['message'])}" if rejected else "[green]ok[/green]"
    )
    hop = event["nextHop"]
    return (
        _time(event["timestamp"], today),
        event["packetId"],
        event["peerId"] or "(this node)",
        "" if hop is None else hop or "(this node)",
        plain(event["destination"]),
        event["amount"],
        f"{event['durationMs']:.1f} ms",
        said,
    )


def packets(
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False, watch: Watch = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print packets as they end, until Ctrl-C.")
    ] = False,
    count: Annotated[
        Optional[int],
        typer.Option(
            min=1, max=limits.HTTP_PAGE_ITEMS_MAX,
            help=f"How many, newest first; else {bounds.PACKETS_SHOWN}.",
        ),
    ] = None,
    peer: Annotated[Optional[str], typer.Option(help="Only from or to this peer.")] = None,
) -> None:  # fmt: skip
    """The last packets and how they ended."""
    if follow and (watch or count is not None):
        other = "--watch" if watch else "--count"
        raise typer.BadParameter(f"--follow and {other} exclude each other")
    if follow:
        with faults_named():
            _follow_packets(url, key, as_json, peer)
        return
    if peer is not None:
        _check_peer(url, key, peer)

    def make(body: dict[str, Any]) -> Fitted:
        rows = table(
            "time (UTC)", "packet", "from", "next hop", "destination", "amount", "took", "result",
            text=("destination", "result"),
            spare=("took", "destination", "next hop", "from", "time (UTC)"),
        )  # fmt: skip
        today = _today()
        for event in body["items"]:
            rows.add_row(*_packet_row(event, today))
        return rows

    query = {
        "type": ",".join(_ENDS),
        "limit": count or bounds.PACKETS_SHOWN,
        **({} if peer is None else {"peer": peer}),
    }
    table_command(f"/api/events?{urlencode(query)}", make, url, key, as_json, watch, "no packets")


def _check_peer(url: str, key: str | None, peer: str) -> None:
    """End the command if the node neither has such a peer nor remembers packets of one."""
    if any(item["peerId"] == peer for item in get(url, "/api/peers", key)["items"]):
        return
    past = urlencode({"type": ",".join(_ENDS), "limit": 1, "peer": peer})
    if not get(url, f"/api/events?{past}", key)["items"]:
        raise no_such_peer(peer)


def _follow_packets(url: str, key: str | None, as_json: bool, peer: str | None) -> None:
    from connector.tools.follow import follow

    # First as any other command asks: what is wrong with URL or key is said in the same words.
    get(url, "/api/status", key)
    if peer is not None:
        _check_peer(url, key, peer)
    screen = console()
    for event in follow(url, key, SystemSleep.seconds):
        if event["type"] not in _ENDS:
            continue
        if peer is not None and peer not in (event["peerId"], event["nextHop"]):
            continue
        if as_json:
            print(json.dumps(event), flush=True)
        else:
            row = _packet_row(event, _today())
            screen.print("  ".join(row), highlight=False, soft_wrap=True)
        if not process.has_reader():
            return
