"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

# For packets with amount zero: probes of rates, and attempts to block a node at no cost.
IN_FLIGHT_UNPAID_PER_PEER_MAX: Final = 256
# Deliveries under way: one peer alone gets half of them. Messages of settlement engines take at most half
# of the connections to engines (`settlement.bounds.SETTLEMENT_ATTEMPTS_AT_A_TIME_MAX`).
LOCAL_DELIVERIES_MAX: Final = 512
SETTLE_MESSAGES_MAX: Final = 32
LOCAL_ANSWER_BYTES_MAX: Final = 65_536
# Questions about data of payments: under way, how long an answer may take, and its size.
DATA_QUESTIONS_MAX: Final = 128
DATA_ANSWER_MS_MAX: Final = 5000
DATA_ANSWER_BYTES_MAX: Final = 4096
# Answers are kept until two receipts of the peer have covered them (docs/protocol.md).
# A peer without receipts fills three generations; answers sent over earlier connections are added.
# 50,000 answers per generation are two seconds at full speed.
ANSWERS_PER_GENERATION_MAX: Final = 50_000
ANSWERS_UNREAD_MAX: Final = 3 * ANSWERS_PER_GENERATION_MAX
ANSWERS_KEPT_PER_PEER_BYTES_MAX: Final = 64 << 20
ANSWERS_KEPT_BYTES_MAX: Final = 128 << 20
# The objects around the octets of a kept answer, measured.
ANSWER_KEPT_OVERHEAD_BYTES: Final = 224
# How long a next hop is asked for the answer to a packet that is posted and expired already.
POSTED_ANSWER_MS: Final = 5000
# The same of a packet of this node itself that is resent after a crash: the next hop may have to come back first.
OWN_ANSWER_MS: Final = 30_000
# Resent Prepares that wait for their look-up in the ledger.
PACKETS_ASKED_AGAIN_PER_PEER_MAX: Final = limits.IN_FLIGHT_PER_PEER_MAX
PACKETS_ASKED_AGAIN_MAX: Final = limits.IN_FLIGHT_TOTAL_MAX
PACKETS_LOOKED_UP_AT_ONCE_MAX: Final = 256
STATUS_LATENCY_PACKETS_MAX: Final = 8192
# Routing loops: for how long copies are refused at once when a loop is found, how often it is
# logged, for how long it is shown after its last packet, and how many are.
LOOP_KNOWN_MS: Final = 60_000
LOOP_TOLD_AGAIN_MS: Final = 60_000
LOOP_SHOWN_MS: Final = 300_000
LOOPS_MAX: Final = 64
# The marks in expiries: no round numbers, and more than the moments differ at which programs send "at once".
LOOP_MARK_MS_MIN: Final = 101
LOOP_MARKS: Final = 499
assert LOOP_SHOWN_MS > LOOP_KNOWN_MS
# Live rates: what a source may say, how often it is asked within the age of a rate, and how often a fault of
# it is told.
RATES_ANSWER_BYTES_MAX: Final = 1 << 20
RATES_CURRENCIES_MAX: Final = 10_000
RATE_MAX: Final = 10**30
RATES_TIMESTAMP_MAX: Final = 10**11
RATES_SECONDS_MIN: Final = 0.25
RATES_SECONDS_MAX: Final = 3600.0
RATES_ASKED_PER_AGE: Final = 4
RATES_ANSWER_SECONDS_MAX: Final = 10.0
RATES_TOLD_AGAIN_SECONDS: Final = 300.0
RATES_TOLD_SECONDS_MIN: Final = 10.0
"""Between two lines about one fault, also where they are about different currencies."""
RATES_FAULTS_REMEMBERED_MAX: Final = 256
RATES_SHOWN_MAX: Final = 10
RATE_PLACES_SHOWN_MAX: Final = 80
# Next hops that answer T04: how many are shown, how often they are told, and for how long they are shown
# after the last time.
SHORTAGES_MAX: Final = 64
SHORTAGE_TOLD_AGAIN_MS: Final = 60_000
SHORTAGE_SHOWN_MS: Final = 300_000
