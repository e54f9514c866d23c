"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

TELEMETRY_ROUTES_MAX: Final = 1000
# The address that a parent gives: until when it has to answer, how often it is asked again when it has
# given one, and how often another one is taken, so that one that renames us all the time moves little.
ILDCP_SECONDS_MAX: Final = 10
ILDCP_AGAIN_SECONDS: Final = 60
ILDCP_RENAMED_BURST: Final = 3
ILDCP_RENAMED_SECONDS_MIN: Final = 60
# Children have addresses below ours, with a segment of at most 64 characters and what they append.
OWN_ADDRESS_CHARACTERS_MAX: Final = 700
# How long a child that has packets in flight keeps its link when it has to ask for its address anew.
CHILD_TOLD_SECONDS_MAX: Final = 30
CONTROL_TICK_SECONDS: Final = 0.05
# Requests of peers about routes: for how many times as long as one took the node rests from them, and how many
# wait meanwhile, of one peer (a peer of any known kind has one or two) and of all. Each has up to 32 KB.
CONTROL_REST_TIMES: Final = 4
CONTROL_WAITING_PER_PEER_MAX: Final = 4
CONTROL_WAITING_MAX: Final = 512
# Learned routes that events are emitted for: a burst, and per second.
ROUTE_EVENTS_BURST: Final = 1000
ROUTE_EVENTS_PER_SECOND: Final = 20
# Learned routes that the next process begins with: for how many times as long as writing them took they are not written
# again, how many of a peer, of how many peers, and in a row of the file (an update has a bound on the names in it).
ROUTES_REST_TIMES: Final = 50
ROUTES_KEPT_PER_PEER_MAX: Final = 1000
ROUTES_KEPT_PEERS_MAX: Final = 100
ROUTES_KEPT_PER_ROW: Final = 15
# From the stop of a process to the start of the one that replaces it.
REPLACED_SECONDS_MAX: Final = 60
REPLACED_FILE_BYTES_MAX: Final = 1 << 20
STANDBY_LEDGER_TIMEOUT_MS_MAX: Final = 1000
"""How long a standby waits for an answer: looks that are further apart do not count as watching."""
CHANGE_FAULT_CHARACTERS_MAX: Final = 300
"""Of the reason in the record of an operator's change that could not be carried out."""
PEM_BYTES_MAX: Final = 1 << 20
"""Of a key file, as much as is looked at to say what is wrong with it."""
# Payments of this node
PAYMENTS_AT_ONCE_MAX: Final = 64
PAYMENTS_KEPT_MAX: Final = 10_000
"""When so many others have ended after it, a payment that has ended is forgotten; its key stays used."""
PAYMENT_KEY_CHARACTERS_MAX: Final = 100
PAYMENT_LOOK_S: Final = 1.0
"""How often a payment is looked at while nothing happens."""
PAYMENT_SECONDS: Final = 3600
PAYMENT_SECONDS_MAX: Final = 7 * 86_400
"""How long a payment may take in all: by default, and at most."""
PAYMENT_CANCEL_SECONDS_MAX: Final = 8.0
"""How long the answer to `DELETE /admin/payments/<key>` waits for what is under way."""
# Packets that were under way when the node was cut off. The ledger is asked for a few more sequences than were
# written down: that there are any means that the file is an old one.
PAYMENT_PACKETS_LOOKED_BEYOND: Final = 8
PAYMENT_PACKETS_RESENT_AT_ONCE: Final = 64
PAYMENT_ANSWER_MS_MAX: Final = 35_000
"""A little more than the switch waits for the answer to a resent packet of this node."""
PAYMENT_PACKET_RESENT_MS_MAX: Final = limits.FORMER_PACKETS_MS - 30_000
"""After its money was held: later the switch may take it for a new one."""
SPSP_SECONDS_MAX: Final = 10.0
SPSP_BYTES_MAX: Final = 65_536
# Payments that came in: kept of each kind (told, waiting, dead letters); how often they are written down.
RECEIVED_KEPT_MAX: Final = 10_000
RECEIVED_WRITE_SECONDS: Final = 0.25
RECEIVED_FAULT_SECONDS: Final = 5.0
RECEIVED_WRITTEN_AT_ONCE_MAX: Final = 1000
"""In one transaction, and one turn of the event loop."""
# The webhook: a day of attempts, from 2 s to an hour apart.
WEBHOOKS_PER_WALLET_MAX: Final = 4
WEBHOOKS_AT_ONCE_MAX: Final = 16
WEBHOOK_SECONDS_MAX: Final = 10.0
WEBHOOK_ANSWER_BYTES_MAX: Final = 4096
WEBHOOK_PAUSE_SECONDS_MIN: Final = 2.0
WEBHOOK_PAUSE_SECONDS_MAX: Final = 3600.0
WEBHOOK_LOOK_SECONDS_MAX: Final = 300.0
WEBHOOK_ATTEMPTS_MAX: Final = 34
WEBHOOK_FAULT_CHARACTERS_MAX: Final = 200

GRACE_LOOK_SECONDS: Final = 5.0
"""Between two looks whether a former secret serves no more, so that the disk forgets it."""

# Audits of the running node, in a process of their own.
AUDIT_SECONDS_MAX: Final = 3600.0
AUDIT_LINE_BYTES_MAX: Final = 16 << 20
"""The report of 10,000 peers takes about 6 MB."""
AUDIT_FAILED_SHOWN_MAX: Final = 10
ROUTE_SHOWN_CHARACTERS_MAX: Final = 200
"""Of a prefix that a peer has announced, in the log."""
