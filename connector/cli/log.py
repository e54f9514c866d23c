"""`log`: what operators, links, settlements and the books of a node did."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any, Final, Optional
from urllib.parse import urlencode

import typer

from connector.base import limits
from connector.base.clock import SystemClock
from connector.base.errors import EnvironmentFault
from connector.cli import bounds, process
from connector.cli.common import (
    DEFAULT_URL,
    AsJson,
    Key,
    Url,
    check_peer,
    fail,
    faults_named,
    get,
    seconds_in,
)
from connector.cli.show import SystemSleep
from connector.tools.terminal import console, plain

PATH: Final = "/api/v1/log"

Since = Annotated[
    Optional[str],
    typer.Option(
        metavar="TIME", help="From then on: 2026-01-31, 2026-01-31T12:00Z, or 2h, 3d ago."
    ),
]
Until = Annotated[Optional[str], typer.Option(metavar="TIME", help="Up to then.")]
Types = Annotated[
    Optional[list[str]],
    typer.Option(
        "--type", metavar="TYPE",
        help="operator, link, settlement, alert, books, node, or the type of an event; "
        "may be repeated.",
    ),
]  # fmt: skip


def log(
    url: Url = DEFAULT_URL,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    peer: Annotated[Optional[str], typer.Option(help="Only about this peer.")] = None,
    type_: Types = None,
    text: Annotated[str, typer.Option(help="Only events with this text.")] = "",
    count: Annotated[
        Optional[int],
        typer.Option(
            min=1, max=limits.HTTP_PAGE_ITEMS_MAX,
            help=f"The last so many; else {bounds.LOG_SHOWN}.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    export: Annotated[
        Optional[str],
        typer.Option(metavar="FORMAT", help="All that fits, oldest first, as csv or jsonl."),
    ] = None,
) -> None:  # fmt: skip
    """What operators, links, settlements, alerts and the books did; the newest last.

    The node keeps it over restarts. With --json the page as the API gives it, newest first; followed, a line each.
    """
    if export is not None:
        if export not in ("csv", "jsonl"):
            raise typer.BadParameter("must be csv or jsonl", param_hint="--export")
        if follow or as_json or count is not None:
            raise typer.BadParameter(
                "goes with neither --follow, --json nor --count", param_hint="--export"
            )
    if follow and until is not None:
        raise typer.BadParameter("--follow and --until exclude each other")
    query: dict[str, Any] = {
        name: value
        for name, value in (
            ("type", ",".join(type_ or ())),
            ("peer", peer),
            ("since", _moment("--since", since)),
            ("until", _moment("--until", until)),
        )
        if value
    }
    if export is not None:
        _export(url, key, query, text, as_csv=export == "csv")
        return
    shown = count or (bounds.LOG_FOLLOWED_SHOWN if follow else bounds.LOG_SHOWN)
    page = _found(url, key, query, text, shown)
    if not page["items"] and peer is not None and not query.keys() - {"peer"} and not text:
        check_peer(url, key, peer)
    if as_json and not follow:
        print(json.dumps(page, indent=2))
        return
    if page["fault"]:
        print(f"connector: the node keeps no log at the moment: {page['fault']}", file=sys.stderr)
    _print(page["items"][::-1], as_json=as_json)
    if not page["items"] and not as_json and not follow:
        print("nothing in the log")
    if follow:
        _follow(url, key, query, text, page["lastSeq"], as_json=as_json)


def _moment(option: str, given: str | None) -> str | None:
    """A time for the API: `2h` is as long ago, everything else is its to judge."""
    if given is None:
        return None
    if (ago_s := seconds_in(given)) is not None:
        return str(max(0, SystemClock().now_ms() - ago_s * 1000))
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{10,15}$", given):
        raise typer.BadParameter(
            f"{given!r} is neither a time such as 2026-01-31T12:00Z nor 30m, 2h, 3d, 1w",
            param_hint=option,
        )
    return given


def _found(
    url: str, key: str | None, query: dict[str, Any], text: str, count: int
) -> dict[str, Any]:
    """The newest so many events. A search looks at a bounded number of events at a time: it goes on here."""
    page = get(url, f"{PATH}?{urlencode({**query, 'text': text, 'limit': count})}", key)
    items = page["items"]
    following = page["next"]
    while text and following is not None and len(items) < count:
        more = {**query, "text": text, "limit": count - len(items), "cursor": following}
        next_page = get(url, f"{PATH}?{urlencode(more)}", key)
        items += next_page["items"]
        following = next_page["next"]
    return {**page, "items": items, "next": following}


def _print(events: list[dict[str, Any]], *, as_json: bool) -> None:
    screen = console()
    for event in events:
        if as_json:
            print(json.dumps(event), flush=True)
            continue
        time = f"{event['timestamp'][:10]} {event['timestamp'][11:19]}"
        screen.print(
            f"{time}  {event['group']:<10}  {plain(event['said'])}", highlight=False, soft_wrap=True
        )


def _follow(
    url: str, key: str | None, query: dict[str, Any], text: str, last: str, *, as_json: bool
) -> None:
    """Ask each second for what has come; a node that is away is waited for."""
    from connector.tools.client import NodeClient

    with faults_named():
        client = NodeClient(url, key)
        is_away = False
        while process.has_reader():
            SystemSleep.one_second()
            more = {**query, "after": last, "limit": limits.HTTP_PAGE_ITEMS_MAX}
            try:
                page = client.get(f"{PATH}?{urlencode(more)}")
            except EnvironmentFault as error:
                if not is_away:
                    print(f"connector: {error}; waiting for it", file=sys.stderr)
                is_away = True
                continue
            is_away = False
            items = page["items"]
            last = page["next"] or page["lastSeq"]
            _print([one for one in items if _has(one, text)], as_json=as_json)


def _has(event: dict[str, Any], text: str) -> bool:
    return text.lower() in json.dumps(event, ensure_ascii=False, separators=(",", ":")).lower()


def _export(url: str, key: str | None, query: dict[str, Any], text: str, *, as_csv: bool) -> None:
    from connector.telemetry.event_log import csv_cells, csv_columns, csv_row

    after, last = "0", ""
    if as_csv:
        print(csv_row(csv_columns()), end="")
    while True:
        more = {**query, "after": after, "limit": limits.HTTP_PAGE_ITEMS_MAX}
        page = get(url, f"{PATH}?{urlencode(more)}", key)
        if page["fault"] and not page["items"]:
            raise fail(f"the node keeps no log: {page['fault']}", 1)
        last = last or page["lastSeq"]
        for event in page["items"]:
            if event["seq"] > int(last):
                return
            if not _has(event, text):
                continue
            print(csv_row(csv_cells(event)) if as_csv else json.dumps(event) + "\n", end="")
        if page["next"] is None or not process.has_reader():
            return
        after = page["next"]
