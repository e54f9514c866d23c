"""Writes `.env.production.example`: every variable, with values for development and production.

`python scripts/env_example.py > .env.production.example`; a test fails while that is out of date. What
a setting means comes from the docstrings of connector/settings/model.py; only what differs between
development and production stands here.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import runpy
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from connector.settings.model import PeerSettings, Settings

_reference = runpy.run_path(str(Path(__file__).with_name("configuration_reference.py")))

_HEAD: Final = """\
# Every variable of the compose files and of the connector. Made by scripts/env_example.py.
#
#   cp .env.production.example .env            for docker-compose-5-peer-multihop.yml
#   cp .env.production.example docker/.env     for docker/docker-compose.production.yml
#   chmod 600 .env                             it holds secrets
#
# Replace every `change-me` (`openssl rand -hex 32` makes a secret): a connector that is not on
# loopback, as in a container, does not start with one, nor with a secret of less than 16 characters.
# For production go through the lines marked "production". scripts/deploy-5-peer-multihop.sh makes an
# .env with random secrets by itself.
# Lines that begin with `# NAME=` are off: the value shown is the default, or an example.
# docker-compose.yml (three nodes) needs none of this.
"""

# Read by compose, not by the connector: name, active value or None, meaning, development, production.
_COMPOSE: Final[tuple[tuple[str, str | None, str, str, str], ...]] = (
    (
        "SENDER_SECRET", "change-me-sender",
        "Token of whoever sends packets in at peer1, as user `sender`.",
        "a secret of its own", "a secret of its own",
    ),
    *(
        (
            f"LINK_SECRET_{n}_{n + 1}", f"change-me-{n}-{n + 1}",
            f"Shared by peer{n} and peer{n + 1}.", "a secret of its own", "a secret of its own",
        )
        for n in range(1, 5)
    ),
    (
        "CONNECTOR_IMAGE", None, "Image of the connector.",
        "ilp-connector:local, built here", "a version in your registry",
    ),
    (
        "CONNECTOR_MEM_LIMIT", None, "Memory of a connector.",
        "512m", "2g: room for a million spooled transfers",
    ),
    (
        "TIGERBEETLE_SERVER_IMAGE", None,
        "Image of the TigerBeetle server; its version must not be older than the client's.",
        "ilp-connector-tigerbeetle:0.17.9, built here", "a version in your registry",
    ),
    (
        "TIGERBEETLE_DEVELOPMENT", None,
        "Less memory (1.5 GiB), small requests, 8 client connections.",
        "false, or true on a small machine with TIGERBEETLE_MEM_LIMIT=1536m", "false, always",
    ),
    (
        "TIGERBEETLE_CACHE_GRID", None, "Cache of a TigerBeetle server, most of its memory.",
        "256MiB (about 2.3 GiB in all)", "512MiB or more",
    ),
    (
        "TIGERBEETLE_MEM_LIMIT", None, "Memory of a TigerBeetle server; with less it is killed.",
        "3g", "grid cache + 3g",
    ),
    (
        "TIGERBEETLE_AUTO_FORMAT", None,
        ("Whether a replica that never had a data file formats one. One that lost it never does: it is "
        "recovered by scripts/compose-tb.sh recover."),
        "true", "false once the cluster has run, which scripts/compose-tb.sh init sets",
    ),
    (
        "TIGERBEETLE_REPLICA_COUNT", None,
        "Replicas of the cluster; must be that of the services in the file, and cannot change.",
        "1, of the cluster 3", "3, or 5 over five machines",
    ),
    ("TIGERBEETLE_PORT", None, "Port of TigerBeetle on its network.", "3000", "3000"),
    (
        "TIGERBEETLE_DATA_DIR", None,
        "Folder of the data file in the container: the volume /data, or a folder in it.",
        "/data", "/data",
    ),
    (
        "TIGERBEETLE_MEMLOCK", None,
        ("How many octets a TigerBeetle server may lock in memory; -1: all of it. Engines without "
        "CAP_SYS_RESOURCE (rootless ones) cannot raise it."),
        "8388608", "-1, or no swap on the machine",
    ),
    (
        "TIGERBEETLE_IPV4", None, "Address of TigerBeetle, where there is one server.",
        "172.30.5.10", "the same, or one in ILP_NETWORK_SUBNET",
    ),
    *(
        (
            f"TIGERBEETLE_{n}_IPV4", None, f"Address of replica {n} of a cluster.",
            f"172.30.7.1{n}", f"172.30.9.1{n}, or one in LEDGER_NETWORK_SUBNET",
        )
        for n in range(3)
    ),
    (
        "ILP_NETWORK_SUBNET", None, "Network of the containers.",
        "172.30.5.0/24, of the cluster 172.30.7.0/24", "one that is free on the machine",
    ),
    (
        "LEDGER_NETWORK_SUBNET", None, "Network of the ledger alone, in the production file.",
        "unused", "172.30.9.0/24, or one that is free on the machine",
    ),
    ("BTP_HOST_PORT", None, "Port of the host on which BTP listens.", "3000", "3000"),
    ("HTTP_HOST_PORT", None, "Port of the host on which HTTP listens.", "8080", "8080"),
    *(
        (
            f"CONNECTOR_{name}_{what}_PORT", None,
            f"Port of the host on which {what} of connector-{name.lower()} of the cluster listens.",
            str(port), "unused",
        )
        for what, first in (("BTP", 3000), ("HTTP", 8080))
        for name, port in (("A", first), ("B", first + 1))
    ),
    (
        "BASE_IMAGE", None, "What the connector's image is built from.",
        "unset: docker/images.lock", "unset: pinned by its digest in docker/images.lock",
    ),
    (
        "TIGERBEETLE_IMAGE", None, "What the server's image is built from.",
        "unset: docker/images.lock", "unset: pinned by its digest in docker/images.lock",
    ),
    (
        "BTP_BIND_ADDRESS", None, "Address of the host on which BTP listens.",
        "127.0.0.1", "0.0.0.0 (default), or the address that peers reach",
    ),
    (
        "HTTP_BIND_ADDRESS", None, "Address of the host on which HTTP listens.",
        "127.0.0.1 (default)", "127.0.0.1, behind a proxy with TLS",
    ),
    ("PROMETHEUS_IMAGE", None, "Image of Prometheus.", "prom/prometheus:v2.53.2", "the same"),
    ("GRAFANA_IMAGE", None, "Image of Grafana.", "grafana/grafana:11.1.4", "the same"),
    (
        "SECRETS_DIR", None, "Folder of secrets that scripts/production.sh makes, for the production file.",
        "unused", "./secrets (default)",
    ),
    (
        "PUBLIC_HOST", None, "Name at which the proxy of the production file serves peers and payers.",
        "localhost", "the name that leads to this machine",
    ),
    (
        "PROXY_TLS", None, "How that proxy gets its certificate: an e-mail address for the authority, or `internal`.",
        "internal", "the e-mail address of an operator",
    ),
    (
        "PROXY_BIND_ADDRESS", None, "Address of the host on which that proxy listens.",
        "127.0.0.1", "0.0.0.0 (default); then BTP_BIND_ADDRESS=127.0.0.1",
    ),
    ("PROXY_HTTP_PORT", None, "Its port for http, which leads to https.", "8880", "80 (default)"),
    ("PROXY_HTTPS_PORT", None, "Its port for https and wss.", "8443", "443 (default)"),
    ("PROXY_IMAGE", None, "Image of that proxy.", "caddy:2.8.4", "the same"),
    (
        "ALERT_WEBHOOK_URL", None, "Where Alertmanager POSTs alerts; or docker/secrets/alertmanager/webhook-url.",
        "unset", "what wakes an operator",
    ),
    (
        "ALERTMANAGER_CONFIG", None, "Its configuration.",
        "./monitoring/alertmanager.yml", "a file of your own for mail, chat or a pager",
    ),
    ("ALERTMANAGER_IMAGE", None, "Image of Alertmanager.", "prom/alertmanager:v0.27.0", "the same"),
    (
        "HOST_METRICS_DIR", None, "Folder into which scripts/docker-metrics.sh writes.",
        "./metrics", "./metrics",
    ),
    ("NODE_EXPORTER_IMAGE", None, "Image of node-exporter, which serves that.", "prom/node-exporter:v1.8.2", "the same"),
    (
        "COLLECTOR_TARGET", None, "Where the collector hands traces on to (OTLP over HTTP).",
        "unset", "https://... of what keeps your traces",
    ),
    ("COLLECTOR_IMAGE", None, "Image of the collector.", "otel/opentelemetry-collector:0.108.0", "the same"),
)  # fmt: skip

_ACTIVE: Final = {
    "ADMIN_API_KEY": "change-me-admin",
    "METRICS_KEY": "change-me-metrics",
    "TIGERBEETLE_CLUSTER_ID": "0",
    "NODE_ID": "connector",
    "ILP_ADDRESS": "test.connector",
    "LOG_LEVEL": "info",
}

# Of settings whose default is not right for both: development, production.
_VALUES: Final = {
    "NODE_ID": ("connector", "a name that never changes: account ids are made of it"),
    "ILP_ADDRESS": ("test.connector", "the address that your parent or the network gave you"),
    "BTP_SERVER_HOST": ("127.0.0.1", "0.0.0.0 in a container (set by the image)"),
    "BTP_TLS_CERT": ("unset", "/certificates/fullchain.pem, unless a proxy ends TLS"),
    "BTP_TLS_KEY": ("unset", "/certificates/key.pem"),
    "HTTP_HOST": ("127.0.0.1", "0.0.0.0 in a container, published on loopback only"),
    "ADMIN_API_KEY": ("anything on loopback", "a secret of its own; or ADMIN_API_KEY_FILE"),
    "TRUSTED_PROXIES": ("unset", "the address of the proxy in front of HTTP, if there is one"),
    "READ_API_KEY": ("unset", "a secret of its own for those who only look"),
    "EXPLORER_NODE_KEYS": ("unset", "the READ_API_KEY of each node of EXPLORER_NODES"),
    "METRICS_KEY": ("unset", "a secret of its own, for Prometheus; or METRICS_KEY_FILE"),
    "DATA_DIR": ("./data", "/data in a container: a volume"),
    "LOG_FORMAT": ("console", "json"),
    "TIGERBEETLE_CLUSTER_ID": (
        "0: TigerBeetle keeps it for tests",
        "a number of your own, for ever",
    ),
    "TIGERBEETLE_REPLICAS": ("127.0.0.1:3001", "all replicas, host:port,host:port,host:port"),
    "CREDIT_LIMIT": ("1000000000000", "what you can afford to lose to a peer"),
    "RECEIVER_SECRET": ("anything in hex", "unset, or a secret of its own"),
    "PAY_URL": (
        "unset",
        "https://... of the proxy in front of PAY_PORT: payment pointers are https",
    ),
    "PAY_SECRET": ("unset", "unset; the same for a node and its standby"),
    "PAY_SECRET_FORMER": ("unset", "while PAY_SECRET is being changed: the one before"),
    "PAY_WEBHOOK_URL": ("unset", "where your application is told of payments"),
    "PAY_WEBHOOK_SECRET": ("unset", "a secret of its own; or PAY_WEBHOOK_SECRET_FILE"),
    "SINK_WEBHOOK_URL": ("unset", "where your application takes events"),
    "SINK_WEBHOOK_SECRET": ("unset", "a secret of its own; or SINK_WEBHOOK_SECRET_FILE"),
    "SINK_NATS_URL": ("unset", "tls://user:password@host:4222; or SINK_NATS_URL_FILE"),
    "SINK_POSTGRES_URL": (
        "unset",
        "postgresql://user:password@host/database?sslmode=verify-full; or SINK_POSTGRES_URL_FILE",
    ),
    "LOCAL_DELIVERY_URL": ("unset", "where your application takes payments"),
    "BTP_PEER_<ID>_SECRET": (
        "anything on loopback",
        "a secret of its own; or BTP_PEER_<ID>_SECRET_FILE",
    ),
    "BTP_PEER_<ID>_URL": ("ws://127.0.0.1:3001", "wss://..., always with TLS"),
    "BTP_PEER_<ID>_CREDIT_LIMIT": ("1000000000000", "what you can afford to lose to this peer"),
    "BTP_PEER_<ID>_MAX_PAYABLE": ("no bound", "what you can pay"),
    "BTP_PEER_<ID>_MAX_IN_FLIGHT_VALUE": ("no bound", "a few of its largest packets"),
    "BTP_PEER_<ID>_RATE_LIMIT": ("no bound", "what this peer is expected to send"),
    "BTP_PEER_<ID>_SETTLE_THRESHOLD": ("never", "below what the peer lets you owe it"),
}


def _setting(name: str, meaning: str, default: str) -> Iterator[str]:
    yield from _comment(meaning)
    if name in _VALUES:
        development, production = _VALUES[name]
        yield from _comment(f"development: {development}", f"production: {production}")
    else:
        yield from _comment(f"development and production: {default or 'unset'}")
    shown = name.replace("<ID>", "ALICE")
    active = _ACTIVE.get(name)
    yield f"{shown}={active}" if active is not None else f"# {shown}={default}"
    yield ""


def _comment(*lines: str) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(
            line, 100, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
        )


def _settings(model: type[BaseModel], prefix: str, left_out: str) -> Iterator[str]:
    texts = _reference["docstrings"](model)
    for name, field in model.model_fields.items():
        if name == left_out:
            continue
        default: Any = "" if field.is_required() else field.get_default()
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        known = isinstance(default, int | str | Path)
        yield from _setting(f"{prefix}{name.upper()}", texts[name], shown if known else "")


def example() -> str:
    """The file."""
    lines = [_HEAD, "# --- compose", ""]
    for name, active, meaning, development, production in _COMPOSE:
        lines += _comment(meaning, f"development: {development}", f"production: {production}")
        lines += [f"{name}={active}" if active is not None else f"# {name}=", ""]
    lines += [
        "# --- the connector (docs/configuration.md); any <NAME> can be <NAME>_FILE, a file",
        "",
    ]
    lines += _comment("YAML file with the same settings; what stands here wins.")
    lines += _comment("development and production: unset")
    lines += ["# CONFIG_FILE=", ""]
    lines += _settings(Settings, "", "peers")
    lines += ["# --- a peer, here `alice`: as many as there are", ""]
    lines += _settings(PeerSettings, "BTP_PEER_<ID>_", "id")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(example(), end="")  # noqa: T201 - what it is for
