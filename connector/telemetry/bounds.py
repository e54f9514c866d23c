"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

# Events
EVENT_TEXT_CHARACTERS_MAX: Final = 512
"""Of a text from outside, such as the message of a Reject. A character takes up to 6 octets."""
TELEMETRY_RING_EVENTS_MAX: Final = 8192

# Metrics: a rendered text is kept this long, or this many times as long as rendering it took, whichever
# is longer. So rendering takes at most a twentieth of the time, however many ask, as long as one takes
# no more than half a second; then METRICS_TEXT_SECONDS_MAX applies.
METRICS_TEXT_SECONDS_MIN: Final = 1.0
METRICS_TEXT_RENDERINGS: Final = 20.0
METRICS_TEXT_SECONDS_MAX: Final = 10.0

# Traces
TRACED_PACKETS_MAX: Final = 10_000
TRACE_RECORDS_MAX: Final = 20_000
TRACE_RECORDS_PER_REQUEST_MAX: Final = 500
TRACE_SEND_SECONDS_MAX: Final = 5.0
TRACE_ANSWER_BYTES_MAX: Final = 65_536

# Rows of the node for charts, in memory: a quarter of an hour by the second, a week by the minute.
AGGREGATE_SECONDS_MAX: Final = 960
AGGREGATE_MINUTES_MAX: Final = 7 * 1440 + 10
AGGREGATE_QUARTERS_MAX: Final = 7 * 96 + 2
AGGREGATE_POINTS_SHOWN_MAX: Final = 2048

# Those of peers in memory: an hour, by the minute; on disk in octets, and of them a quarter of the file.
PEER_MINUTES_MAX: Final = 60
PEER_ACTIVITY_MS: Final = 3000
PEER_MINUTES_RESTORED_MAX: Final = 60_000
MINUTES_BYTES_MAX: Final = 32 << 20
MINUTES_QUEUED_MAX: Final = 20_000

SEARCH_EVENTS_MAX: Final = 20_000
"""Stored events that are looked at for one answer of a search: about 0.1 s."""

# Viewers
VIEWER_FRAMES_MAX: Final = 200
VIEWER_FRAME_EVENTS_MAX: Final = 500
VIEWER_PACKET_EVENTS_MAX: Final = 300

# The event store
EVENT_STORE_QUEUE_EVENTS_MAX: Final = TELEMETRY_RING_EVENTS_MAX
"""Those are in the ring as well: the queue needs next to no memory of its own."""
EVENT_STORE_BYTES_MIN: Final = 1 << 20
"""Below that the empty file, its indexes and free pages take most of it."""
HISTORY_FINE_SECONDS: Final = 3600

# The log of the node (`event_log`)
EVENT_BYTES_MIN: Final = 128
"""That a row takes at least, with its indexes."""
LOG_LINKS_AT_ONCE_MAX: Final = 60
LOG_LINKS_PER_HOUR_MAX: Final = 20
LOG_PEERS_REMEMBERED_MAX: Final = 20_000
ALERT_SECONDS_MIN: Final = 60.0
"""Between two alerts of the same name and peer."""
ALERTS_REMEMBERED_MAX: Final = 2000
