"""`sinks`: where events are delivered, what was refused there, and delivering it again."""

import json
import os
from typing import Annotated, Any, Optional
from urllib.parse import quote, urlencode

import typer

from connector.base import limits
from connector.cli.common import DEFAULT_URL, AsJson, Key, Url, Watch, fail, faults_named, get
from connector.cli.show import sink_words, table_command
from connector.tools.terminal import Fitted, plain, table

_SHOWN = 20


def sinks(
    dead: Annotated[
        Optional[str],
        typer.Option(metavar="SINK", help="Events that this sink refused for good, oldest first."),
    ] = None,
    deliver_again: Annotated[
        Optional[str],
        typer.Option(metavar="SINK", help="Deliver its dead letters again: all, or that of --seq."),
    ] = None,
    seq: Annotated[
        Optional[int], typer.Option(min=1, help="The number of one dead letter.")
    ] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the statement that makes SINK_POSTGRES_TABLE.")
    ] = False,
    count: Annotated[
        int, typer.Option(min=1, max=limits.HTTP_PAGE_ITEMS_MAX, help="How many dead letters.")
    ] = _SHOWN,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Where events are delivered: webhook, NATS, PostgreSQL."""
    if sum((dead is not None, deliver_again is not None, sql)) > 1:
        raise typer.BadParameter("--dead, --deliver-again and --sql exclude each other")
    if seq is not None and deliver_again is None:
        raise typer.BadParameter("--seq goes with --deliver-again")
    if sql:
        _print_sql(as_json)
        return
    if (named := dead or deliver_again) is not None:
        _must_be_there(named, url, key)
    if deliver_again is not None:
        _deliver_again(deliver_again, seq, url, key, as_json)
    elif dead is not None:
        path = f"/api/v1/sinks/{quote(dead, safe='')}/dead?{urlencode({'limit': count})}"
        table_command(path, _letters, url, key, as_json, watch, "no dead letters")
    else:
        table_command("/api/v1/sinks", _all, url, key, as_json, watch, "no sinks")


def _must_be_there(name: str, url: str, key: str | None) -> None:
    there = [one["sink"] for one in get(url, "/api/v1/sinks", key)["items"]]
    if name not in there:
        raise fail(f"no such sink {plain(name)}; there is {', '.join(there) or 'none'}", 2)


def _all(body: dict[str, Any]) -> Fitted:
    rows = table("sink", "place", "delivered", "retried", "state", text=("place", "state"))
    for item in body["items"]:
        rows.add_row(
            item["sink"],
            plain(item["place"]),
            str(item["delivered"]),
            str(item["retried"]),
            sink_words(item),
        )
    return rows


def _letters(body: dict[str, Any]) -> Fitted:
    rows = table(
        "seq", "time (UTC)", "type", "attempts", "reason", text=("reason",), spare=("attempts",)
    )
    for item in body["items"]:
        again = " (again soon)" if item["again"] else ""
        rows.add_row(
            str(item["seq"]),
            item["timestamp"][:19].replace("T", " "),
            item["type"],
            str(item["attempts"]),
            plain(item["reason"]) + again,
        )
    return rows


def _deliver_again(name: str, seq: int | None, url: str, key: str | None, as_json: bool) -> None:
    from connector.tools.client import NodeClient

    query = "" if seq is None else f"?{urlencode({'seq': seq})}"
    with faults_named():
        path = f"/admin/sinks/{quote(name, safe='')}/deliver-again{query}"
        answer = NodeClient(url, key).admin("POST", path)
    print(
        json.dumps(answer) if as_json else f"{answer['letters']} dead letters are delivered again"
    )


def _print_sql(as_json: bool) -> None:
    from connector.settings.load import load
    from connector.sinks.postgres import table_statement

    with faults_named():
        name = "SINK_POSTGRES_TABLE"
        given = {key: os.environ[key] for key in (name, f"{name}_FILE") if key in os.environ}
        statement = table_statement(load(given).settings.sink_postgres_table)
    print(
        json.dumps({"statement": statement}) if as_json else statement, end="\n" if as_json else ""
    )
