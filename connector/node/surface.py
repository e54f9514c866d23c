"""The web surface of a node: health, metrics, API, live feed and page, on one listener."""

from __future__ import annotations

import asyncio
from typing import Final

from pydantic import SecretStr

from connector.accounting.history import LedgerHistory
from connector.node.changes import OperatorChanges
from connector.node.core import Core
from connector.node.preflight import tls_context
from connector.peering.model import LOCAL, Asset
from connector.settings.types import is_loopback
from connector.telemetry.aggregates import Aggregates
from connector.telemetry.bus import EventBus
from connector.telemetry.event_log import EventLog
from connector.telemetry.peer_minutes import PeerMinutes
from connector.telemetry.store import EventStore
from connector.web.access import Access
from connector.web.admin import PacketSender, admin_router
from connector.web.aggregates import aggregates_router
from connector.web.app import create_app
from connector.web.audit import BooksAuditor, audit_router
from connector.web.engine_access import EngineAccess
from connector.web.explain import Explainer, explain_router
from connector.web.feed import feed_router
from connector.web.guard import Guard
from connector.web.hops import Hops, hops_router
from connector.web.log import KeptFirst, log_router
from connector.web.network import Neighbourhood, network_router
from connector.web.payments import PaymentMaker, payments_router
from connector.web.peer import peer_router
from connector.web.proxies import Proxies, ProxyHeaders
from connector.web.rates import RatesView, rates_router
from connector.web.server import WebServer
from connector.web.settlement import engine_router, settlements_read_router, settlements_router
from connector.web.sinks import SinksView, sinks_router
from connector.web.views import NodeViews
from connector.web.wallets import IncomingView, incoming_router


class WebSurface:
    """Builds the application from the parts of a node, and serves it."""

    def __init__(
        self,
        *,
        core: Core,
        sender: PacketSender,
        views: NodeViews,
        changes: OperatorChanges,
        events: EventBus,
        store: EventStore,
        event_log: EventLog,
        auditor: BooksAuditor,
        past: LedgerHistory | None,
        payments: PaymentMaker,
        received: IncomingView | None,
        sinks: SinksView,
        aggregates: Aggregates,
        peer_minutes: PeerMinutes,
    ) -> None:
        """Nothing is opened yet.

        Args:
            core: the node whose settings, accounts and settlements are served.
            sender: sends the packets of `POST /admin/packets`.
            views: the views of the node.
            changes: executes run-time changes.
            events: the live feed.
            store: past events.
            event_log: what is kept for long.
            auditor: checks the books for `POST /admin/audit`.
            past: past balances; None: the ledger does not keep them.
            payments: makes the payments of `POST /admin/payments`.
            received: what wallets were paid; None: there are none.
            sinks: where events are delivered.
            aggregates: what passed, by the second and the minute.
            peer_minutes: what each peer had, by the minute.
        """
        self._peer_minutes: Final = peer_minutes
        self._received: Final = received
        self._sinks: Final = sinks
        self._aggregates: Final = aggregates
        self._payments: Final = payments
        self._core: Final = core
        self._sender: Final = sender
        self._views: Final = views
        self._changes: Final = changes
        self._events: Final = events
        self._store: Final = store
        self._event_log: Final = event_log
        self._auditor: Final = auditor
        self._past: Final = past
        self._server: WebServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, group: asyncio.TaskGroup) -> int:
        """Serve in a task of `group`; returns the port, chosen by the system for port 0.

        Raises:
            ConfigError: certificate or key cannot be used.
            ListenError: the port cannot be used.
        """
        settings = self._core.settings
        proxies = Proxies(settings.trusted_proxies)
        application = KeptFirst(self._application(), log=self._event_log, bus=self._events)
        server = self._server = WebServer(
            ProxyHeaders(application, proxies) if settings.trusted_proxies else application,
            settings.http_host,
            settings.http_port,
            settings.http_tls_cert,
            settings.http_tls_key,
            proxies=proxies,
        )
        port = server.bind()
        self._serving = group.create_task(server.run())
        await server.started()
        return port

    async def stop(self) -> None:
        """Stop serving. Safe to call when it was never started."""
        if self._server is not None and self._serving is not None:
            self._server.stop()
            await self._serving

    def _application(self) -> Guard:
        core, platform, settings = self._core, self._core.platform, self._core.settings
        loopback, exposed = is_loopback(settings.http_host), bool(settings.http_exposed)
        tls_context("HTTP", settings.http_tls_cert, settings.http_tls_key)  # uvicorn would exit
        access = Access(
            key=_text(settings.admin_api_key),
            read_key=_text(settings.read_api_key),
            metrics_key=_text(settings.metrics_key),
            random_octets=platform.randomness.octets,
            required=exposed,
            node_id=settings.node_id,
            clock=platform.clock,
            log=platform.log,
        )
        engines = EngineAccess(
            token_of=core.payers.token_of, required=exposed, clock=platform.clock, log=platform.log
        )
        names = frozenset(settings.http_allowed_hosts)
        neighbourhood = self._neighbourhood()
        own_names = frozenset(("localhost", "127.0.0.1", "::1", settings.http_host))
        return create_app(
            self._views,
            access=access,
            hosts=own_names | names if loopback or names else None,
            log=platform.log,
            node_id=settings.node_id,
            engines=engines,
            routers=[
                admin_router(self._changes, self._views, self._sender),
                payments_router(self._payments),
                incoming_router(self._received),
                sinks_router(self._sinks, self._changes.note),
                feed_router(
                    bus=self._events,
                    store=self._store,
                    snapshot=self._views.snapshot,
                    asset_of=self._asset_of,
                    past=self._past,
                    now_ms=platform.clock.now_ms,
                ),
                log_router(self._event_log, self._events),
                audit_router(self._auditor, self._changes.note),
                engine_router(core.settlements),
                settlements_router(
                    core.settlements,
                    lambda: platform.randomness.octets(16).hex(),
                    self._changes.note,
                ),
                settlements_read_router(core.settlements),
                aggregates_router(self._aggregates, self._peer_minutes, self._store, core.peers),
                network_router(neighbourhood),
                hops_router(
                    Hops(
                        own=self._views,
                        bus=self._events,
                        store=self._store,
                        asset_of=self._asset_of,
                        others=neighbourhood,
                        clock=platform.clock,
                    )
                ),
                peer_router(self._changes),
                explain_router(self._explainer()),
                rates_router(RatesView(lambda: core.settings, core.live_rates)),
            ],
        )

    def _explainer(self) -> Explainer:
        core = self._core
        return Explainer(
            dry_run=core.dry_run,
            switch=core.switch,
            peers=core.peers,
            local=core.local,
            accounts=core.accounts,
            routes=self._views.explain_view,
            connected=core.links.reaches,
        )

    def _asset_of(self, peer_id: str) -> Asset | None:
        if peer_id == LOCAL:
            return self._core.local.terms.asset
        books = self._core.accounts.peers.get(peer_id)
        return None if books is None else books.terms.asset

    def _neighbourhood(self) -> Neighbourhood:
        settings = self._core.settings
        return Neighbourhood(
            own=self._views,
            urls=settings.explorer_nodes,
            keys={url: key.get_secret_value() for url, key in settings.explorer_node_keys.items()},
            key=_text(settings.explorer_nodes_key),
            clock=self._core.platform.clock,
        )


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
