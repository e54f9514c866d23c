"""The payer of each peer: an operator, or an engine with an account for the peer.

Also messages between our engine and the peer's, sent as ILP packets (RFC 38, Exchanging messages).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from connector.base import limits
from connector.base.backoff import Backoff, is_due
from connector.base.clock import Clock
from connector.base.errors import EngineError, SettlementUnknownError
from connector.base.log import Log, Sampler
from connector.ilp import settle
from connector.ilp.packet import Code, Fulfill, Prepare, Reject
from connector.settlement import bounds
from connector.settlement.engine import ManualEngine, SettlementEngine

ENGINE_BACKOFF: Final = Backoff(
    min_s=bounds.SETTLEMENT_RETRY_SECONDS_MIN, max_s=bounds.SETTLEMENT_RETRY_SECONDS_MAX, jitter=0.5
)
"""Between requests to a failing engine (RFC 38, Retry behavior)."""


class Engines:
    """See the module. One per node."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        ask_peer: Callable[[str, Prepare], Awaitable[Fulfill | Reject]],
        random: Callable[[], float],
        is_peer: Callable[[str], bool],
    ) -> None:
        """No engine is contacted yet.

        Args:
            clock: for due times and the expiry of messages.
            log: for the operator.
            ask_peer: sends a Prepare to a peer and returns its answer.
            random: returns a number from 0 to 1, for jitter.
            is_peer: whether there is a peer with this id.
        """
        self.manual: Final = ManualEngine()
        """The payer of peers without an engine: an operator."""
        self.scales: Final[dict[str, int]] = {}
        """By peer id: the scale of its engine, if it differs from that of the asset."""
        self._engines: dict[str, SettlementEngine] = {}
        self._unannounced: dict[str, tuple[int, int]] = {}
        """Peers whose account is not created at their engine yet: due time in ms, attempts so far."""
        self._clock = clock
        self._log = log
        self._lines = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._ask_peer = ask_peer
        self._random = random
        self._is_peer = is_peer

    def use(self, peer_id: str, engine: SettlementEngine | None, scale: int | None) -> None:
        """See `SettlementManager.use`."""
        self._engines[peer_id] = engine or self.manual
        if scale is not None:
            self.scales[peer_id] = scale
        else:
            self.scales.pop(peer_id, None)
        if engine is not None:
            self._unannounced[peer_id] = (0, 0)

    def of(self, peer_id: str) -> SettlementEngine:
        """The payer of a peer."""
        return self._engines.get(peer_id, self.manual)

    # --- accounts at engines

    async def drop(self, peer_id: str) -> None:
        """Drop a peer, and request once that its engine removes the account."""
        engine = self._engines.pop(peer_id, self.manual)
        self._unannounced.pop(peer_id, None)
        try:
            await engine.remove_account(peer_id)
        except EngineError as error:
            self._log.warning("settlement_account_not_removed", peer_id=peer_id, reason=str(error))

    def due(self, now_ms: int) -> list[str]:
        """Peers whose account is due to be created at their engine."""
        most_s = bounds.SETTLEMENT_RETRY_SECONDS_MAX
        return [
            peer_id
            for peer_id, (at_ms, _) in self._unannounced.items()
            if is_due(at_ms, now_ms, most_s)
        ]

    async def announce(self, peer_id: str) -> None:
        """Create the account at the engine of a peer; after an error, schedule a retry."""
        _, attempts = self._unannounced.get(peer_id, (0, 0))
        try:
            await self.of(peer_id).add_account(peer_id)
        except EngineError as error:
            wait_ms = int(1000 * ENGINE_BACKOFF.wait_s(attempts + 1, self._random))
            if peer_id in self._unannounced:
                self._unannounced[peer_id] = (self._clock.now_ms() + wait_ms, attempts + 1)
            self._log.warning(
                "settlement_engine_unavailable",
                peer_id=peer_id,
                reason=str(error),
                again_in_ms=wait_ms,
            )
        else:
            self._unannounced.pop(peer_id, None)
            self._log.info("settlement_account_ready", peer_id=peer_id)

    # --- messages between engines

    async def answer(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        """Our engine's answer to a message from the peer's engine."""
        engine = self.of(peer_id)
        if engine is self.manual:
            return settle.refusal(Code.F00_BAD_REQUEST, "there is no settlement engine here")
        try:
            reply = await engine.message(peer_id, octets)
        except EngineError as error:
            self._note_failed(peer_id, str(error))
            return settle.refusal(Code.T00_INTERNAL_ERROR, "settlement engine does not answer")
        if reply.ok:
            return settle.answer(reply.body)
        final = 400 <= reply.status < 500
        self._note_failed(peer_id, f"HTTP {reply.status}")
        return settle.refusal(
            Code.F00_BAD_REQUEST if final else Code.T00_INTERNAL_ERROR,
            "settlement engine refused the message",
            reply.body,
        )

    def _note_failed(self, peer_id: str, reason: str) -> None:
        # Peers cause these lines, so their rate is limited.
        suppressed = self._lines.allow(self._clock.monotonic_s())
        if suppressed is not None:
            self._log.warning(
                "settlement_message_failed", peer_id=peer_id, reason=reason, suppressed=suppressed
            )

    async def relay(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        """Send a message of our engine to the peer's engine.

        Raises:
            SettlementUnknownError: there is no such peer.
        """
        if not self._is_peer(peer_id):
            raise SettlementUnknownError(f"there is no peer {peer_id[:64]}")
        expires_at_ms = self._clock.now_ms() + int(bounds.SETTLEMENT_MESSAGE_SECONDS_MAX * 1000)
        return await self._ask_peer(peer_id, settle.request(octets, expires_at_ms))
