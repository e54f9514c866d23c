"""What identifies a node and secures its links, as the read API shows it; never a secret."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import Any, Final

from connector.btp.links import Links
from connector.peering.remembered import KnownPeers
from connector.settings.model import PeerSettings, Settings
from connector.telemetry.events import iso

_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_PEM_END: Final = "-----END CERTIFICATE-----"


def keys_of(
    settings: Settings,
    known: KnownPeers,
    links: Links,
    *,
    node_id: str,
    address: str,
    now_ms: int,
) -> dict[str, Any]:
    """The answer of `/api/keys`."""
    key = settings.admin_api_key
    items = []
    for peer in settings.peers:
        one = known.peers.get(peer.id)
        link = links.live.get(peer.id)
        dialled = peer.url is not None and "wss://" in peer.url
        outbound = peer.url is not None if link is None else link.direction == "outbound"
        items.append(
            {
                "peerId": peer.id,
                "secretFingerprint": known.fingerprint(peer.secret.get_secret_value()),
                "secretSince": None if one is None else iso(one.since_ms),
                "secretAgeSeconds": None if one is None else max(0, now_ms - one.since_ms) // 1000,
                "dials": peer.url is not None,
                "tls": dialled if outbound else settings.btp_tls_cert is not None,
                "connected": links.reaches(peer.id),
            }
        )
    return {
        "nodeId": node_id,
        "ilpAddress": address,
        "adminKeySet": key is not None,
        "adminKeyFingerprint": None if key is None else known.fingerprint(key.get_secret_value()),
        "readKeySet": settings.read_api_key is not None,
        "receiverSecretSet": settings.receiver_secret is not None,
        "btpTls": certificate_of(settings.btp_tls_cert),
        "httpTls": certificate_of(settings.http_tls_cert),
        "items": items,
        "next": None,
    }


def former_until(peer: PeerSettings, now_ms: int) -> str | None:
    """Until when the former secret of a peer serves; None: there is none, or it serves no more."""
    return peer.secret_former_until if now_ms < peer.secret_former_until_ms else None


def rotations_of(settings: Settings, links: Links, now_ms: int) -> list[dict[str, Any]]:
    """The peers whose former secret still serves."""
    return [
        {"peerId": one.id, "until": until, "usesFormer": links.uses_former(one.id)}
        for one in settings.peers
        if (until := former_until(one, now_ms)) is not None
    ]


def certificate_of(path: Path | None) -> dict[str, Any]:
    """Whether a listener uses TLS, and the SHA-256 of its certificate."""
    if path is None:
        return {"enabled": False, "fingerprint": None}
    try:
        text = path.read_text("ascii")
        begin = text.index(_PEM_BEGIN)
        end = text.index(_PEM_END, begin) + len(_PEM_END)
        der = ssl.PEM_cert_to_DER_cert(text[begin:end])
    except (OSError, ValueError):
        return {"enabled": True, "fingerprint": None}
    return {"enabled": True, "fingerprint": hashlib.sha256(der).hexdigest()}
