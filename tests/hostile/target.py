"""What an attacker knows of the node: its ports, its address, and the secrets of its own peers.

The node is one that a user would run: BTP over TLS, the embedded ledger, keys for the API, other nodes'
pages, a local receiver, a source of exchange rates and a settlement engine. The last four are in the attackers' hands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

ADDRESS: Final = "g.hub"
ADMIN_KEY: Final = "key-of-the-operator-0123456789"
READ_KEY: Final = "key-of-the-viewers-0123456789"
ENGINE_TOKEN: Final = "token-of-the-engines-0123456789"
SENDER: Final = "alice"
RECEIVER: Final = "bob"
"""The two honest peers."""
PEERS: Final = 100
"""In all: the honest ones, those of the attackers, and idle ones."""
EVENTS_BYTES_MAX: Final = 64 << 20
_CREDIT: Final = 1_000_000
"""Of an attacker's peer that pays: what it may owe at a time."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Target:
    """Where the node is, and where it looks for services that attackers provide."""

    btp_port: int
    http_port: int
    pages_port: int
    """Of the page of another node (`EXPLORER_NODES`)."""
    engine_port: int
    """Of the settlement engine."""
    receiver_port: int
    """Of the local receiver (`LOCAL_DELIVERY_URL`)."""
    collector_port: int
    """Of the collector of traces (`OTLP_ENDPOINT`)."""
    pay_port: int
    """Of the listener for payment pointers."""
    ilp_http_port: int
    """Of the listener for ILP over HTTP."""
    rates_port: int
    """Of the source of exchange rates (`RATES_URL`)."""
    certificate: str
    """Path of the node's certificate, which honest peers trust."""

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The reverse of `to_json`."""
        return cls(**json.loads(text))


def secret_of(peer_id: str) -> str:
    """The token of a peer's log-in."""
    return f"secret-of-{peer_id}-0123456789"


def settings(target: Target, folder: Path, peers: Mapping[str, Mapping[str, Any]]) -> str:
    """The node's configuration file; `peers`: of the attackers, with what differs from the usual."""
    own: dict[str, Mapping[str, Any]] = {
        SENDER: {"creditLimit": 10**15},
        RECEIVER: {},
        **peers,
    }
    own |= {f"idle-{number}": {} for number in range(PEERS - len(own))}
    return yaml.safe_dump(
        {
            "nodeId": "hub",
            "ilpAddress": ADDRESS,
            "btpServerPort": target.btp_port,
            "btpTlsCert": target.certificate,
            "btpTlsKey": str(folder / "key.pem"),
            "httpPort": target.http_port,
            "adminApiKey": ADMIN_KEY,
            "readApiKey": READ_KEY,
            "dataDir": str(folder / "data"),
            "logFormat": "json",
            "explorerMaxBytes": EVENTS_BYTES_MAX,
            "explorerNodes": [f"http://127.0.0.1:{target.pages_port}"],
            "localDeliveryUrl": f"http://127.0.0.1:{target.receiver_port}/deliver",
            "payPort": target.pay_port,
            "ilpHttpPort": target.ilp_http_port,
            "ratesUrl": f"http://127.0.0.1:{target.rates_port}/rates",
            "ratesMaxAgeSeconds": 2,
            "otlpEndpoint": f"http://127.0.0.1:{target.collector_port}",
            "settlementToken": ENGINE_TOKEN,
            "creditLimit": _CREDIT,
            "peers": [_peer(peer_id, fields, target) for peer_id, fields in own.items()],
        }
    )


def _peer(peer_id: str, fields: Mapping[str, Any], target: Target) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": peer_id,
        "secret": secret_of(peer_id),
        "routes": [f"{ADDRESS}.{peer_id}"],
        **fields,
    }
    if found.pop("engine", False):
        found["settlementEngineUrl"] = f"http://127.0.0.1:{target.engine_port}"
    return found


def peer_ids(peers: Iterable[str]) -> list[str]:
    """All peers of the node that pay or are paid; idle ones do neither."""
    return [SENDER, RECEIVER, *peers]
