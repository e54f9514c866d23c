"""`nodes`: names for nodes, each with its URL and the file of its key, for `--node`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Optional
from urllib.parse import urlsplit

import typer

from connector.cli.common import AsJson, fail, faults_named
from connector.cli.usage import Commands
from connector.tools.terminal import console, plain, table

nodes_app = typer.Typer(
    cls=Commands, help="Names for nodes, for --node; without a verb a table of them."
)
NodeName = Annotated[str, typer.Argument(metavar="NAME", help="As --node takes it.")]


@nodes_app.callback(invoke_without_command=True)
def nodes(context: typer.Context, as_json: AsJson = False) -> None:
    """Names for nodes, each with its URL and key file: `--node NAME status` asks one."""
    if context.invoked_subcommand is None:
        list_nodes(as_json)


@nodes_app.command("list")
def list_nodes(as_json: AsJson = False) -> None:
    """The nodes that have a name; keys are not shown."""
    from connector.tools.nodes import Nodes

    with faults_named():
        found = Nodes.of(os.environ).all()
    if as_json:
        items = [one.as_json() for one in found]
        print(json.dumps({"items": items, "next": None}, indent=2))
        return
    if not found:
        print("no nodes: `nodes add NAME --url URL --key-file FILE` adds one")
        return
    # What is copied out of a table is whole: without room, one below the other.
    rows = table("node", "url", "key file")
    for one in found:
        rows.add_row(plain(one.name), plain(one.url), plain(one.key_file or "(none)"))
    console().print(rows)


@nodes_app.command()
def add(
    name: NodeName,
    url: Annotated[str, typer.Option(help="HTTP address of the node.")],
    key_file: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE",
            help="Its ADMIN_API_KEY or READ_API_KEY, in a file that only you can read; -: from stdin, kept.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a node of this name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a node a name. The key stays in its file, which is read at each use."""
    from connector.tools.client import check_url
    from connector.tools.nodes import Nodes, Profile

    with faults_named():
        check_url(url)
        known = Nodes.of(os.environ)
        if not force and any(one.name == name for one in known.all()):
            raise fail(f"node {plain(name)} is there: --force replaces it", 2)
        path = None if key_file is None else key_file.expanduser().absolute()
        if str(key_file) == "-":
            path = known.keep_key(name, sys.stdin.readline().strip())
        profile = Profile(name, url.rstrip("/"), path)
        known.add(profile, force=force)
    if as_json:
        print(json.dumps(profile.as_json(), indent=2))
        return
    print(f"node {name} is {profile.url}: `--node {name} status` asks it")
    if path is not None and _is_open(url):
        print("note: its key goes there unencrypted: use https, or a tunnel", file=sys.stderr)


@nodes_app.command()
def remove(name: NodeName) -> None:
    """Forget a node; its key file stays, unless it was given on stdin."""
    from connector.tools.nodes import Nodes

    with faults_named():
        gone = Nodes.of(os.environ).remove(name)
    print(f"node {gone.name} is forgotten; the node itself goes on")


def _is_open(url: str) -> bool:
    """Whether what is sent there can be read on the way."""
    from connector.settings.types import is_loopback

    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
