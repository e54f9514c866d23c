"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

# A batch: what is in memory of one sink, and what is delivered again after a crash.
BATCH_EVENTS_MAX: Final = 200
BATCH_BYTES_MAX: Final = 256 << 10
# Attempts
PAUSE_SECONDS_MIN: Final = 0.5
PAUSE_SECONDS_MAX: Final = 60.0
RETRY_AFTER_SECONDS_MAX: Final = 300.0
"""How long a server may ask us to wait."""
FAULT_CHARACTERS_MAX: Final = 200
BEHIND_SECONDS_MIN: Final = 30.0
"""How old the oldest event may be that is not delivered, for a sink that is called current."""
FAILURE_AGAIN_SECONDS: Final = 600.0
"""Between two lines of the log about a sink that keeps failing."""
REST_SECONDS: Final = 0.02
"""Between two batches of one sink that is behind: packets come first."""
STOP_SECONDS_MAX: Final = 2.0
"""How long a stop waits for the delivery under way, so that it does not come twice."""
CLOSE_SECONDS_MAX: Final = 1.0
LOOK_SECONDS: Final = 5.0
"""Between two looks at how far the sinks are behind."""
# Webhooks
WEBHOOK_SECONDS_MAX: Final = 10.0
WEBHOOK_ANSWER_BYTES_MAX: Final = 65_536
WEBHOOK_ERRORS_MAX: Final = 4
"""Answers 500 in a row after which it is looked for the event that makes the server fail."""
# Streams and tables
CONNECT_SECONDS_MAX: Final = 5.0
DELIVER_SECONDS_MAX: Final = 10.0
STREAM_BYTES_MAX: Final = 1 << 30
"""Of a stream that we make."""
STREAM_DUPLICATES_SECONDS: Final = 3600
"""How long it remembers the ids of what it has."""
PUBLISHED_AT_ONCE: Final = 16
"""Messages between two turns of the event loop."""
# Dead letters
DEAD_OVERHEAD_BYTES: Final = 256
"""Of a row, besides the event."""
DEAD_SHOWN_BYTES_MAX: Final = 1 << 20
"""Of events in one page of dead letters."""
