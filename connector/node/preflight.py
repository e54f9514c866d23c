"""Checks what the settings name on this machine: files and folders, before anything is opened.

`check` serves `run` and `check-config` alike, so what one accepts the other does. What can be told
from the settings by themselves is checked when they are made (`settings.model`).
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Final

from connector.base.errors import ConfigError, ListenError
from connector.node import bounds
from connector.settings.model import Settings
from connector.settings.terms import routing_terms_of
from connector.settings.types import PEER_VARIABLE
from connector.sinks.sinks import sink_faults

NO_PEERS: Final = (
    "no peer is configured, so nobody can log in and nothing can be forwarded: set "
    "BTP_PEER_<ID>_SECRET, or add peers with the admin API"
)
_NAMES_MAX: Final = 5
"""Of peers, in one line."""
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_NOT_ITS_KEY: Final = frozenset(
    # The last one: the key is of another kind than that of the certificate.
    ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
)


def without_effect(settings: Settings) -> list[str]:
    """Settings that are given and do nothing, for want of another one."""
    needs = (
        ("PAY_PORT", settings.pay_port, ("wallets", "pay_url", "pay_secret")),
        ("ILP_HTTP_PORT", settings.ilp_http_port, ("ilp_http_url", "ilp_http_tls_cert")),
        ("SINK_WEBHOOK_URL", settings.sink_webhook_url, ("sink_webhook_events",)),
        ("SINK_NATS_URL", settings.sink_nats_url, ("sink_nats_events", "sink_nats_tls_ca")),
        ("SINK_POSTGRES_URL", settings.sink_postgres_url, ("sink_postgres_events",)),
    )
    found = [
        f"{name.upper()} has no effect without {needed}"
        for needed, value, names in needs
        if value is None
        for name in names
        if getattr(settings, name)
    ]
    if settings.tigerbeetle_cluster_id is None and settings.fulfill_when == "booked":
        found.append("FULFILL_WHEN has no effect without TIGERBEETLE_CLUSTER_ID")
    for peer in settings.peers:
        if peer.http_url is None and peer.http_token is not None:
            variable = f"{PEER_VARIABLE}{peer.id.upper().replace('-', '_')}"
            found.append(f"{variable}_HTTP_TOKEN has no effect without {variable}_HTTP_URL")
    return found


def learned_first(settings: Settings) -> str:
    """What learned routes may do to those of the settings, in one sentence; empty: nothing."""
    able = [
        peer.id
        for peer in settings.peers
        if routing_terms_of(peer).receives and not peer.receive_prefixes
    ]
    covered = [
        (prefix, next_hop)
        for prefix, next_hop in (
            *((route.prefix, route.next_hop) for route in settings.routes),
            *((prefix, peer.id) for peer in settings.peers for prefix in peer.routes),
        )
        if "." in prefix and any(one != next_hop for one in able)
    ]
    if not covered:
        return ""
    names = ", ".join(able[:_NAMES_MAX]) + (", ..." if len(able) > _NAMES_MAX else "")
    return (
        f"what {names} may announce is not bounded: a longer prefix goes before a configured route such as "
        f"{covered[0][0]}={covered[0][1]}; RECEIVE_PREFIXES bounds it, RECEIVE_ROUTES=false takes nothing"
    )


def check(settings: Settings) -> None:
    """Check that certificates, keys and folders can be used. Leaves no file behind.

    Raises:
        ConfigError: with every one that cannot be used, its setting and its path.
    """
    faults: list[str] = []
    for which, cert, key in (
        ("BTP", settings.btp_tls_cert, settings.btp_tls_key),
        ("HTTP", settings.http_tls_cert, settings.http_tls_key),
        ("ILP_HTTP", settings.ilp_http_tls_cert, settings.ilp_http_tls_key),
    ):
        try:
            tls_context(which, cert, key)
        except ConfigError as error:
            faults += error.faults
    folders = [("DATA_DIR", settings.data_dir)]
    is_embedded = settings.ledger == "embedded" and settings.tigerbeetle_cluster_id is None
    if settings.ledger_archive_dir is not None and is_embedded:
        folders.append(("LEDGER_ARCHIVE_DIR", settings.ledger_archive_dir))
    faults += [fault for one in folders if (fault := _folder_fault(*one)) is not None]
    faults += sink_faults(settings)
    ca = settings.sink_nats_tls_ca
    if ca is not None and (why := _unreadable(ca)) is not None:
        faults.append(f"SINK_NATS_TLS_CA={ca} cannot be read: {why}")
    if faults:
        raise ConfigError(faults)


def check_ports(settings: Settings) -> None:
    """Check that nothing else has the ports of the listeners. Only for a node that is not running.

    Raises:
        ListenError: with every port that cannot be had.
    """
    faults: list[str] = []
    for name, host, port in (
        ("BTP_SERVER_PORT", settings.btp_server_host, settings.btp_server_port),
        ("HTTP_PORT", settings.http_host, settings.http_port),
        ("ILP_HTTP_PORT", settings.ilp_http_host, settings.ilp_http_port),
        ("PAY_PORT", settings.pay_host, settings.pay_port),
    ):
        if port is None:
            continue
        try:
            with socket.create_server((host, port), family=_family(host)):
                pass
        except OSError as error:
            # Of an address, without the text of `socket`, which names it once more.
            is_name = isinstance(error, socket.gaierror) or not error.errno
            why = error.strerror if is_name else os.strerror(error.errno or 0)
            faults.append(f"{name}={port} cannot be had on {host}: {why}; choose another one")
    if faults:
        raise ListenError("\n  ".join(faults))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _folder_fault(name: str, folder: Path) -> str | None:
    """Why no file can be made in `folder`, which need not exist yet; None: it can."""
    place = folder
    try:
        while not place.exists() and not place.is_symlink():
            place = place.parent
        if not place.is_dir():
            return f"{name}={folder} cannot be used: {place} is not a folder; choose another one"
        # A look at permissions is not enough: /proc has those of a folder, and takes no file.
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        if error.errno in _FULL:
            return None  # not a fault of the setting: a node with a full disk rejects packets
        return (
            f"{name}={folder} cannot be used: no file can be made in {place} ({error.strerror}); "
            "let this user write there, or choose another folder"
        )


def tls_context(which: str, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The TLS context of a listener; None: it has no certificate.

    Raises:
        ConfigError: certificate or key cannot be used; `which` begins the names of their settings.
    """
    if cert is None or key is None:
        return None
    cert_is, key_is = f"{which}_TLS_CERT={cert}", f"{which}_TLS_KEY={key}"
    faults = [
        f"{name} cannot be read: {why}"
        for name, path in ((cert_is, cert), (key_is, key))
        if (why := _unreadable(path)) is not None
    ]
    if faults:
        raise ConfigError(faults)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # An encrypted key would prompt for a password at a terminal, which a daemon does not have.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([_pair_fault(cert_is, key_is, cert, key, error)]) from error
    return context


def _unreadable(path: Path) -> str | None:
    try:
        # OpenSSL, which reads it again, would wait for ever for a pipe that nobody writes to.
        if not path.is_file() and not path.is_dir() and path.exists():
            return "it is not a regular file"
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _pair_fault(cert_is: str, key_is: str, cert: Path, key: Path, error: OSError) -> str:
    """Which of two readable files is at fault: OpenSSL does not tell."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cert)
    except (OSError, ssl.SSLError):
        return f"{cert_is} holds no certificate in PEM format"
    with key.open("rb") as file:
        content = file.read(bounds.PEM_BYTES_MAX)
    if getattr(error, "reason", None) in _NOT_ITS_KEY:
        return f"{key_is} is not the key of the certificate {cert}"
    if b"ENCRYPTED" in content:
        return (
            f"{key_is} is encrypted, and nobody could type its password: `openssl pkey` removes it"
        )
    if b"PRIVATE KEY-----" not in content:
        return f"{key_is} holds no private key in PEM format"
    return f"{cert_is} and {key_is} cannot be used: {error.strerror or error}"
