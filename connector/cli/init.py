"""`init`: a configuration, secrets and a unit of systemd for a new node, asked for or given as options."""

from __future__ import annotations

import getpass
import json
import re
import secrets
import shutil
import site
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from connector.base.errors import ConfigError
from connector.cli import bounds
from connector.cli.ask import Yes, confirmed
from connector.cli.common import AsJson, fail, faults_named, name_of
from connector.cli.wizard import (
    RELATIONS,
    Wizard,
    fault_of,
    peer_id_fault,
    secret_in,
    url_fault,
    variables_there,
)
from connector.tools.setup import (
    CONFIG_NAME,
    SECRET_OCTETS,
    Plan,
    PlannedPeer,
    next_steps,
    trial_variables,
    variables_of,
    written,
)

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Where it is written; made if it is not there.")
]
Name = Annotated[
    Optional[str],
    typer.Option("--node-id", help="Name of the node, by which neighbours know it as a peer."),
]
Address = Annotated[
    Optional[str],
    typer.Option("--ilp-address", help="Its ILP address; else the parent's, or test.NODE_ID."),
]
Code = Annotated[Optional[str], typer.Option("--asset-code", help="Else USD.")]
Scale = Annotated[
    Optional[int], typer.Option("--asset-scale", min=0, max=255, help="Else 9: units of 10**-9.")
]
BtpHost = Annotated[
    Optional[str], typer.Option(help="Address of the BTP listener, else 127.0.0.1.")
]
BtpPort = Annotated[
    Optional[int], typer.Option(min=1, max=65_535, help="Else 3000, or the next free one.")
]
BtpUrl = Annotated[
    Optional[str],
    typer.Option(metavar="WS_URL", help="How neighbours reach it, where that is another address."),
]
HttpHost = Annotated[
    Optional[str], typer.Option(help="Address of health, API and page, else 127.0.0.1.")
]
HttpPort = Annotated[
    Optional[int], typer.Option(min=1, max=65_535, help="Else 8080, or the next free one.")
]
Peers = Annotated[
    Optional[list[str]],
    typer.Option("--peer", metavar="ID[=WS_URL]", help="A neighbour, and where to dial it; else "
                 "it dials this node. May be repeated, as the next three."),
]  # fmt: skip
RelationOf = Annotated[
    Optional[list[str]], typer.Option("--relation", metavar="ID=RELATION", help="parent or child.")
]
RouteTo = Annotated[
    Optional[list[str]],
    typer.Option("--route", metavar="PREFIX=ID", help="A prefix that is reached through a peer."),
]
SecretOf = Annotated[
    Optional[list[str]],
    typer.Option(
        "--peer-secret-file", metavar="ID=FILE",
        help="The secret that a neighbour gave you; else a new one is made.",
    ),
]  # fmt: skip


def init(
    folder: Folder,
    node_id: Name = None,
    ilp_address: Address = None,
    asset_code: Code = None,
    asset_scale: Scale = None,
    btp_host: BtpHost = None,
    btp_port: BtpPort = None,
    btp_url: BtpUrl = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    peer: Peers = None,
    relation: RelationOf = None,
    route: RouteTo = None,
    peer_secret_file: SecretOf = None,
    user: Annotated[
        Optional[str], typer.Option(help="Who runs it under systemd; else whoever runs this.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a configuration that is there; its secrets stay."),
    ] = False,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Print the secrets of peers too.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Set up a new node: a configuration, secrets and a unit of systemd in FOLDER.

    On a terminal it asks for what is not given; with --yes it takes the defaults. It prints what to do next.
    """
    asks = not yes and sys.stdin is not None and sys.stdin.isatty()
    if not asks and not yes:
        raise fail("nothing was written: pass --yes where nobody can be asked", 2)
    with faults_named():
        given = _peers_of(peer, relation, route, peer_secret_file)
        one = Wizard(asks=asks)
        name = one.text("Name of the node", node_id, _default_name(), peer_id_fault)
        peers = one.peers(given)
        none = ("-",) if any(each.relation == "parent" for each in peers) else ()
        address = one.text(
            "Its ILP address" + " (-: the parent gives it)" * len(none),
            ilp_address,
            "-" if none else f"test.{name}",
            lambda text: "" if text in none else fault_of("ILP_ADDRESS", text),
        )
        code = one.text("Asset code", asset_code, "USD", lambda text: fault_of("ASSET_CODE", text))
        scale = one.text(
            "Asset scale: amounts count 10**-scale",
            None if asset_scale is None else str(asset_scale),
            "9",
            lambda text: fault_of("ASSET_SCALE", text),
        )
        host = one.text(
            "Address of the BTP listener (0.0.0.0: neighbours on other machines connect)",
            btp_host,
            "127.0.0.1",
            lambda text: fault_of("BTP_SERVER_HOST", text),
        )
        # The ports of a node that runs are taken, and its own.
        there = variables_there(folder.expanduser() / CONFIG_NAME) if force else {}
        port = one.port(
            "Its port", btp_port, host, bounds.BTP_PORT, there.get("BTP_SERVER_PORT", "")
        )
        shown_host = http_host or "127.0.0.1"
        plan = Plan(
            folder=folder.expanduser().absolute(),
            node_id=name,
            ilp_address="" if address == "-" else address,
            asset_code=code,
            asset_scale=int(scale),
            btp_host=host,
            btp_port=port,
            http_host=shown_host,
            http_port=one.port(
                "Port of API and page",
                http_port,
                shown_host,
                bounds.HTTP_PORT,
                there.get("HTTP_PORT", ""),
            ),
            btp_url=btp_url or "",
            peers=tuple(peers),
            user=user or getpass.getuser(),
            **_started(),
        )
        _check(plan, trial_variables(plan))
        if asks:
            confirmed(f"Write it to {plan.folder}?", yes=False)
        done = written(plan, force=force, new_secret=lambda: secrets.token_urlsafe(SECRET_OCTETS))
        # As the node will read it: a secret that was kept may be none.
        _check(plan, variables_of(plan))
    _tell(plan, done.files, done.kept, show_secrets=show_secrets, as_json=as_json)


# --- what is given


def _peers_of(
    peers: list[str] | None,
    relations: list[str] | None,
    routes: list[str] | None,
    files: list[str] | None,
) -> list[PlannedPeer]:
    """The peers of the options, in their order."""
    found: dict[str, dict[str, Any]] = {}
    for text in peers or ():
        name, _, url = text.partition("=")
        _valid(name, "--peer", peer_id_fault)
        if name in found:
            raise typer.BadParameter(f"{name} stands twice", param_hint="--peer")
        found[name] = {"peer_id": name, "url": url, "routes": []}

    def of(option: str, name: str, text: str) -> dict[str, Any]:
        if name not in found:
            raise typer.BadParameter(f"{text!r}: {name!r} is no --peer", param_hint=option)
        return found[name]

    for text in relations or ():
        name, _, value = text.partition("=")
        if value not in RELATIONS:
            raise typer.BadParameter(
                f"{text!r} is not ID=parent or ID=child", param_hint="--relation"
            )
        of("--relation", name, text)["relation"] = value
    for text in routes or ():
        prefix, mark, name = text.rpartition("=")
        if not mark:
            raise typer.BadParameter(f"{text!r} is not PREFIX=ID", param_hint="--route")
        of("--route", name, text)["routes"].append(prefix)
    for text in files or ():
        name, mark, path = text.partition("=")
        if not mark or not path:
            raise typer.BadParameter(f"{text!r} is not ID=FILE", param_hint="--peer-secret-file")
        of("--peer-secret-file", name, text)["secret"] = secret_in(Path(path))
    return [PlannedPeer(**{**one, "routes": tuple(one["routes"])}) for one in found.values()]


def _default_name() -> str:
    """The name of the machine, as a peer id may be."""
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return name[:63] or "connector"


def _valid(text: str, option: str, fault: Callable[[str], str]) -> None:
    if said := fault(text):
        raise typer.BadParameter(f"{text!r} {said}", param_hint=option)


def _check(plan: Plan, variables: dict[str, str]) -> None:
    """Check a plan as a node checks its configuration.

    Raises:
        ConfigError: with every fault.
    """
    from connector.node.preflight import check
    from connector.settings.load import load

    if said := url_fault(plan.btp_url):
        raise ConfigError([f"--btp-url: {said}"])
    check(load(variables).settings)


def _started() -> dict[str, Any]:
    """How this program is started again, by systemd."""
    called = name_of(sys.argv[0])
    found = shutil.which(sys.argv[0])
    if called != "python -m connector" and found is not None:
        return {"command": (str(Path(found).absolute()),)}
    import connector

    root = str(Path(connector.__file__ or "").absolute().parents[1])
    installed = root in (*site.getsitepackages(), site.getusersitepackages())
    return {
        "command": (sys.executable, "-m", "connector"),
        "python_path": "" if installed else root,
    }


# --- what was written


def _tell(
    plan: Plan, files: list[Path], kept: list[Path], *, show_secrets: bool, as_json: bool
) -> None:
    command = name_of(sys.argv[0])
    shown = {
        peer.peer_id: (plan.secrets_folder / peer.file_name).read_text("ascii").strip()
        for peer in plan.peers
        if show_secrets
    }
    steps = next_steps(plan, command)
    if as_json:
        peers = [
            {
                "peerId": peer.peer_id,
                "dials": bool(peer.url),
                "url": peer.url or plan.url_told,
                "secretFile": str(plan.secrets_folder / peer.file_name),
                **({"secret": shown[peer.peer_id]} if show_secrets else {}),
            }
            for peer in plan.peers
        ]
        body = {
            "folder": str(plan.folder),
            "nodeId": plan.node_id,
            "ilpAddress": plan.ilp_address or None,
            "url": plan.http_url,
            "btpUrl": plan.url_told,
            "files": [str(path) for path in files],
            "kept": [str(path) for path in kept],
            "peers": peers,
            "next": steps,
        }
        print(json.dumps(body, indent=2))
        return
    for path in files:
        print(f"wrote {path}")
    for path in kept:
        print(f"kept  {path}: it was there, and somebody may know it")
    for name, secret in shown.items():
        print(f"secret of {name}: {secret}")
    print(f"\n{plan.node_id} is set up. Next:")
    for line in steps:
        print(line)
