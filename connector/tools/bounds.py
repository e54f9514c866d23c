"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

# Generated compose files. A TigerBeetle cluster keeps 64 sessions; some are left for audits.
COMPOSE_NODES_MAX: Final = 200
COMPOSE_NODES_TIGERBEETLE_MAX: Final = 60
# The part of a packet's lifetime for all hops together, so that packets pass the longest line.
COMPOSE_WINDOWS_MS_MAX: Final = 15_000
COMPOSE_WINDOW_MS_MAX: Final = 1000
assert COMPOSE_NODES_TIGERBEETLE_MAX <= COMPOSE_NODES_MAX < COMPOSE_WINDOWS_MS_MAX
# A node's own API, asked by a command: /api/accounts of 10,000 peers takes about 6 MB.
NODE_ANSWER_BYTES_MAX: Final = 32 << 20
NODE_SECONDS_MAX: Final = 5.0
NODE_ADMIN_SECONDS_MAX: Final = 10.0
NODE_KNOCK_SECONDS_MAX: Final = 2.0
"""For looking whether anything answers."""
# Named nodes
NODES_MAX: Final = 1000
NODES_FILE_BYTES_MAX: Final = 4 << 20
KEY_FILE_BYTES_MAX: Final = 4096
# A message of a node's live feed.
FEED_MESSAGE_BYTES_MAX: Final = 2 * limits.VIEWER_BYTES_MAX
# A sender that is stopped waits this long for the answers that are under way.
SENDER_STOP_SECONDS_MAX: Final = 1.0
DEMO_START_SECONDS_MAX: Final = 30.0
DEMO_REST_SECONDS_MAX: Final = 15.0
"""Until no node holds money for a packet, after the last answer."""
# Audits
AUDIT_MIRROR_ATTEMPTS_MAX: Final = 4
AUDIT_COMPARED_TRANSFERS_MAX: Final = 1_000_000
AUDIT_UNMATCHED_SHOWN_MAX: Final = 5
# One BTP connection of `ping`, `trace` and `conformance`.
PLAIN_BTP_CLOSE_SECONDS_MAX: Final = 2.0
PLAIN_BTP_UNASKED_MAX: Final = 100
# `ping` and `trace`
PROBE_ANSWER_SECONDS_MORE: Final = 5.0
"""Waited for an answer beyond the expiry: a connector answers before it."""
PINGS_KEPT_MAX: Final = 100_000
TRACE_STEP_MS: Final = 250
TRACE_MS_MAX: Final = 30_000
TRACE_ATTEMPTS_MAX: Final = 2
"""Of one probe that gets no word from a hop."""
TRACE_HOPS_MAX: Final = 64
# `conformance`
CONFORMANCE_ANSWER_SECONDS_MAX: Final = 5.0
CONFORMANCE_CHECK_SECONDS_MAX: Final = 20.0
CONFORMANCE_EXPIRY_MS: Final = 10_000
CONFORMANCE_LOGIN_SECONDS_MAX: Final = 15.0
"""How long a peer may leave a connection open that does not log in."""
CONFORMANCE_DETAIL_CHARACTERS_MAX: Final = 300
CONFORMANCE_PIPELINED: Final = 50
CONFORMANCE_LARGE_BYTES: Final = 4 << 20
