"""The links of one peer: which of them carries requests, and which are drained.

Both sides may dial. At most one link of each direction serves; a newer one of the same direction
replaces the older. Between two nodes that know packet ids one link is enough: the one whose log-in
has the lower user name in octet order. Both sides see both log-ins, so both keep the same one. Other
peers keep both links, because ilp-plugin-btp sends everything over the one that it dialled.
"""

from __future__ import annotations

from typing import Final

from connector.btp.link import Link
from connector.btp.session import Requests


class PeerLinks:
    """The links over which one peer has logged in, or this node at it."""

    def __init__(self, first_request_id: int) -> None:
        """`first_request_id` is where the numbers of our requests to the peer start."""
        self.requests: Final = Requests(first_request_id)
        """Ours without an answer, over all links."""
        self._serving: dict[str, Link] = {}
        """By direction."""
        self._drained: set[Link] = set()

    def __len__(self) -> int:
        return len(self._serving) + len(self._drained)

    def all(self) -> list[Link]:
        """Links that serve, and those that are drained."""
        return [*self._serving.values(), *self._drained]

    def add(self, link: Link) -> None:
        """Take up a link that has logged in; drain those that it makes superfluous, perhaps itself."""
        self._serve_no_more(self._serving.get(link.direction))
        self._serving[link.direction] = link
        both = list(self._serving.values())
        if len(both) == 2 and all(one.session.resumable for one in both):
            first, second = sorted(both, key=lambda one: one.log_in_key)
            if first.log_in_key != second.log_in_key:
                self._serve_no_more(second)

    def remove(self, link: Link) -> None:
        """Let go of a link that is gone."""
        self._drained.discard(link)
        if self._serving.get(link.direction) is link:
            del self._serving[link.direction]

    def carrier(self) -> Link | None:
        """The link that requests go over.

        Of two the one that the peer dialled: ilp-plugin-btp answers over it, so if it breaks the
        peer has not read the requests either.
        """
        return self._serving.get("inbound") or self._serving.get("outbound")

    def _serve_no_more(self, link: Link | None) -> None:
        if link is not None:
            del self._serving[link.direction]
            self._drained.add(link)
            link.drain()
