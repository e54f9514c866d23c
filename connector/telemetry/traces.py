"""OpenTelemetry traces of sampled packets, sent as OTLP over HTTP.

One span for the packet, and one for each wait: the reservation, the next hop, the post. They are
made from the events of recorded packets, so they cost the packet path nothing. The trace id is
derived from the execution condition, which all nodes of a path see: their spans form one trace, and
they sample the same packets without coordination.

Only JSON is sent (OTLP has two encodings; collectors take both), so nothing needs to be installed.
Spans that cannot be delivered are dropped and counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from connector.base.errors import HttpError
from connector.base.http import HttpClient
from connector.base.log import Log
from connector.telemetry import bounds
from connector.telemetry.bus import Emitted
from connector.telemetry.events import (
    PacketForwarded,
    PacketFulfilled,
    PacketReceived,
    PacketRejected,
)
from connector.version import __version__

SEND_SECONDS: Final = 1.0
PATH: Final = "/v1/traces"
_SERVER: Final = 2
_CLIENT: Final = 3
_ERROR: Final = 2
_PING_CONDITION: Final = hashlib.sha256(b"ping" * 8).digest()
_Span = dict[str, Any]


class Traces:
    """Takes events as they are flushed and sends spans, once a second."""

    def __init__(self, *, endpoint: str, sample_ratio: float, node_id: str, log: Log) -> None:
        """`endpoint` is a collector, such as http://localhost:4318; a path replaces /v1/traces."""
        self.dropped = 0
        """Spans that could not be delivered, or exceeded the queue."""
        self.url: Final = endpoint.rstrip("/") + (
            "" if urlsplit(endpoint).path.strip("/") else PATH
        )
        self._threshold = int(sample_ratio * (1 << 64))
        self._node_id = node_id
        self._log = log
        self._begun: dict[int, tuple[Emitted, PacketForwarded | None]] = {}
        self._spans: deque[_Span] = deque()
        self._failing = False

    def take(self, batch: Sequence[Emitted]) -> None:
        """Make spans of flushed events; never blocks."""
        for one in batch:
            event = one.event
            if isinstance(event, PacketReceived):
                if int.from_bytes(trace_id(event)[:8], "big") < self._threshold:
                    if len(self._begun) >= bounds.TRACED_PACKETS_MAX:
                        del self._begun[next(iter(self._begun))]
                    self._begun[event.packet_id] = (one, None)
            elif isinstance(event, PacketForwarded):
                begun = self._begun.get(event.packet_id)
                if begun is not None:
                    self._begun[event.packet_id] = (begun[0], event)
            elif isinstance(event, PacketFulfilled | PacketRejected):
                begun = self._begun.pop(event.packet_id, None)
                if begun is not None:
                    self._add(spans_of(self._node_id, *begun, event))

    def _add(self, spans: list[_Span]) -> None:
        for span in spans:
            if len(self._spans) >= bounds.TRACE_RECORDS_MAX:
                self._spans.popleft()
                self.dropped += 1
            self._spans.append(span)

    async def run(self) -> None:
        """Send until cancelled."""
        async with HttpClient(
            seconds_max=bounds.TRACE_SEND_SECONDS_MAX,
            answer_bytes_max=bounds.TRACE_ANSWER_BYTES_MAX,
            connections_max=1,
        ) as client:
            while True:
                await asyncio.sleep(SEND_SECONDS)
                while self._spans:
                    if not await self._send(client):
                        break

    async def _send(self, client: HttpClient) -> bool:
        """Send one request; returns whether the collector accepted it. Logs changes only."""
        count = min(len(self._spans), bounds.TRACE_RECORDS_PER_REQUEST_MAX)
        spans = [self._spans.popleft() for _ in range(count)]
        try:
            answer = await client.ask(
                "POST",
                self.url,
                content=json.dumps(self._request(spans), separators=(",", ":")).encode(),
                headers={"Content-Type": "application/json"},
            )
            fault = "" if answer.ok else f"HTTP {answer.status}"
        except HttpError as error:
            fault = str(error)
        if fault:
            self.dropped += count
        if fault and not self._failing:
            self._log.warning("traces_failed", url=self.url, reason=fault)
        elif not fault and self._failing:
            self._log.info("traces_resumed", url=self.url, dropped=self.dropped)
        self._failing = bool(fault)
        return not fault

    def _request(self, spans: list[_Span]) -> dict[str, Any]:
        resource = _attributes(
            {
                "service.name": "ilp-connector",
                "service.instance.id": self._node_id,
                "service.version": __version__,
            }
        )
        scope = {"name": "connector", "version": __version__}
        return {
            "resourceSpans": [
                {
                    "resource": {"attributes": resource},
                    "scopeSpans": [{"scope": scope, "spans": spans}],
                }
            ]
        }


def trace_id(packet: PacketReceived) -> bytes:
    """16 octets: the same on every node that the packet passes.

    Except for pings, which all have the same condition: those are traced per node.
    """
    if packet.execution_condition == _PING_CONDITION:
        return hashlib.sha256(packet.packet_id.to_bytes(16, "big")).digest()[:16]
    return packet.execution_condition[:16]


def spans_of(
    node_id: str,
    received: Emitted,
    forwarded: PacketForwarded | None,
    end: PacketFulfilled | PacketRejected,
) -> list[_Span]:
    """The span of a packet and those within it, in OTLP's JSON."""
    begin = received.event
    assert isinstance(begin, PacketReceived)
    trace = trace_id(begin).hex()
    root = _span_id(node_id, begin.packet_id, 0)
    posted_ms = end.posted_ms if isinstance(end, PacketFulfilled) else None

    def span(
        number: int, name: str, kind: int, from_ms: float, to_ms: float, **fields: Any
    ) -> _Span:
        at_ns = received.at_ms * 1_000_000
        return {
            "traceId": trace,
            "spanId": root if number == 0 else _span_id(node_id, begin.packet_id, number),
            **({} if number == 0 else {"parentSpanId": root}),
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(at_ns + round(from_ms * 1_000_000)),
            "endTimeUnixNano": str(at_ns + round(max(from_ms, to_ms) * 1_000_000)),
            **fields,
        }

    about = {
        "ilp.node": node_id,
        "ilp.packet_id": f"{begin.packet_id:032x}",
        "ilp.peer": begin.peer_id,
        "ilp.next_hop": end.next_hop or "",
        "ilp.destination": begin.destination,
        "ilp.amount": str(begin.amount),
    }
    if forwarded is not None:
        about |= {"ilp.amount_out": str(forwarded.amount), "ilp.fee": str(forwarded.fee)}
    fields: dict[str, Any] = {}
    if isinstance(end, PacketRejected):
        about |= {"ilp.code": end.code, "ilp.triggered_by": end.triggered_by}
        fields["status"] = {"code": _ERROR, "message": f"{end.code} {end.message}"}
    spans = [
        span(0, "packet", _SERVER, 0.0, end.duration_ms, attributes=_attributes(about), **fields)
    ]
    if end.reserved_ms is not None:
        spans.append(span(1, "reserve", _CLIENT, 0.0, end.reserved_ms))
    if end.forwarded_ms is not None and end.answered_ms is not None:
        to = _attributes({"ilp.next_hop": end.next_hop or ""})
        hop = span(2, "next hop", _CLIENT, end.forwarded_ms, end.answered_ms, attributes=to)
        spans.append(hop)
    if posted_ms is not None and end.answered_ms is not None:
        spans.append(span(3, "post", _CLIENT, end.answered_ms, posted_ms))
    return spans


def _span_id(node_id: str, packet_id: int, number: int) -> str:
    octets = f"{node_id}/{packet_id}/{number}".encode()
    return hashlib.sha256(octets).hexdigest()[:16]


def _attributes(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in values.items()]
