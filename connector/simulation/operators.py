"""What operators change while a node runs; they ask again where they are answered with 503."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from connector.base.errors import (
    CreditInUseError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SettlementUnknownError,
)
from connector.node.core import Core
from connector.settings.model import PeerSettings, Settings
from connector.simulation.facts import Waiting
from connector.simulation.kinds import Kind
from connector.simulation.parts import Around
from connector.simulation.plan import MAX_HOLD_MS

_TRIES_AGAIN_S: Final = 0.3
_DRAIN_POLL_S: Final = 0.05


async def lower_and_raise(
    around: Around, core: Core, whole: Settings, peer: PeerSettings, for_s: float
) -> None:
    """Lower the limit of a peer, and raise it to what it was a while later."""
    assert peer.credit_limit is not None
    lower = peer.model_copy(update={"credit_limit": peer.credit_limit * 3 // 5})
    peers = [lower if one.id == peer.id else one for one in whole.peers]
    around.note(whole.node_id, f"lowers the limit of its peer {peer.id}")
    with contextlib.suppress(CreditInUseError):
        await _apply(core, whole.model_copy(update={"peers": peers}))
    await asyncio.sleep(for_s)
    around.note(whole.node_id, f"raises the limit of its peer {peer.id} again")
    await _apply(core, whole)


async def remove_and_restore(
    around: Around, core: Core, whole: Settings, peer: PeerSettings, for_s: float
) -> None:
    """Remove a peer that packets go to, drained, and take it up again a while later."""
    node, rest = whole.node_id, [one for one in whole.peers if one.id != peer.id]
    around.note(node, f"removes its peer {peer.id}")
    around.facts.removed.add((node, peer.id))
    await core.applier.change(whole, draining=[peer.id])
    while not core.accounts.knows_holds:
        await asyncio.sleep(_DRAIN_POLL_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MAX_HOLD_MS / 1000):
            while not core.applier.is_drained(peer.id):
                await asyncio.sleep(_DRAIN_POLL_S)
    around.note(node, f"has drained its peer {peer.id}")
    await _apply(core, whole.model_copy(update={"peers": rest}))
    await asyncio.sleep(for_s)
    around.note(node, f"takes up its peer {peer.id} again")
    await _apply(core, whole)


async def accept_or_decline(around: Around, core: Core, waiting: Waiting) -> None:
    """Say what becomes of a payment that waits; again until the node has taken it.

    Raises:
        ConnectorError: it has not.
    """
    act = core.settlements.accept if waiting.accept else core.settlements.decline
    said = "accepts" if waiting.accept else "declines"
    around.note(waiting.node, f"an operator {said} {waiting.key} of {waiting.peer}")
    try:
        await act(waiting.peer, waiting.settlement_id)
    except SettlementUnknownError:
        facts, paid = around.facts, (waiting.node, waiting.peer, waiting.key)
        if paid[:2] in facts.removed and waiting.peer not in core.peers:
            raise  # the operator takes the peer up again first
        if facts.waited[paid] is not waiting:
            return  # it was reported again, and waits under another id
        facts.forgotten.add(paid)
        if not any(
            one.kind is Kind.SETTLEMENTS_LOST and one.where == waiting.node
            for one in around.plan.faults
        ):
            facts.complaints.append(f"{waiting.node} has forgotten that {waiting.key} waits")


async def _apply(core: Core, settings: Settings) -> None:
    while True:
        try:
            await core.applier.change(settings)
        except (LedgerUnavailableError, LedgerRefusedError):
            await asyncio.sleep(_TRIES_AGAIN_S)
        else:
            return
