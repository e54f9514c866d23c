"""Kinds of faults, network properties and hostile moves, as `--only` and `--without` name them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Kinds of faults and properties, switched on and off by `--only` and `--without`."""

    CRASH = "crash"
    POWER = "power"
    STOP = "stop"
    PAUSE = "pause"
    BOTH_ENDS = "both-ends"
    CUT = "cut"
    HOLD = "hold"
    SLOW_LINK = "slow-link"
    REFUSE = "refuse"
    LEDGER_AWAY = "ledger-away"
    LEDGER_SLOW = "ledger-slow"
    LEDGER_ACK_LOST = "ledger-ack-lost"
    LEDGER_REFUSED = "ledger-refused"
    LEDGER_AND_CRASH = "ledger-and-crash"
    LEDGER_FORGETS = "ledger-forgets"
    LEDGER_GOES_BACK = "ledger-goes-back"
    LEDGER_FIRST_START = "ledger-first-start"
    DISK_FULL = "disk-full"
    DISK_BROKEN = "disk-broken"
    DISK_SLOW = "disk-slow"
    DISK_LOW = "disk-low"
    CLOCK_AHEAD = "clock-ahead"
    CLOCK_BACK = "clock-back"
    CLOCK_FAR = "clock-far"
    CLOCKS_DIFFER = "clocks-differ"
    JOURNAL_CUT = "journal-cut"
    FEES = "fees"
    ASSETS = "assets"
    LIMITS = "limits"
    LIES = "lies"
    LATE = "late"
    SHORT = "short"
    PLAIN_LINKS = "plain-links"
    PLAIN_RECEIVERS = "plain-receivers"
    LOCAL = "local"
    BOTH_DIAL = "both-dial"
    TWO_SOCKETS = "two-sockets"
    SETTLE = "settle"
    SETTLE_FALSELY = "settle-falsely"
    SETTLEMENTS_LOST = "settlements-lost"
    RESEND_OTHER = "resend-other"
    REPLAY = "replay"
    ANSWER_TWICE = "answer-twice"
    NEVER_READ = "never-read"
    FLOOD = "flood"
    LONG_UP = "long-up"
    LAST_MOMENT = "last-moment"
    REMOVE_PEER = "remove-peer"
    CHANGE_LIMIT = "change-limit"
    SECOND_PROCESS = "second-process"
    MACHINE_LOST = "machine-lost"
    ROUTING_LOOP = "routing-loop"
    REPLACE = "replace"
    REPLACE_LATE = "replace-late"
    REPLACE_CRASH = "replace-crash"
    RESTART_AGAIN = "restart-again"
    IN_FLIGHT_VALUE = "in-flight-value"
    PREPAID = "prepaid"
    PRUNED = "pruned"
    TWO_WAYS = "two-ways"
    LEARNED_ROUTES = "learned-routes"
    FLAP = "flap"
    OUTAGE = "outage"
    FALSE_ROUTES = "false-routes"
    STREAM = "stream"
    HTTP = "http"
    ANSWERS_LOST = "answers-lost"
    GATEWAY = "gateway"
    ASKED_TWICE = "asked-twice"
    ONE_CARRIER = "one-carrier"


ONLY_TIGERBEETLE: Final = frozenset(
    (
        Kind.LEDGER_AWAY,
        Kind.LEDGER_SLOW,
        Kind.LEDGER_ACK_LOST,
        Kind.LEDGER_REFUSED,
        Kind.LEDGER_AND_CRASH,
        Kind.LEDGER_FORGETS,
        Kind.LEDGER_GOES_BACK,
        Kind.LEDGER_FIRST_START,
        Kind.SECOND_PROCESS,
        Kind.MACHINE_LOST,
    )
)
TRAITS: Final = frozenset(
    (
        Kind.FEES,
        Kind.ASSETS,
        Kind.LIMITS,
        Kind.PLAIN_LINKS,
        Kind.PLAIN_RECEIVERS,
        Kind.BOTH_DIAL,
        Kind.TWO_SOCKETS,
        Kind.LOCAL,
        Kind.LEDGER_FIRST_START,
        Kind.CLOCKS_DIFFER,
        Kind.LONG_UP,
        Kind.ROUTING_LOOP,
        Kind.IN_FLIGHT_VALUE,
        Kind.PREPAID,
        Kind.PRUNED,
        Kind.TWO_WAYS,
        Kind.LEARNED_ROUTES,
        Kind.FALSE_ROUTES,
        Kind.STREAM,
        Kind.HTTP,
    )
)
"""Properties of a whole network, drawn once."""
FAULTS: Final = (
    Kind.CRASH,
    Kind.POWER,
    Kind.STOP,
    Kind.PAUSE,
    Kind.BOTH_ENDS,
    Kind.CUT,
    Kind.HOLD,
    Kind.SLOW_LINK,
    Kind.REFUSE,
    Kind.LEDGER_AWAY,
    Kind.LEDGER_SLOW,
    Kind.LEDGER_ACK_LOST,
    Kind.LEDGER_REFUSED,
    Kind.LEDGER_AND_CRASH,
    Kind.LEDGER_FORGETS,
    Kind.LEDGER_GOES_BACK,
    Kind.JOURNAL_CUT,
    Kind.SETTLEMENTS_LOST,
    Kind.DISK_FULL,
    Kind.DISK_BROKEN,
    Kind.DISK_SLOW,
    Kind.DISK_LOW,
    Kind.CLOCK_AHEAD,
    Kind.CLOCK_BACK,
    Kind.CLOCK_FAR,
    Kind.REMOVE_PEER,
    Kind.CHANGE_LIMIT,
)
REPLACED: Final = frozenset((Kind.REPLACE, Kind.REPLACE_LATE, Kind.REPLACE_CRASH))
"""An operator replaces a node by a new process (SIGUSR2): soon, when its peers have given it up, or
with a crash of the old or the new process."""
ROUTES: Final = frozenset((Kind.LEARNED_ROUTES, Kind.FLAP, Kind.OUTAGE, Kind.FALSE_ROUTES))
"""Nodes that learn routes of each other (CCP), links that come and go again and again, one that is away for long in a ring, and
ends that announce what is not theirs."""
OF_HTTP: Final = frozenset(
    (Kind.HTTP, Kind.ANSWERS_LOST, Kind.GATEWAY, Kind.ASKED_TWICE, Kind.ONE_CARRIER)
)
"""Links by HTTP, and what is between: a proxy that loses answers, answers 502 itself before or behind the other side, or asks
twice; and of two neighbours with BTP and HTTP one of both that is away."""
CLOCKS: Final = frozenset((Kind.CLOCK_AHEAD, Kind.CLOCK_BACK, Kind.CLOCK_FAR))
"""Clocks that jump."""
HOSTILE: Final = (
    Kind.RESEND_OTHER,
    Kind.REPLAY,
    Kind.ANSWER_TWICE,
    Kind.NEVER_READ,
    Kind.FLOOD,
    Kind.LAST_MOMENT,
    Kind.SETTLE_FALSELY,
    Kind.RESTART_AGAIN,
)

KNOWN_OPEN: Final[dict[Kind, str]] = {}
"""Kinds that show faults which are known and not yet cured; off unless asked for."""


def default_kinds(
    only: AbstractSet[Kind] | None = None, without: AbstractSet[Kind] = frozenset()
) -> frozenset[Kind]:
    """The kinds to simulate: those requested, else all that are not `KNOWN_OPEN`."""
    kinds = frozenset(only) if only is not None else frozenset(Kind) - KNOWN_OPEN.keys()
    return kinds - without
