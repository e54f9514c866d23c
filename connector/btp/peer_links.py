"""The links of one peer: which of them carries requests, and which are drained.

Both sides may dial. At most one link of each direction serves; a newer one of the same direction
replaces the older. Between two nodes with packet ids one link is enough: the one whose log-in has
the lower user name in octet order. Both sides see both log-ins, so both keep the same one. Other
peers keep both links, because ilp-plugin-btp sends everything over the one that it dialled.
"""

from __future__ import annotations

from typing import Final

from connector.base.log import Sampler
from connector.btp import bounds
from connector.btp.link import Link
from connector.btp.session import Requests


class PeerLinks:
    """The links over which one peer has logged in, or this node has logged in to it."""

    def __init__(self, first_request_id: int) -> None:
        """`first_request_id`: the id of our first request to the peer."""
        self.requests: Final = Requests(first_request_id)
        """Our open requests, over all links."""
        # A peer that logs in without end must neither load this node nor fill its log.
        self.log_ins: Final = Sampler(bounds.LOG_INS_PER_SECOND_PER_PEER_MAX)
        self.lines: Final = Sampler(bounds.CONNECTION_LINES_PER_SECOND_PER_PEER_MAX)
        """Log lines about established and lost connections."""
        self.comes_back = False
        """Whether the peer has said over one of them that its process is being replaced. A link that
        is closed after that one, for another reason, does not change it; a log-in does."""
        self._serving: dict[str, Link] = {}
        """By direction."""
        self._drained: dict[Link, None] = {}
        """Oldest first."""

    def __len__(self) -> int:
        return len(self._serving) + len(self._drained)

    def all(self) -> list[Link]:
        """All links, serving and drained."""
        return [*self._serving.values(), *self._drained]

    def add(self, link: Link) -> None:
        """Add a link that has logged in, and drain those that are not needed then, perhaps itself."""
        self.comes_back = False
        self._serve_no_more(self._serving.get(link.direction))
        self._serving[link.direction] = link
        both = list(self._serving.values())
        if len(both) == 2 and all(one.session.resumable for one in both):
            first, second = sorted(both, key=lambda one: one.log_in_key)
            if first.log_in_key != second.log_in_key:
                self._serve_no_more(second)

    def remove(self, link: Link) -> None:
        """Remove a closed link."""
        self.comes_back = self.comes_back or link.comes_back
        self._drained.pop(link, None)
        if self._serving.get(link.direction) is link:
            del self._serving[link.direction]

    def superfluous(self) -> list[Link]:
        """Drained links beyond their bound, oldest first: the caller closes them."""
        return list(self._drained)[: -bounds.LINKS_DRAINED_PER_PEER_MAX]

    def carrier(self) -> Link | None:
        """The link that carries requests.

        Of two links the one that the peer dialled. ilp-plugin-btp answers over that one, so if it
        breaks, both requests and answers are affected.
        """
        return self._serving.get("inbound") or self._serving.get("outbound")

    def _serve_no_more(self, link: Link | None) -> None:
        if link is not None:
            del self._serving[link.direction]
            self._drained[link] = None
            link.drain()
