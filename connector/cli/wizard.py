"""What `init` asks on a terminal, and what is no answer to it."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer

from connector.base.errors import ConfigError
from connector.cli import bounds
from connector.cli.common import fail
from connector.tools.setup import PlannedPeer

RELATIONS: Final = ("peer", "parent", "child")
_PORT_TRIES: Final = 100
"""Ports above the usual one that are tried for a free one."""


class Wizard:
    """Asks for what is not given, on a terminal; elsewhere takes the defaults."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks

    def text(
        self, question: str, given: str | None, default: str, fault: Callable[[str], str]
    ) -> str:
        """A value; one that is given is taken as it is, and checked with the rest."""
        if given is not None or not self._asks:
            value = default if given is None else given
            if said := fault(value):
                raise ConfigError([f"{question}: {value!r} {said}"])
            return value
        while True:
            shown = f" [{default}]" if default else ""
            print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            if not line:
                raise fail("nothing was written", 1)
            value = line.strip() or default
            if not (said := fault(value)):
                return value
            print(f"  {value!r} {said}", file=sys.stderr)

    def port(self, question: str, given: int | None, host: str, usual: int, there: str = "") -> int:
        """A port; by default that of the configuration that is there, else the usual one or the next that is free."""
        free = there or str(usual if given is not None else free_port(host, usual))
        return int(self.text(question, None if given is None else str(given), free, _port_fault))

    def peers(self, given: list[PlannedPeer]) -> list[PlannedPeer]:
        """Those of the options; without any they are asked for, one after the other."""
        if given or not self._asks:
            return given
        found: list[PlannedPeer] = []
        while True:
            name = self.text(
                "Id of a neighbour (nothing: no more)", None, "",
                lambda text: "" if not text else _new_id(text, found),
            )  # fmt: skip
            if not name:
                return found
            url = self.text(
                f"  Where {name} is dialled, ws:// or wss:// (nothing: it dials this node)",
                None,
                "",
                url_fault,
            )
            relation = self.text(
                f"  Is {name} a peer, a parent or a child?",
                None,
                "peer",
                lambda text: "" if text in RELATIONS else "is none of them",
            )
            prefixes = self.text(
                f"  Addresses that are reached through {name}, comma-separated",
                None,
                "",
                _prefixes_fault,
            )
            routes = tuple(one.strip() for one in prefixes.split(",") if one.strip())
            found.append(PlannedPeer(name, url, relation, routes, self._secret(name)))

    def _secret(self, name: str) -> str:
        while True:
            path = self.text(
                f"  A file with the secret that {name} gave you (nothing: one is made)",
                None, "", lambda _: "",
            )  # fmt: skip
            try:
                return secret_in(Path(path).expanduser()) if path else ""
            except typer.Exit:
                continue


def fault_of(variable: str, text: str) -> str:
    """Why a text is no value of a setting; empty: it is one."""
    from pydantic import TypeAdapter, ValidationError

    from connector.settings import types
    from connector.settings.faults import in_plain_words

    kinds: dict[str, Any] = {
        "ILP_ADDRESS": types.IlpAddress,
        "ASSET_CODE": types.AssetCode,
        "ASSET_SCALE": types.Scale,
        "BTP_SERVER_HOST": types.HostName,
    }
    try:
        TypeAdapter(kinds[variable]).validate_python(text)
    except ValidationError as error:
        return in_plain_words(error.errors(include_url=False)[0])[0]
    return ""


def peer_id_fault(text: str) -> str:
    """Names of nodes are ids of peers at their neighbours, so both have the narrower form."""
    if re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", text):
        return ""
    return "must be 1 to 63 lower-case letters, digits and hyphens"


def url_fault(text: str) -> str:
    """Why a neighbour cannot be dialled there; nothing is no fault."""
    from connector.base.urls import is_dialable

    return "" if not text or is_dialable(text) else "must be a ws:// or wss:// URL"


def _new_id(text: str, found: list[PlannedPeer]) -> str:
    if any(one.peer_id == text for one in found):
        return "is there already"
    return peer_id_fault(text)


def _prefixes_fault(text: str) -> str:
    from connector.ilp.address import is_prefix

    wrong = [one for one in text.replace(" ", "").split(",") if not is_prefix(one)]
    return f"has {wrong[0]!r}, which is no prefix of addresses" if wrong else ""


def _port_fault(text: str) -> str:
    is_port = text.isdecimal() and 0 < int(text) < 1 << 16
    return "" if is_port else "must be a port, 1 to 65535"


def secret_in(path: Path) -> str:
    """The secret in a file; ends the command if there is none."""
    from connector.base.files import read_bounded

    try:
        text = read_bounded(path, bounds.SECRET_FILE_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise fail(f"{path} cannot be read: {reason}", 2) from None
    if not text:
        raise fail(f"{path} is empty", 2)
    return text


def variables_there(path: Path) -> dict[str, str]:
    """The variables of a configuration that is there, as far as it can be read."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def free_port(host: str, usual: int) -> int:
    """The usual port, or the next one that nothing has; the usual one where all are taken."""
    for port in range(usual, usual + _PORT_TRIES):
        try:
            with socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            ):
                return port
        except OSError:
            continue
    return usual
