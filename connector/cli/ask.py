"""Changes from the command line: what would happen is shown, confirmed, and only then done.

The node itself says what would happen (`preview=true`), so that what is asked is what it will do. On a
terminal the command asks; elsewhere it needs `--yes`. Exit codes: 0 done, also when nothing was to be
changed; 1 the node refused, or the operator did not want it; 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from connector.cli.common import fail, faults_named, get, no_such_peer
from connector.tools.terminal import console, plain, table

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would happen; nothing is changed.")
]


def units_typed(url: str, key: str | None, text: str, peer: str | None = None) -> int:
    """An amount as it was typed, in smallest units; the node is asked for an asset only where one is named.

    Args:
        url: of the node.
        key: shown to it.
        text: has passed `amount_form`.
        peer: whose asset it is; None: that of the node itself.
    """
    from connector.tools.amounts import units_of

    with faults_named():
        if text.strip().isdecimal():
            return units_of(text, "", 0)
        if peer is None:
            found, whose = get(url, "/api/status", key), "this node"
        else:
            items = get(url, "/api/accounts", key)["items"]
            mine = [one for one in items if one["peerId"] == peer]
            if not mine:
                raise no_such_peer(peer)
            found, whose = mine[0], "this peer"
        return units_of(text, found["assetCode"], found["assetScale"], whose)


def amount_form(text: str | None) -> str | None:
    """For options with an amount: what is none in any asset is refused before anything is asked."""
    from connector.tools.amounts import fault_in

    if text is not None and text != "default" and (fault := fault_in(text)):
        raise typer.BadParameter(fault)
    return text


def admin(
    method: str, url: str, path: str, key: str | None, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An answer of the admin API; ends the command if it is refused."""
    from connector.tools.client import NodeClient

    with faults_named():
        return NodeClient(url, key).admin(method, path, body)


def confirmed(question: str, *, yes: bool) -> None:
    """Return when the operator wants it.

    Raises:
        typer.Exit: 1 he does not; 2 nobody can be asked.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise fail(f"{question} Nothing was changed: pass --yes where nobody can be asked", 2)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise fail("nothing was changed", 1)


def change(
    method: str,
    url: str,
    path: str,
    key: str | None,
    body: dict[str, Any] | None = None,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    done: str,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Show what a request would do, ask, and make it, if it would still do that.

    Args:
        method: of the request, with `path` and `body`.
        url: of the node.
        path: may have a query.
        key: of an operator.
        body: as JSON.
        yes: do not ask.
        dry_run: show only.
        as_json: print `{"preview": ..., "done": ..., "answer": ...}` instead of words.
        done: printed after it was made.
        before: called when it is about to be made. It may be made although no answer comes.
    """
    mark = "&" if "?" in path else "?"
    preview = admin(method, url, f"{path}{mark}preview=true", key, body)
    changes = preview["effects"] != ["nothing changes"] or bool(preview["changes"])
    if not as_json:
        _print(preview)
    if dry_run or not changes:
        if as_json:
            print(json.dumps({"preview": preview, "done": False, "answer": None}, indent=2))
        return
    confirmed("Do it?", yes=yes)
    before()
    answer = admin(method, url, f"{path}{mark}shown={preview['shown']}", key, body)
    if as_json:
        print(json.dumps({"preview": preview, "done": True, "answer": answer or None}, indent=2))
        return
    print(done)
    if answer.get("packetsUnanswered"):
        print(
            f"{answer['packetsUnanswered']} packets had no answer "
            f"({answer['amountUnanswered']} smallest units): what the peer fulfils of them is lost"
        )


def _print(preview: dict[str, Any]) -> None:
    screen = console()
    if preview["changes"]:
        rows = table("setting", "now", "then", text=("now", "then"), title=plain(preview["target"]))
        for one in preview["changes"]:
            rows.add_row(plain(one["field"]), plain(one["from"]), plain(one["to"]))
        screen.print(rows)
    for effect in preview["effects"]:
        screen.print(f"- {plain(effect)}", highlight=False)
