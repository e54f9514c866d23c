"""What `init` writes: a commented configuration, secrets, and a unit of systemd.

`texts_of` makes the text of every file from a `Plan`; `written` puts them on disk. The configuration is a
file of variables, which systemd, a shell and Docker read alike, because a variable can name a file for
its secret and YAML cannot. A value with a character that one of the three would change is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connector.base.errors import ConfigError, ConflictError, EnvironmentFault
from connector.base.files import replace_private
from connector.base.words import words_of

CONFIG_NAME: Final = "connector.env"
UNIT_NAME: Final = "connector.service"
SECRETS_NAME: Final = "secrets"
DATA_NAME: Final = "data"
ADMIN_KEY: Final = "admin-api-key"
READ_KEY: Final = "read-api-key"
SECRET_OCTETS: Final = 24
"""Random octets of a new secret: 32 characters in base64."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./~+@:,=-]*")
"""What the shell, systemd and Docker take as it stands."""


@dataclass(frozen=True, slots=True)
class PlannedPeer:
    """A neighbour."""

    peer_id: str
    url: str = ""
    """Where it is dialled; empty: it dials this node."""
    relation: str = "peer"
    routes: tuple[str, ...] = ()
    """Prefixes that are reached through it."""
    secret: str = ""
    """What it gave us; empty: one is made."""

    @property
    def variable(self) -> str:
        """How the names of its variables begin."""
        return f"BTP_PEER_{self.peer_id.upper().replace('-', '_')}"

    @property
    def file_name(self) -> str:
        """Of its secret."""
        return f"peer-{self.peer_id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A node, as an operator wants it."""

    folder: Path
    """Absolute."""
    node_id: str
    ilp_address: str
    """Empty: the parent gives it."""
    asset_code: str = "USD"
    asset_scale: int = 9
    btp_host: str = "127.0.0.1"
    btp_port: int = 3000
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    btp_url: str = ""
    """How neighbours reach the BTP listener; empty: made from its address."""
    peers: tuple[PlannedPeer, ...] = ()
    command: tuple[str, ...] = ("connector",)
    """How this program is started, without arguments; the first one absolute."""
    python_path: str = ""
    """PYTHONPATH of the unit; empty: none is needed."""
    user: str = "connector"
    """Who runs it under systemd."""

    @property
    def url_told(self) -> str:
        """Where neighbours dial this node."""
        if self.btp_url:
            return self.btp_url
        host = self.btp_host
        if host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
            host = os.uname().nodename
        return f"ws://{f'[{host}]' if ':' in host else host}:{self.btp_port}"

    @property
    def http_url(self) -> str:
        """Of the node's API, from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.http_host, self.http_host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.http_port}"

    @property
    def secrets_folder(self) -> Path:
        """Of all its secrets."""
        return self.folder / SECRETS_NAME

    @property
    def secret_names(self) -> list[str]:
        """The files of its secrets."""
        return [ADMIN_KEY, READ_KEY, *(peer.file_name for peer in self.peers)]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    files: list[Path]
    kept: list[Path] = field(default_factory=list)
    """Secrets that were there, and that stay: a neighbour knows them."""


def variables_of(plan: Plan) -> dict[str, str]:
    """The variables that are set, by name.

    Raises:
        ConfigError: a value would not survive a shell.
    """
    found = {
        "NODE_ID": plan.node_id,
        "ILP_ADDRESS": plan.ilp_address,
        "ASSET_CODE": plan.asset_code,
        "ASSET_SCALE": str(plan.asset_scale),
        "DATA_DIR": str(plan.folder / DATA_NAME),
        "BTP_SERVER_HOST": plan.btp_host,
        "BTP_SERVER_PORT": str(plan.btp_port),
        "HTTP_HOST": plan.http_host,
        "HTTP_PORT": str(plan.http_port),
        "ADMIN_API_KEY_FILE": str(plan.secrets_folder / ADMIN_KEY),
        "READ_API_KEY_FILE": str(plan.secrets_folder / READ_KEY),
    }
    for peer in plan.peers:
        found[f"{peer.variable}_SECRET_FILE"] = str(plan.secrets_folder / peer.file_name)
        if peer.url:
            found[f"{peer.variable}_URL"] = peer.url
        if peer.relation != "peer":
            found[f"{peer.variable}_RELATION"] = peer.relation
        if peer.routes:
            found[f"{peer.variable}_ROUTES"] = ",".join(peer.routes)
    strange = [name for name, value in found.items() if not _PLAIN.fullmatch(value)]
    if strange:
        raise ConfigError(
            [f"{name}: has a character that a shell or systemd would change" for name in strange]
        )
    return {name: value for name, value in found.items() if value}


def config_text(plan: Plan) -> str:
    """The configuration, with what each line means."""
    has = variables_of(plan)

    def lines(*names: str) -> str:
        return "".join(f"{name}={has[name]}\n" for name in names if name in has)

    unset = "" if plan.ilp_address else "# ILP_ADDRESS is not set: the parent gives it (ILDCP).\n"
    peers = "".join(_peer_text(plan, peer, has) for peer in plan.peers)
    return f"""\
# Configuration of the connector {plan.node_id}, made by `connector init`. Every setting: docs/configuration.md.
#
#   check it    set -a; . {plan.folder / CONFIG_NAME}; set +a; connector check-config
#   run it      the same with: connector run
#
# A line is NAME=VALUE without quotes, as systemd, a shell and `docker run --env-file` read it. A line that
# begins with `# NAME=` is off. Secrets are in files of their own: NAME_FILE names the file.

# --- the node

# Its name, in logs and as its user name where it dials; neighbours know it as a peer by this id.
{lines("NODE_ID")}
# Its ILP address; packets for it and below it end here.
{unset}{lines("ILP_ADDRESS")}
# Asset of peers that name none. Amounts are whole numbers of 10**-ASSET_SCALE. It cannot change while there are balances.
{lines("ASSET_CODE", "ASSET_SCALE")}
# Ledger, outbox, events, and what is changed while the node runs. Back it up (docs/deployment.md).
{lines("DATA_DIR")}
# --- listeners

# BTP: where neighbours connect. 0.0.0.0 takes connections from other machines; use TLS there.
{lines("BTP_SERVER_HOST", "BTP_SERVER_PORT")}# BTP_TLS_CERT=/etc/ssl/connector.pem
# BTP_TLS_KEY=/etc/ssl/connector.key

# Health, metrics, API and page. Keep it on loopback, or behind a proxy with TLS.
{lines("HTTP_HOST", "HTTP_PORT")}
# Keys of the API: the first may change everything, the second only reads.
{lines("ADMIN_API_KEY_FILE", "READ_API_KEY_FILE")}
# --- money

# What a peer that names no limit may owe this node, in smallest units.
# CREDIT_LIMIT=1000000000

# Taken from what passes, in hundredths of a percent, rounded up.
# FEE_BASIS_POINTS=0

# Accounts in a TigerBeetle cluster instead of a ledger in DATA_DIR: both or neither (docs/tigerbeetle.md).
# TIGERBEETLE_CLUSTER_ID=1
# TIGERBEETLE_REPLICAS=127.0.0.1:3001

# --- logs

# debug, info, warning or error.
# LOG_LEVEL=info

# --- peers
#
# A peer is a group of variables BTP_PEER_<ID>_*. More of them while the node runs: `connector peers add`.
{peers}"""


def _peer_text(plan: Plan, peer: PlannedPeer, has: Mapping[str, str]) -> str:
    dialled = f"dialled at {peer.url}" if peer.url else f"it dials {plan.url_told}"
    own = "".join(
        f"{name}={value}\n" for name, value in has.items() if name.startswith(f"{peer.variable}_")
    )
    return f"""
# {peer.peer_id}: a {peer.relation}, {dialled}
{own}# {peer.variable}_CREDIT_LIMIT=1000000000
# {peer.variable}_MAX_PAYABLE=1000000000
# {peer.variable}_SETTLE_THRESHOLD=500000000
"""


def unit_text(plan: Plan) -> str:
    """The unit of systemd."""
    start = " ".join(plan.command)
    if not all(map(_PLAIN.fullmatch, (*plan.command, plan.python_path, plan.user))):
        raise ConfigError(["the path of this program has a character that systemd would change"])
    path = f"Environment=PYTHONPATH={plan.python_path}\n" if plan.python_path else ""
    return f"""\
# Made by `connector init`.
[Unit]
Description=Interledger connector {plan.node_id}
Wants=network-online.target
After=network-online.target

[Service]
User={plan.user}
EnvironmentFile={plan.folder / CONFIG_NAME}
{path}ExecStart={start} run
Restart=on-failure
# A wrong configuration, and another process that has taken over: the same again ends in the same way.
RestartPreventExitStatus=2 3
RestartSec=2
# It waits for packets in flight before it stops.
TimeoutStopSec=90
LimitNOFILE=10240
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ReadWritePaths={plan.folder / DATA_NAME}

[Install]
WantedBy=multi-user.target
"""


def trial_variables(plan: Plan) -> dict[str, str]:
    """Its variables with stand-ins for the secrets, to be checked as a configuration before anything is written.

    Raises:
        ConfigError: a value would not survive a shell or systemd.
    """
    unit_text(plan)
    values = variables_of(plan)
    for name in [name for name in values if name.endswith("_FILE")]:
        del values[name]
        values[name.removesuffix("_FILE")] = f"{name.lower()}-of-{'x' * SECRET_OCTETS}"
    for peer in plan.peers:
        if peer.secret:
            values[f"{peer.variable}_SECRET"] = peer.secret
    return values


def written(plan: Plan, *, force: bool, new_secret: Callable[[], str]) -> Written:
    """Write all files of a checked plan; when one fails, those that are new are taken away again.

    Secrets that are there stay, with `force` too, but for those that a neighbour gave: somebody knows them.

    Args:
        plan: a checked one, see `trial_variables`.
        force: replace a configuration and a unit that are there.
        new_secret: makes one.

    Raises:
        ConflictError: something is there, and `force` is not set.
        EnvironmentFault: a file cannot be written.
    """
    texts = {CONFIG_NAME: config_text(plan), UNIT_NAME: unit_text(plan)}
    given = {peer.file_name: peer.secret for peer in plan.peers if peer.secret}
    folder = plan.secrets_folder
    there = [
        path
        for path in (
            *(plan.folder / name for name in texts),
            *(folder / name for name in plan.secret_names),
        )
        if path.exists() or path.is_symlink()
    ]
    if there and not force:
        raise ConflictError(
            f"{', '.join(map(str, there))}: there already; nothing was written. --force writes a new "
            "configuration; secrets that are there stay"
        )
    new: list[Path] = []
    kept: list[Path] = []
    try:
        _private_folders(plan)
        for name in plan.secret_names:
            path = folder / name
            if path in there and not path.is_symlink() and name not in given:
                path.chmod(0o600)
                kept.append(path)
                continue
            _put(path, given.get(name) or new_secret(), there, new)
        for name, text in texts.items():
            _put(plan.folder / name, text, there, new)
        # systemd and whoever copies it read it; it has no secret.
        (plan.folder / UNIT_NAME).chmod(0o644)
    except OSError as error:
        for path in new:
            path.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"{error.filename or plan.folder} cannot be written: {words_of(error)}"
        ) from None
    return Written([path for path in _all(plan) if path not in kept], kept)


def _put(path: Path, text: str, there: Sequence[Path], new: list[Path]) -> None:
    replace_private(path, text if text.endswith("\n") else text + "\n")
    if path not in there:
        new.append(path)


def _private_folders(plan: Plan) -> None:
    """Make the folders; those of secrets and books are for this user only, also if they were there."""
    plan.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (plan.secrets_folder, plan.folder / DATA_NAME):
        if folder.is_symlink():
            raise OSError(0, "it is a symbolic link", str(folder))
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)


def _all(plan: Plan) -> list[Path]:
    return [
        plan.folder / CONFIG_NAME,
        plan.folder / UNIT_NAME,
        *(plan.secrets_folder / name for name in plan.secret_names),
    ]


def next_steps(plan: Plan, command: str) -> list[str]:
    """What is to be done now, line by line.

    Args:
        plan: that was written.
        command: what to type for this program.
    """
    config, unit = plan.folder / CONFIG_NAME, plan.folder / UNIT_NAME
    service = f"connector-{plan.node_id}"
    steps = [
        "1. Start it:",
        f"     (set -a; . {config}; {command} run)",
        "   or as a service:",
        f"     sudo cp {unit} /etc/systemd/system/{service}.service",
        f"     sudo systemctl enable --now {service}",
        "   To ask it by its name from now on (--node):",
        (
            f"     {command} nodes add {plan.node_id} --url {plan.http_url}"
            f" --key-file {plan.secrets_folder / ADMIN_KEY}"
        ),
    ]
    if not plan.peers:
        steps += [
            "2. Add a neighbour while it runs:",
            f"     export ADMIN_API_KEY=$(cat {plan.secrets_folder / ADMIN_KEY})",
            f"     {command} peers add PEER --new-secret --url {plan.http_url}",
        ]
    for peer in plan.peers:
        secret = plan.secrets_folder / peer.file_name
        route = f" --route {plan.ilp_address}" if plan.ilp_address else ""
        dial = "" if peer.url else f" --dial {plan.url_told}"
        relation = {"parent": " --relation child", "child": " --relation parent"}
        steps += [
            f"2. Tell {peer.peer_id}, where nobody else reads it:",
            f"     peer id {plan.node_id}, asset {plan.asset_code}/{plan.asset_scale}"
            + (f", address {plan.ilp_address}" if plan.ilp_address else ""),
            f"     URL     {'none: we dial ' + peer.url if peer.url else plan.url_told}",
            f"     secret  the text in {secret}"
            + (" (which it gave you)" if peer.secret else " (--show-secrets prints it)"),
            f"   If {peer.peer_id} is a node of this software, there, with the secret in FILE:",
            f"     connector peers add {plan.node_id} --secret-file FILE{dial}{route}"
            + relation.get(peer.relation, ""),
        ]
        if not peer.url:
            via = f" --route {plan.ilp_address}={plan.node_id}" if plan.ilp_address else ""
            steps += [
                "   or, if it is new:",
                (
                    f"     connector init FOLDER --node-id {peer.peer_id} --peer {plan.node_id}={plan.url_told}"
                    f" --peer-secret-file {plan.node_id}=FILE{via}"
                ),
            ]
    if plan.peers:
        steps += [
            "3. See whether the links are up:",
            f"     {command} peers --url {plan.http_url}",
        ]
        for peer in plan.peers:
            if peer.routes:
                steps.append(
                    f"     {command} ping {peer.routes[0]} --url {plan.http_url} "
                    f'--key "$(cat {plan.secrets_folder / ADMIN_KEY})"'
                )
    return steps
