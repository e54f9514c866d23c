"""The address of this node, if its parent assigns it (ILDCP, RFC 31).

The parent is asked when it connects, again with growing pauses until it answers, and from time to time after that,
since it may have an address of its own by then. Meanwhile packets are answered with T03
(`switch.rules.ready`). Another address than before is taken once in a while only; children are told of it by
a new link, over which they ask again.

The parent also names the asset of the account with it. Where nothing is configured that says so, it is taken with the first
address: no packet has passed then. A parent that means another asset than is configured, or than there is a balance in,
is a fault that an operator has to end (`asset_fault`): amounts would be misread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connector.base.backoff import Backoff
from connector.base.clock import Clock
from connector.base.errors import ConnectorError, DecodeError
from connector.base.log import Log, Sampler
from connector.btp.links import Links
from connector.ilp import ildcp
from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.node import bounds
from connector.node.apply import SettingsApplier
from connector.peering.model import Asset, Peer, PeerRegistry, Relation
from connector.settings.types import is_asset_code
from connector.switch.rules import Node

Ask = Callable[[Peer, Prepare, int, Callable[[Fulfill | Reject], None]], None]
"""Sends a request to a peer: with the time until which it waits, and who takes the answer."""

_PAUSE: Final = Backoff(min_s=1.0, max_s=30.0, jitter=0.3)


class Addressing:
    """See the module. Without a parent, or with ILP_ADDRESS, it does nothing."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        random: Callable[[], float],
        node: Node,
        peers: PeerRegistry,
        links: Links,
        applier: SettingsApplier,
        ask: Ask,
        renamed: Callable[[str], None],
    ) -> None:
        """`renamed`: called with the address, when it is taken."""
        self._clock = clock
        self._log = log
        self._random = random
        self._node = node
        self._peers = peers
        self._links = links
        self._applier = applier
        self._ask_peer = ask
        self._renamed = renamed
        self._asking = False
        self._failures = 0
        self._ask_at_s = 0.0
        self._renames = float(bounds.ILDCP_RENAMED_BURST)
        self._renames_at_s = 0.0
        self._told_differs: Asset | None = None
        self._lines = Sampler(1)
        self._taking: ildcp.ChildConfig | None = None
        """An answer whose asset is to be taken with the next tick."""
        self.asset_fault = ""
        """Why amounts with the parent are misread, by it or by us; empty: they are not."""
        self._to_tell: dict[str, float] = {}
        """Children whose links are to be closed, and when at the latest."""

    def connected(self, peer_id: str) -> None:
        """A peer has a link: if it is the parent, it is asked with the next tick."""
        self._to_tell.pop(peer_id, None)
        parent = self._parent()
        if parent is not None and parent.peer_id == peer_id:
            self._failures, self._ask_at_s = 0, 0.0

    async def tick(self) -> None:
        """Ask the parent if it is time to, and let go of children that have to ask anew."""
        if self._taking is not None:
            config, self._taking = self._taking, None
            await self._take_asset(config)
        now_s = self._clock.monotonic_s()
        if self._to_tell:
            self._tell_children(now_s)
        parent = self._parent()
        if parent is None or self._asking or now_s < self._ask_at_s or self._node.stopping:
            return
        if not self._links.reaches(parent.peer_id) or parent.draining:
            return
        self._asking = True
        until_ms = self._clock.now_ms() + bounds.ILDCP_SECONDS_MAX * 1000
        self._ask_peer(parent, ildcp.request(until_ms), until_ms, self._answered)

    def _parent(self) -> Peer | None:
        """Who assigns the address; None: nobody does."""
        return None if self._applier.settings.ilp_address else self._applier.parent

    def _answered(self, answer: Fulfill | Reject) -> None:
        self._asking = False
        parent = self._parent()
        if parent is None:
            return
        try:
            config = _read(answer)
        except DecodeError as error:
            self._again_later(str(error))
            return
        asset = _asset_of(config)
        if asset == parent.terms.asset:
            self._agrees()
        elif self._applier.takes_asset and not self._node.address:
            # No packet passes without an address: the account with the parent can be another one.
            self._asking, self._taking = True, config
            return
        else:
            self._differs(parent, asset)
        self._take_address(config)

    async def _take_asset(self, config: ildcp.ChildConfig) -> None:
        """Let amounts with the parent be in the asset that it has named, then take the address."""
        self._asking = False
        parent = self._parent()
        if parent is None:
            return
        asset, former = _asset_of(config), parent.terms.asset
        try:
            is_taken = await self._applier.take_parents_asset(asset)
        except ConnectorError as error:
            self._again_later(f"asset {asset}: {error}")
            return
        if is_taken:
            self._agrees()
            self._log.info("ildcp_asset_taken", asset=str(asset), former=str(former))
        else:
            self._differs(parent, asset)
        self._take_address(config)

    def _agrees(self) -> None:
        self.asset_fault, self._told_differs = "", None

    def _again_later(self, reason: str) -> None:
        self._failures += 1
        pause_s = _PAUSE.wait_s(self._failures, self._random)
        self._ask_at_s = self._clock.monotonic_s() + pause_s
        self._log.warning("ildcp_failed", reason=reason)

    def _take_address(self, config: ildcp.ChildConfig) -> None:
        now_s = self._clock.monotonic_s()
        self._failures = 0
        self._ask_at_s = now_s + bounds.ILDCP_AGAIN_SECONDS
        former = self._node.address
        if config.address == former:
            return
        if former and not self._may_rename(now_s):
            self._log.warning("ildcp_renamed_too_often", kept=former, refused=config.address)
            return
        self._applier.set_address(config.address)
        self._renamed(config.address)
        self._log.info("ilp_address_received", ilp_address=config.address, former=former)
        if former:
            until_s = now_s + bounds.CHILD_TOLD_SECONDS_MAX
            children = (one for one in self._peers if one.terms.relation is Relation.CHILD)
            self._to_tell = {
                one.peer_id: until_s for one in children if one.peer_id in self._links.live
            }

    def _may_rename(self, now_s: float) -> bool:
        """Whether another address is taken now: a few at once, then one in ILDCP_RENAMED_SECONDS_MIN."""
        gained = (now_s - self._renames_at_s) / bounds.ILDCP_RENAMED_SECONDS_MIN
        self._renames = min(float(bounds.ILDCP_RENAMED_BURST), self._renames + gained)
        self._renames_at_s = now_s
        if self._renames < 1:
            return False
        self._renames -= 1
        return True

    def _differs(self, parent: Peer, asset: Asset) -> None:
        """Amounts would be misread: say so."""
        ours = parent.terms.asset
        self.asset_fault = (
            f"the parent counts in {asset}, this node in {ours}: amounts with it are misread; set "
            "ASSET_CODE and ASSET_SCALE of the peer as the parent says, once its balance is settled"
        )
        if self._told_differs != asset and self._lines.allow(self._clock.monotonic_s()) is not None:
            self._told_differs = asset
            self._log.warning(
                "ildcp_asset_differs",
                parent=str(asset),
                configured=str(ours),
                detail=self.asset_fault,
            )

    def _tell_children(self, now_s: float) -> None:
        for peer_id, until_s in list(self._to_tell.items()):
            child = self._peers.get(peer_id)
            if child is None or peer_id not in self._links.live:
                del self._to_tell[peer_id]
            elif now_s >= until_s or not (
                child.in_flight or any(self._links.driver.waiting_for(child))
            ):
                del self._to_tell[peer_id]
                self._links.hang_up(peer_id, "our address has changed, and so has yours")
                self._links.flush()


def _asset_of(config: ildcp.ChildConfig) -> Asset:
    return Asset(config.asset_code, config.asset_scale)


def _read(answer: Fulfill | Reject) -> ildcp.ChildConfig:
    if not isinstance(answer, Fulfill):
        text = f"{answer.code} {answer.message[:100]}"
        raise DecodeError("ILDCP", 0, f"the parent answered {text!r}")
    config = ildcp.read_answer(answer)
    if len(config.address) > bounds.OWN_ADDRESS_CHARACTERS_MAX:
        raise DecodeError("address", 0, f"{len(config.address)} characters")
    if config.address.startswith(("peer.", "self.", "local.")):
        raise DecodeError("address", 0, "not one that a node can have")
    if not is_asset_code(config.asset_code):
        raise DecodeError("asset code", 0, "not one that a node can have")
    return config
