"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

# Telemetry
TELEMETRY_RING_EVENTS_MAX: Final = 8192
TRACED_PACKETS_MAX: Final = 10_000
TRACE_RECORDS_MAX: Final = 20_000
TRACE_RECORDS_PER_REQUEST_MAX: Final = 500
TRACE_SEND_SECONDS_MAX: Final = 5.0
VIEWER_FRAMES_MAX: Final = 200
VIEWER_FRAME_EVENTS_MAX: Final = 500
VIEWER_PACKET_EVENTS_MAX: Final = 300
EVENT_STORE_QUEUE_EVENTS_MAX: Final = 20_000
HISTORY_FINE_SECONDS: Final = 3600
