"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

# Of requests (requirement 72: they expire after 60 s; an answer is not waited for that long).
REQUEST_EXPIRY_MS: Final = 60_000
ANSWER_MS_MAX: Final = 10_000
# Of updates (requirement 78).
EPOCHS_PER_UPDATE_MAX: Final = 50
UPDATE_PAUSE_MS_MIN: Final = 150
CONTROL_RETRY_MS: Final = 30_000
CONTROL_RETRY_MS_MIN: Final = 1_000
CONTROL_RETRY_REFUSED_MS_MAX: Final = 600_000
EPOCH_MAX: Final = 2**32 - 1
EPOCHS_LEFT_MIN: Final = 1_000_000
"""With fewer left, epochs are numbered from the first again, under another table id."""
# An epoch has a few prefixes, so that any one of them fits into an update: then so do whole epochs only.
PREFIXES_PER_EPOCH_MAX: Final = 8
ROUTE_BYTES_MAX: Final = 2048
_FORWARDED_BYTES_MAX: Final = ROUTE_BYTES_MAX + limits.ADDRESS_CHARACTERS_MAX + 16
UPDATE_HEAD_BYTES_MAX: Final = limits.ADDRESS_CHARACTERS_MAX + 64
assert (
    PREFIXES_PER_EPOCH_MAX * _FORWARDED_BYTES_MAX + UPDATE_HEAD_BYTES_MAX
    <= limits.PACKET_DATA_BYTES_MAX
)
# What is learned: of a peer, and of all. Octets as encoded; an object takes some hundred more.
ROUTES_PER_PEER_MAX: Final = 20_000
ROUTES_MAX: Final = 200_000
ROUTE_BYTES_PER_PEER_MAX: Final = 8 << 20
ROUTE_BYTES_TOTAL_MAX: Final = 64 << 20
SEGMENTS_MAX: Final = 32
# What one request may name: as many addresses of four octets (`g.a`) as there is room for, and hops that fit into
# an announcement that may be taken. More are names of no octets, which cost time and no room.
NAMES_PER_REQUEST_MAX: Final = limits.PACKET_DATA_BYTES_MAX // 4
HOPS_MAX: Final = ROUTE_BYTES_MAX // 4
FEATURES_MAX: Final = 64
PROPERTIES_MAX: Final = 32
# Work that a peer may cause: octets of its requests, a burst and per second. Each request costs so much at least.
PEER_BYTES_BURST: Final = 4 << 20
PEER_BYTES_PER_SECOND: Final = 256 << 10
REQUEST_BYTES_MIN: Final = 512
# Silence (requirement 79). A peer may ask for less than ours; a little is added for the way.
HOLD_DOWN_MS_MIN: Final = 1_000
HOLD_DOWN_SLACK_MS: Final = 5_000
# A link that is lost (docs/decisions/0015): for how long nobody is told, and for how long when its process is being
# replaced and packets wait for it (`btp.bounds.RETURN_SECONDS_MAX`); then its routes rank last.
LOST_MS: Final = 500
REPLACED_MS: Final = 30_000
LAST_RESORT_NAMES: Final = 8
"""How many times more this node names itself in a path whose next link is lost."""
# A link that is lost again and again: its routes rank last for longer each time, until it has been there for so long.
STEADY_MS: Final = 60_000
STEADY_MS_MIN: Final = 2_000
MISSED_MS: Final = 10_000
"""For how long it is remembered that a prefix had a route: packets get T01 and not F02."""
assert STEADY_MS >= STEADY_MS_MIN
ANNOUNCED_TO_SHOWN_MAX: Final = 32
"""Neighbours that are examined for whom a route is announced to, when an operator looks."""
# The journal: withdrawn prefixes that are remembered for those who have not been told yet.
WITHDRAWN_MAX: Final = 10_000
ROUTES_PER_LOOK_MAX: Final = 2000
"""Entered into the journal at a time, a few milliseconds: the node has other work, too."""
ROUTES_BELOW_AT_ONCE: Final = 250
"""Of those below one prefix, before those below another have their turn."""
ROUTES_SORTED_SINGLY_MAX: Final = 100
ROUTES_SORTED_PER_EXAMINED: Final = 20
"""Sorting all routes anew costs as much as examining one in so many."""
ROUTES_EXAMINED_PER_MS: Final = 100
"""After much work the next one waits."""
UPDATES_PER_TICK_MAX: Final = 8
"""Made at a time, each a few milliseconds; who has waited longest comes first."""
UPDATES_UNANSWERED_MAX: Final = 2
"""To a neighbour that asks anew before it has answered: each may have 32 KB."""
