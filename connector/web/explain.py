"""What would happen to a packet now, for operators: `GET /api/explain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from connector.accounting.manager import AccountManager
from connector.base import limits
from connector.base.errors import UnknownNameError
from connector.ilp.packet import decode_prepare
from connector.peering.model import LOCAL, Peer, PeerRegistry
from connector.settings.types import Amount, IlpAddress
from connector.switch.dry_run import DryRun, Foreseen
from connector.switch.rates import as_text
from connector.switch.switch import Switch
from connector.web import models


class Explainer:
    """Runs a packet dry, and puts beside it what decides its fate. Reads only."""

    def __init__(
        self,
        *,
        dry_run: DryRun,
        switch: Switch,
        peers: PeerRegistry,
        local: Peer,
        accounts: AccountManager,
        routes: Callable[[str], dict[str, Any]],
        connected: Callable[[str], bool],
    ) -> None:
        self._dry_run = dry_run
        self._switch = switch
        self._peers = peers
        self._local = local
        self._accounts = accounts
        self._routes = routes
        self._connected = connected

    def explain(
        self, destination: str, amount: int, source_id: str, expiry_ms: int
    ) -> dict[str, Any]:
        """What would happen to a ping.

        Args:
            destination: an ILP address.
            amount: in units of the sender's asset.
            source_id: the sender; empty: this node itself.
            expiry_ms: milliseconds until it expires.

        Raises:
            UnknownNameError: there is no such peer.
        """
        source = self._local if source_id == LOCAL else self._peers.get(source_id)
        if source is None:
            raise UnknownNameError("no such peer")
        routes = self._routes(destination)
        foreseen = self._dry_run.ping(source, destination, amount, expiry_ms)
        result = foreseen.result
        ends_here = foreseen.outcome in ("rejected", "fulfilled")
        fee, amount_out, expiry_out_ms = self._onward(foreseen, expiry_ms)
        return {
            "destination": destination,
            "amount": str(amount),
            "from": source_id,
            "asset": str(source.terms.asset),
            "route": routes["chosen"],
            "shorter": routes["shorter"],
            "beaten": routes["beaten"],
            "local": routes["local"],
            "nextHop": self._next_hop(source, routes["chosen"]),
            "creditLeft": None
            if source_id == LOCAL
            else str(max(0, self._accounts.peers[source_id].available_credit)),
            "fee": fee,
            "amountOut": amount_out,
            "expiresInMs": expiry_ms,
            "expiresInMsOut": expiry_out_ms,
            "outcome": foreseen.outcome,
            "code": result.code if ends_here else None,
            "message": result.message if ends_here else "",
            "items": [],
        }

    def _onward(
        self, foreseen: Foreseen, expiry_ms: int
    ) -> tuple[str | None, str | None, int | None]:
        """Fee, amount and time left, as they would be sent on; None: it does not come so far."""
        asked, sent = foreseen.asked, foreseen.sent
        fee = None if asked is None else str(asked.fee)
        amount = None if asked is None else str(asked.amount_out)
        if sent is None:
            return fee, amount, None
        onward = decode_prepare(sent.octets)
        began_ms = foreseen.prepare.expires_at_ms - expiry_ms
        return fee or "0", str(onward.amount), onward.expires_at_ms - began_ms

    def _next_hop(self, source: Peer, route: dict[str, Any] | None) -> dict[str, Any] | None:
        peer = None if route is None else self._peers.get(route["nextHop"])
        if peer is None:
            return None
        terms, books = peer.terms, self._accounts.peers[peer.peer_id]
        rate = self._switch.rate(source.terms.asset, terms.asset)
        payable_max = terms.max_payable
        return {
            "peerId": peer.peer_id,
            "connected": self._connected(peer.peer_id),
            "asset": str(terms.asset),
            "rate": None if rate is None else as_text(rate),
            "payableLeft": None
            if payable_max is None
            else str(max(0, payable_max - books.payable)),
        }


def explain_router(explainer: Explainer) -> APIRouter:
    """`/api/explain`."""
    router = APIRouter(prefix="/api", tags=["read"])

    @router.get("/explain", response_model=None, responses={200: {"model": models.Foretold}})
    async def explain(
        destination: Annotated[IlpAddress, Query()],
        amount: Annotated[Amount, Query()] = 0,
        source: Annotated[str, Query(alias="from", max_length=63)] = LOCAL,
        expiry_seconds: Annotated[
            float, Query(alias="expirySeconds", gt=0, le=limits.HOLD_MS_MAX / 1000)
        ] = 30.0,
    ) -> dict[str, Any]:
        expiry_ms = max(1, round(expiry_seconds * 1000))
        return explainer.explain(destination, amount, source, expiry_ms)

    return router
