"""Checks settings against each other: values that are valid alone and not together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from connector.peering.model import Relation
from connector.settings import bounds
from connector.settings.types import PEER_VARIABLE, PRINTABLE, is_loopback, is_same_listener

if TYPE_CHECKING:
    from connector.settings.model import PeerSettings, Settings

_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")
_EXAMPLE: Final = re.compile(r"change[-_ ]?me", re.IGNORECASE)
"""How secrets of `.env.production.example` begin."""


def contradictions(settings: Settings) -> list[str]:
    """Every contradiction, in the names of the environment; never with a secret."""
    faults: list[str] = []
    ids: set[str] = set()
    tokens: dict[str, str] = {}
    engine_tokens: dict[str, str] = {}
    if settings.settlement_token is not None:
        engine_tokens[settings.settlement_token.get_secret_value()] = "SETTLEMENT_TOKEN"
    parents = [peer.id for peer in settings.peers if peer.relation is Relation.PARENT]
    if len(settings.peers) > bounds.PEERS_MAX:
        faults.append(f"more than {bounds.PEERS_MAX} peers")
    segments: dict[str, str] = {}
    for peer in settings.peers:
        if peer.relation is Relation.CHILD:
            segment = peer.ilp_address_segment or peer.id
            first = segments.setdefault(segment, peer.id)
            if first != peer.id:
                faults.append(
                    f"children {first} and {peer.id} have the same address segment {segment}"
                )
        if peer.id in ids:
            faults.append(f"peer {peer.id} is configured twice")
        ids.add(peer.id)
        for secret in (peer.secret, peer.secret_former):
            if secret is None:
                continue
            other = tokens.setdefault(secret.get_secret_value(), peer.id)
            if other != peer.id:
                faults.append(
                    f"peers {other} and {peer.id} have the same secret: give each its own, "
                    "since a log-in without a user name is told by its token"
                )
        if peer.settlement_token is not None:
            name = _variable(peer, "SETTLEMENT_TOKEN")
            first = engine_tokens.setdefault(peer.settlement_token.get_secret_value(), name)
            if first != name:
                faults.append(
                    f"{first} and {name} are the same: the engine of one peer could report "
                    "payments of another; give each its own"
                )
    faults.extend(
        f"the route {route.prefix or '(default)'} leads to {route.next_hop!r}, "
        "which is no configured peer"
        for route in settings.routes
        if route.next_hop not in ids
    )
    if len(parents) > 1:
        faults.append(f"more than one parent: {', '.join(parents)}")
    if (settings.btp_tls_cert is None) != (settings.btp_tls_key is None):
        faults.append("BTP_TLS_CERT and BTP_TLS_KEY go together: set both or neither")
    if (settings.http_tls_cert is None) != (settings.http_tls_key is None):
        faults.append("HTTP_TLS_CERT and HTTP_TLS_KEY go together: set both or neither")
    if 0 < settings.http_port == settings.btp_server_port and is_same_listener(
        settings.btp_server_host, settings.http_host
    ):
        faults.append(
            f"BTP_SERVER_PORT and HTTP_PORT are both {settings.http_port}: give each its own"
        )
    faults.extend(_of_ilp_http(settings))
    for name, host, port in (
        ("BTP_SERVER_PORT", settings.btp_server_host, settings.btp_server_port),
        ("HTTP_PORT", settings.http_host, settings.http_port),
        ("ILP_HTTP_PORT", settings.ilp_http_host, settings.ilp_http_port or 0),
    ):
        if 0 < port == settings.pay_port and is_same_listener(host, settings.pay_host):
            faults.append(f"{name} and PAY_PORT are both {port}: give each its own")
    if settings.pay_port is None:
        faults.extend(
            f"{name} needs PAY_PORT: without it nobody is paid here by name"
            for name, url in (
                ("PAY_DATA_URL", settings.pay_data_url),
                ("PAY_WEBHOOK_URL", settings.pay_webhook_url),
            )
            if url is not None
        )
    if settings.pay_webhook_secret is not None:
        if settings.pay_webhook_url is None:
            faults.append("PAY_WEBHOOK_SECRET needs PAY_WEBHOOK_URL: it signs what is sent there")
        if not settings.pay_webhook_secret.get_secret_value():
            faults.append("PAY_WEBHOOK_SECRET must not be empty: unset it to sign nothing")
    faults.extend(
        f"{name} must be 64 hex digits, such as the output of `openssl rand -hex 32`"
        for name, pay_secret in (
            ("PAY_SECRET", settings.pay_secret),
            ("PAY_SECRET_FORMER", settings.pay_secret_former),
        )
        if pay_secret is not None
        and not re.fullmatch(r"[0-9a-fA-F]{64}", pay_secret.get_secret_value())
    )
    if (settings.tigerbeetle_cluster_id is None) != (settings.tigerbeetle_replicas is None):
        faults.append(
            "TIGERBEETLE_CLUSTER_ID and TIGERBEETLE_REPLICAS go together: set both or neither"
        )
    if settings.tigerbeetle_history and settings.tigerbeetle_cluster_id is None:
        faults.append(
            "TIGERBEETLE_HISTORY is kept by TigerBeetle only: set TIGERBEETLE_CLUSTER_ID and "
            "TIGERBEETLE_REPLICAS too, or unset it"
        )
    for name, hexadecimal in (
        ("RECEIVER_SECRET", settings.receiver_secret),
        ("ROUTING_SECRET", settings.routing_secret),
    ):
        if hexadecimal is not None and not _HEX.fullmatch(hexadecimal.get_secret_value()):
            faults.append(f"{name} must be an even number of hex digits")
    if settings.route_hold_down_ms <= settings.route_broadcast_interval_ms:
        faults.append(
            "ROUTE_HOLD_DOWN_MS must be above ROUTE_BROADCAST_INTERVAL_MS: peers would drop our "
            "routes between two updates"
        )
    if settings.max_hold_ms < 2 * settings.message_window_ms:
        faults.append("MAX_HOLD_MS must be at least twice MESSAGE_WINDOW_MS")
    if settings.admin_api_key is not None and not settings.admin_api_key.get_secret_value():
        faults.append("ADMIN_API_KEY must not be empty: unset it to turn the admin API off")
    for name, secret in (
        ("ADMIN_API_KEY", settings.admin_api_key or None),
        ("READ_API_KEY", settings.read_api_key),
        ("METRICS_KEY", settings.metrics_key),
        ("SETTLEMENT_TOKEN", settings.settlement_token),
    ):
        if secret is not None and not PRINTABLE.fullmatch(secret.get_secret_value()):
            faults.append(f"{name} must be printable ASCII characters without spaces")
    alone = "" if settings.trusted_proxies else ", or use 127.0.0.1"
    keys = [
        ("ADMIN_API_KEY", settings.admin_api_key, "change peers"),
        ("READ_API_KEY", settings.read_api_key, "read everything"),
        ("METRICS_KEY", settings.metrics_key, "read metrics"),
    ]
    for (above, higher, may), (name, lower, only) in combinations(keys, 2):
        if higher is not None and higher == lower:
            faults.append(
                f"{name} and {above} are the same: whoever may only {only} could {may}; "
                "give each its own"
            )
    listed = {url.rstrip("/") for url in settings.explorer_nodes}
    if settings.explorer_node_keys.keys() - listed:
        faults.append("EXPLORER_NODE_KEYS has a key for a node that is not in EXPLORER_NODES")
    if settings.http_exposed and any(
        settings.settlement_engine_of(peer) and settings.settlement_token_of(peer) is None
        for peer in settings.peers
    ):
        faults.append(
            f"{settings.http_exposed}: set SETTLEMENT_TOKEN, which the settlement engines have to "
            f"show at /settlement{alone}"
        )
    if settings.http_exposed and settings.admin_api_key is None and settings.read_api_key is None:
        faults.append(
            f"{settings.http_exposed}: set ADMIN_API_KEY, or READ_API_KEY if nothing is to be changed by "
            f"the API, to protect the API and the page{alone}"
        )
    faults.extend(_of_sinks(settings))
    faults.extend(_weak_secrets(settings))
    return faults


def _of_sinks(settings: Settings) -> Iterator[str]:
    """Contradictions of sinks, and URLs of theirs that are none."""
    secret = settings.sink_webhook_secret
    if settings.sink_webhook_url is not None and secret is None:
        yield (
            "SINK_WEBHOOK_URL needs SINK_WEBHOOK_SECRET, by which the receiver knows that it is us: "
            "such as the output of `openssl rand -hex 32`"
        )
    if secret is not None:
        if settings.sink_webhook_url is None:
            yield "SINK_WEBHOOK_SECRET needs SINK_WEBHOOK_URL: it signs what is sent there"
        if len(secret.get_secret_value()) < bounds.SINK_SECRET_CHARACTERS_MIN:
            yield (
                f"SINK_WEBHOOK_SECRET has less than {bounds.SINK_SECRET_CHARACTERS_MIN} characters: "
                "use such as the output of `openssl rand -hex 32`"
            )
    urls = (
        ("SINK_NATS_URL", settings.sink_nats_url, ("nats", "tls"), "nats://host:4222"),
        (
            "SINK_POSTGRES_URL",
            settings.sink_postgres_url,
            ("postgresql", "postgres"),
            "postgresql://user@host:5432/database",
        ),
    )
    for name, url, schemes, example in urls:
        if url is None:
            continue
        text = url.get_secret_value()
        parts = [one.strip() for one in text.split(",")] if "nats" in schemes else [text]
        if not all(_is_url_of(one, schemes) for one in parts):
            yield f"{name} must be a URL such as {example}"
    if settings.explorer_max_events == 0:
        yield from (
            f"{name} needs the event store: EXPLORER_MAX_EVENTS must not be 0"
            for name, value in (
                ("SINK_WEBHOOK_URL", settings.sink_webhook_url),
                ("SINK_NATS_URL", settings.sink_nats_url),
                ("SINK_POSTGRES_URL", settings.sink_postgres_url),
            )
            if value is not None
        )


def _is_url_of(text: str, schemes: tuple[str, ...]) -> bool:
    """Whether it is a URL with one of these schemes; a database may be at a socket, without a host."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    if any(one.isspace() or not one.isprintable() for one in text):
        return False
    return parts.scheme in schemes and (bool(parts.hostname) or "host=" in parts.query)


def _of_ilp_http(settings: Settings) -> Iterator[str]:
    """Contradictions of ILP over HTTP."""
    if (settings.ilp_http_tls_cert is None) != (settings.ilp_http_tls_key is None):
        yield "ILP_HTTP_TLS_CERT and ILP_HTTP_TLS_KEY go together: set both or neither"
    port = settings.ilp_http_port or 0
    for name, host, other in (
        ("BTP_SERVER_PORT", settings.btp_server_host, settings.btp_server_port),
        ("HTTP_PORT", settings.http_host, settings.http_port),
    ):
        if 0 < port == other and is_same_listener(settings.ilp_http_host, host):
            yield f"{name} and ILP_HTTP_PORT are both {port}: give each its own"
    for peer in settings.peers:
        token = peer.http_token
        if token is not None and not PRINTABLE.fullmatch(token.get_secret_value()):
            name = _variable(peer, "HTTP_TOKEN")
            yield f"{name} must be printable ASCII characters without spaces"
        if peer.http_mode != "async":
            continue
        if peer.http_url is None:
            yield f"{_variable(peer, 'HTTP_MODE')}=async needs {_variable(peer, 'HTTP_URL')}"
        elif settings.ilp_http_port is None:
            yield (
                f"{_variable(peer, 'HTTP_MODE')}=async needs ILP_HTTP_PORT: the peer posts its "
                "answers there"
            )
        elif not port and settings.ilp_http_url is None:
            yield (
                f"{_variable(peer, 'HTTP_MODE')}=async needs ILP_HTTP_URL where ILP_HTTP_PORT is 0: "
                "the peer has to know where to post its answers"
            )


def _variable(peer: PeerSettings, suffix: str) -> str:
    """The variable of a setting of a peer."""
    return f"{PEER_VARIABLE}{peer.id.upper().replace('-', '_')}_{suffix}"


def _weak_secrets(settings: Settings) -> Iterator[str]:
    """Secrets that others know or can guess, of listeners that others can reach."""
    of_http = [
        ("ADMIN_API_KEY", settings.admin_api_key),
        ("READ_API_KEY", settings.read_api_key),
        ("METRICS_KEY", settings.metrics_key),
        ("SETTLEMENT_TOKEN", settings.settlement_token),
        *((_variable(peer, "SETTLEMENT_TOKEN"), peer.settlement_token) for peer in settings.peers),
    ]
    of_btp = [
        (_variable(peer, name), secret)
        for peer in settings.peers
        for name, secret in (("SECRET", peer.secret), ("SECRET_FORMER", peer.secret_former))
    ]
    btp = settings.btp_server_host
    btp_exposed = "" if is_loopback(btp) else f"BTP_SERVER_HOST={btp} is not loopback"
    if not btp_exposed and settings.ilp_http_port is not None:
        host = settings.ilp_http_host  # the secrets of BTP are the tokens there
        btp_exposed = "" if is_loopback(host) else f"ILP_HTTP_HOST={host} is not loopback"
    for exposed, secrets in ((settings.http_exposed, of_http), (btp_exposed, of_btp)):
        for name, secret in secrets if exposed else ():
            text = "" if secret is None else secret.get_secret_value()
            if not text:
                continue  # unset, or a fault of its own
            if _EXAMPLE.match(text):
                why = "has the value of the example"
            elif len(text) < bounds.EXPOSED_SECRET_CHARACTERS_MIN:
                why = f"has less than {bounds.EXPOSED_SECRET_CHARACTERS_MIN} characters"
            else:
                continue
            yield (
                f"{name} {why}, and {exposed}: give it a secret of its own, "
                "such as the output of `openssl rand -hex 32`"
            )
