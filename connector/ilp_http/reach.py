"""How packets go to a peer by HTTP, and what is known of it: a table. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from connector.base.backoff import Backoff
from connector.ilp_http import bounds
from connector.ilp_http.message import OCTET_STREAM

BACKOFF: Final = Backoff(
    min_s=bounds.RETRY_DELAY_SECONDS_MIN,
    max_s=bounds.RETRY_DELAY_SECONDS_MAX,
    jitter=0.5,
)
"""Between attempts: probes, packets that are sent again, answers that are posted again."""


@dataclass(slots=True, frozen=True, kw_only=True)
class HttpTerms:
    """How packets go to a peer and come from it by HTTP."""

    peer_id: str
    url: str | None = None
    """Where they are posted; None: only answers are, to its callback."""
    token: str = field(repr=False)
    """Shown to it."""
    is_async: bool = False
    """RFC 35: the answer comes as a request of its own."""
    content_type: str = OCTET_STREAM
    callback_url: str | None = None
    """The only Callback-Url that is accepted from it."""
    own_callback_url: str | None = None
    """Where it posts answers, if `is_async`."""


class Named(Enum):
    """By what the other side recognises a packet that is sent again."""

    PACKET_ID = auto()
    """`ILP-Packet-Id`, or the packet id of BTP: the same, whichever way the packet takes."""
    REQUEST_ID = auto()
    """`Request-Id` alone (RFC 35), which follows from the packet: at that URL, to that account."""
    NOTHING = auto()
    """It would be another packet."""


@dataclass(slots=True, frozen=True)
class Sent:
    """How a packet was sent. What is sent in another way may be taken, and paid, as another packet."""

    named: Named
    url: str = ""
    """With `REQUEST_ID`: where; empty otherwise."""
    token: str = field(default="", repr=False)
    """With `REQUEST_ID`: as whom."""


WITH_PACKET_ID: Final = Sent(Named.PACKET_ID)
WITHOUT_NAME: Final = Sent(Named.NOTHING)


def sent_as(terms: HttpTerms, *, ids: bool) -> Sent:
    """How a packet is sent by these terms, to a peer with packet ids or to another program."""
    if ids:
        return WITH_PACKET_ID
    if terms.is_async and terms.url is not None:
        return Sent(Named.REQUEST_ID, terms.url, terms.token)
    return WITHOUT_NAME


class Reach(Enum):
    """What is known of the peer."""

    UNKNOWN = auto()
    """It was not asked yet."""
    DOWN = auto()
    PLAIN = auto()
    """It answers HTTP, and knows no packet ids."""
    IDS = auto()
    """It knows packet ids: packets can be resent."""
    CLOSED = auto()
    """It is not used any more."""


class Probed(Enum):
    """What a probe has found."""

    FAILED = auto()
    PLAIN = auto()
    IDS = auto()


NEXT: Final[dict[tuple[Reach, Probed], Reach]] = {
    **{(at, Probed.FAILED): Reach.DOWN for at in (Reach.UNKNOWN, Reach.DOWN, Reach.PLAIN, Reach.IDS)},
    **{(at, Probed.PLAIN): Reach.PLAIN for at in (Reach.UNKNOWN, Reach.DOWN, Reach.PLAIN, Reach.IDS)},
    **{(at, Probed.IDS): Reach.IDS for at in (Reach.UNKNOWN, Reach.DOWN, Reach.PLAIN, Reach.IDS)},
    **{(Reach.CLOSED, probed): Reach.CLOSED for probed in Probed},
}  # fmt: skip
