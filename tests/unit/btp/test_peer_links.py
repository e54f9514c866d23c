"""The links of one peer: what is remembered of those that are closed."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from connector.btp.peer_links import PeerLinks


@dataclass(eq=False)
class _Link:
    direction: str
    comes_back: bool
    log_in_key: tuple[bytes, int]
    session: Any

    def drain(self) -> None:
        """Nothing to finish."""


def link(direction: str, *, comes_back: bool = False) -> Any:
    """A link as `PeerLinks` sees it."""
    return _Link(direction, comes_back, (direction.encode(), 1), SimpleNamespace(resumable=True))


@pytest.mark.interpreted
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_peer_that_is_replaced_comes_back_whichever_link_is_lost_last(
    order: tuple[int, int],
) -> None:
    """One of two links was being drained, and is closed by us: nothing is said over it."""
    links = PeerLinks(1)
    both = [link("inbound", comes_back=True), link("outbound")]
    for one in both:
        links.add(one)
    assert not links.comes_back
    for at in order:
        links.remove(both[at])
    assert not links.all()
    assert links.comes_back
    links.add(link("inbound"))
    assert not links.comes_back
