"""The history of one packet from its events: outcome, times, and ledger transfers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from connector.telemetry.events import iso

_STEPS: Final = (
    ("reserved", "reservedMs"),
    ("forwarded", "forwardedMs"),
    ("answered", "answeredMs"),
    ("posted", "postedMs"),
)
_HOP: Final = (
    "packetId", "status", "peerId", "nextHop", "destination", "amount", "amountOut", "fee",
    "expiresAt", "receivedAt", "durationMs", "code", "message", "triggeredBy",
)  # fmt: skip
_STATUS: Final = {"PACKET_FULFILLED": "fulfilled", "PACKET_REJECTED": "rejected"}


def packet_timeline(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One packet as the API shows it (docs/api.md). `events`: its `PACKET_*` events, at least one."""
    by_type = {event["type"]: event for event in events}
    received = by_type.get("PACKET_RECEIVED", {})
    forwarded = by_type.get("PACKET_FORWARDED", {})
    end: dict[str, Any] = by_type.get("PACKET_FULFILLED") or by_type.get("PACKET_REJECTED") or {}
    status = _STATUS.get(end.get("type", ""), "pending")
    known = {**events[0], **received, **forwarded, **end}
    return {
        "packetId": known["packetId"],
        "status": status,
        "peerId": known["peerId"],
        "nextHop": known.get("nextHop"),
        "destination": known["destination"],
        "amount": (received or end or forwarded)["amount"],
        "amountOut": forwarded.get("amount"),
        "fee": forwarded.get("fee"),
        "executionCondition": received.get("executionCondition"),
        "expiresAt": received.get("expiresAt"),
        "receivedAt": _at(received, end, 0.0) if received or end else None,
        "durationMs": end.get("durationMs"),
        "code": end.get("code"),
        "message": end.get("message"),
        "triggeredBy": end.get("triggeredBy"),
        "timeline": _timeline(received, forwarded, end, status),
        "transfers": _transfers(end, status),
        "events": list(events),
    }


def hop_of(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One packet as one hop of its way: `packet_timeline` without ledger and events.

    `ways`: the next hops that it was sent to, in that order.
    """
    whole = packet_timeline(events)
    end = next((one for one in events if one["type"] in _STATUS), {})
    return {
        **{name: whole[name] for name in _HOP},
        **{name: end.get(name) for _, name in _STEPS},
        "ways": [one["nextHop"] for one in events if one["type"] == "PACKET_FORWARDED"],
    }


def _timeline(
    received: dict[str, Any], forwarded: dict[str, Any], end: dict[str, Any], status: str
) -> list[dict[str, Any]]:
    steps: list[tuple[str, float]] = [("received", 0.0)]
    if end:
        steps += [(step, end[name]) for step, name in _STEPS if end.get(name) is not None]
        steps.append((status, end["durationMs"]))
    elif received and forwarded:
        steps.append(("forwarded", float(_ms(forwarded) - _ms(received))))
    return [
        {"step": step, "ms": ms, "at": _at(received or forwarded, end, ms)} for step, ms in steps
    ]


def _transfers(end: dict[str, Any], status: str) -> list[dict[str, str]]:
    resolve = "post" if status == "fulfilled" else "void"
    return [
        {"id": transfer_id, "step": step}
        for step, name in (("reserve", "reserveIds"), (resolve, "resolveIds"))
        for transfer_id in end.get(name, "").split()
    ]


def _at(first: dict[str, Any], end: dict[str, Any], after_ms: float) -> str:
    """The time of a step; without the first event, computed back from the end."""
    began_ms = _ms(first) if first else _ms(end) - int(end["durationMs"])
    return iso(began_ms + int(after_ms))


def _ms(event: dict[str, Any]) -> int:
    moment = datetime.fromisoformat(event["timestamp"])
    return round(moment.timestamp() * 1000)
