"""A whole node: the core, and on top of it the web surface, telemetry, and run-time changes.

`Connector` is also the library: `async with Connector(settings) as node: await node.send(...)`.
Starting: what was changed at run time, the event store, then the core (ledger and accounts before
links, `node.lifecycle`), then HTTP. Stopping is the same in reverse.

Long because it is the interface of the library: parts, life, sending and receiving in one class.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, Self

from connector.accounting.history import LedgerHistory
from connector.accounting.manager import AccountManager
from connector.base.clock import Clock, SteadyClock
from connector.base.disk import SystemDisk
from connector.base.errors import ListenError, SupersededError
from connector.base.http import HttpClient
from connector.base.log import Log
from connector.base.log import set_up as set_up_log
from connector.base.stop import Stop
from connector.btp.links import Links
from connector.ilp.packet import Answer, Fulfill, Prepare, Reject
from connector.ledger.select import make_ledger
from connector.ledger.tigerbeetle import TigerBeetleLedger
from connector.node.apply import routes_of
from connector.node.auditor import Auditor
from connector.node.bounds import PAYMENT_SECONDS
from connector.node.changes import OperatorChanges
from connector.node.core import Core, system_platform
from connector.node.lifecycle import Lifecycle, hold_data_dir, lock_path
from connector.node.memory import PeerMemory
from connector.node.paid import PayListener, pay_key
from connector.node.payment_store import PaymentStatus
from connector.node.payments import Payments
from connector.node.preflight import (
    NO_PEERS,
    check,
    check_ports,
    learned_first,
    tls_context,
    without_effect,
)
from connector.node.received import ReceivedPayments
from connector.node.surface import WebSurface
from connector.peering.model import LOCAL, PeerRegistry
from connector.peering.remembered import KnownPeers
from connector.peering.routing import Explanation, RoutingTable
from connector.settings.model import Settings
from connector.settings.overlay import FILE_NAME as CHANGES_FILE
from connector.settings.overlay import InEffect, in_effect
from connector.settlement.engine import HttpEngine, make_client
from connector.settlement.manager import SettlementManager
from connector.sinks.sinks import Sinks, make_sinks
from connector.switch.asking import DataHandler
from connector.switch.delivery import Handler
from connector.switch.driver import Driver
from connector.switch.observer import PacketObserver
from connector.switch.rates import http_price_source
from connector.switch.rules import Node
from connector.switch.switch import Switch
from connector.telemetry.aggregates import Aggregates, Counters
from connector.telemetry.alerts import AlertingLog
from connector.telemetry.bounds import AGGREGATE_MINUTES_MAX, PEER_MINUTES_MAX
from connector.telemetry.bus import EventBus
from connector.telemetry.event_log import EventLog
from connector.telemetry.events import NodeStarted, NodeStopped
from connector.telemetry.peer_minutes import PeerMinutes, PeerRow
from connector.telemetry.reporter import Reporter
from connector.telemetry.store import FILE_NAME as EVENTS_FILE
from connector.telemetry.store import EventStore
from connector.telemetry.traces import Traces
from connector.version import __version__, is_compiled, why_interpreted
from connector.web.rates import RatesView
from connector.web.views import NodeViews, Ports
from connector.web.wallets import incoming_metrics


class Connector:
    """One node. Use it as an async context manager; everything it starts ends with it.

    It is started once. Before that there are `clock`, `log`, `settings` and `on_prepare`; all the
    rest exists once it is started, and stays readable after it was stopped.
    """

    events: EventBus
    """What happens here, for viewers and the event store."""
    control: OperatorChanges
    """Peers, routes and limits, changed while the node runs."""
    views: NodeViews
    """What the web surface shows."""
    reporter: Reporter
    sinks: Sinks
    """Where events are delivered."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        log: Log | None = None,
        accept_ledger_loss: bool = False,
        process: int | None = None,
        take_over: bool = False,
    ) -> None:
        """Nothing is read or opened yet.

        Args:
            settings: what was changed at run time (`changes.json`) is laid over them at the start.
            clock: by default the machine's.
            log: by default one to stderr, as the settings say.
            accept_ledger_loss: start although the ledger has less than it acknowledged
                (`LedgerBehindError`): what is missing is lost then.
            process: the name under which this one has claimed while it stood by (`node.daemon`).
            take_over: take over, also from a process that has taken over from this DATA_DIR.
        """
        self._process, self._takes_over = process, take_over
        self.superseded: Final = asyncio.Event()
        """Set when another process of this node has taken over: packets are refused, stop this one."""
        self._accept_ledger_loss = accept_ledger_loss
        self.clock: Final = clock or SteadyClock()
        self.log: Final = log or set_up_log(
            settings.log_level, settings.log_format or "", settings.node_id
        )
        self.btp_port = 0
        """Where peers are let in, once started."""
        self.ilp_http_port = 0
        """Where they post packets, once started; 0: nowhere."""
        self.http_port = 0
        """Where health, metrics and API are, once started."""
        self.pay_port = 0
        """Where payers ask, once started; 0: nobody is paid here by name."""
        self._given = settings
        self._core: Core | None = None
        self._life: Lifecycle | None = None
        self._handler: Handler | None = None
        self._data_handler: DataHandler | None = None
        self._listener: PayListener | None = None
        self._engine_client: HttpClient | None = None
        self._traces: Traces | None = None
        self._stack: contextlib.AsyncExitStack | None = None
        self._began_s: float | None = None

    # --- its parts

    @property
    def known(self) -> KnownPeers:
        """What is remembered of peers, of other starts too."""
        return self._memory.known

    @property
    def core(self) -> Core:
        """Every part that handles packets and money.

        Raises:
            RuntimeError: the node was never started.
        """
        if self._core is None:
            raise RuntimeError("the node is not started: use `async with Connector(settings)`")
        return self._core

    @property
    def settings(self) -> Settings:
        """In effect: as given, from the start on with what was changed while the node ran."""
        return self._given if self._core is None else self._core.settings

    @property
    def node(self) -> Node:
        """Its address, and how many packets are in flight."""
        return self.core.node

    @property
    def peers(self) -> PeerRegistry:
        """With whom there are terms."""
        return self.core.peers

    @property
    def routes(self) -> RoutingTable:
        """Where packets go."""
        return self.core.routes

    @property
    def accounts(self) -> AccountManager:
        """Balances."""
        return self.core.accounts

    @property
    def links(self) -> Links:
        """Connections with peers."""
        return self.core.links

    @property
    def switch(self) -> Switch:
        """How packets are handled."""
        return self.core.switch

    @property
    def driver(self) -> Driver:
        """Packets in flight."""
        return self.core.driver

    @property
    def packets(self) -> PacketObserver:
        """Counts of packets."""
        return self.core.packets

    @property
    def settlements(self) -> SettlementManager:
        """What is paid outside the ledger."""
        return self.core.settlements

    # --- life

    async def __aenter__(self) -> Self:
        """Start: core, then HTTP.

        Raises:
            ConfigError: a file or folder of the settings cannot be used; or what was changed at run
                time cannot, by itself or any more.
            OtherIsActiveError: another process of this node has taken over from this DATA_DIR.
            ConnectorError: a port, a file or the ledger cannot be used; the message says which.
            RuntimeError: it was started before; make another one.
        """
        if self._core is not None:
            raise RuntimeError("a Connector is started once: make another one")
        check(self._given)
        found = in_effect(self._given)
        settings = found.settings
        self.log.info(
            "config_loaded",
            ilp_address=settings.ilp_address,
            peers=len(settings.peers),
            routes=len({route.prefix for route in routes_of(settings, "")}),
            data_dir=str(settings.data_dir),
            admin="on" if settings.admin_api_key is not None else "off",
        )
        if not settings.peers:
            self.log.warning("no_peers", detail=NO_PEERS)
        for detail in without_effect(settings):
            self.log.warning("setting_without_effect", detail=detail)
        if detail := learned_first(settings):
            self.log.info("learned_routes_not_bounded", detail=detail)
        if (why := why_interpreted()) is not None:
            self.log.info("core_interpreted", detail=why)
        self._check_ports(settings)
        core = self._build(found)
        life = self._life = Lifecycle(core)
        stack = contextlib.AsyncExitStack()
        try:
            tls = tls_context("BTP", settings.btp_tls_cert, settings.btp_tls_key)
            http_tls = tls_context(
                "ILP_HTTP", settings.ilp_http_tls_cert, settings.ilp_http_tls_key
            )
            await self._open_store(stack)
            stack.push_async_callback(self._close_engine_client)
            stack.push_async_callback(life.close)
            settings = core.settings  # with the parent's asset
            self._memory.note(settings)
            self._memory.forget(await life.open(self._memory.former(settings)))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            # Cancelled after the core has stopped, so that the events of its stop are still written.
            reporting = [
                group.create_task(self.events.run(self.log)),
                group.create_task(self._store.run()),
                group.create_task(self._event_log.store.run()),
            ]
            if self._traces is not None:
                reporting.append(group.create_task(self._traces.run()))
            stack.callback(lambda: [task.cancel() for task in reporting])
            # Stopped before the store is closed: what is delivered is noted there.
            stack.push_async_callback(self.sinks.stop)
            self.sinks.start(group)
            if self._received is not None:
                await self._received.open()
                stack.push_async_callback(self._received.stop)
                self._received.start(group)
            stack.push_async_callback(life.stop)
            await life.start(group, tls, http_tls)
            self.control.start(group)
            stack.callback(self.control.stop)
            self.btp_port = life.btp_port
            self.ilp_http_port = life.ilp_http_port
            surface = WebSurface(
                core=core,
                sender=self,
                views=self.views,
                changes=self.control,
                events=self.events,
                store=self._store,
                event_log=self._event_log,
                auditor=self._auditor,
                past=self._past,
                payments=self._payments,
                received=self._received,
                sinks=self.sinks,
                aggregates=self.aggregates,
                peer_minutes=self.peer_minutes,
            )
            stack.push_async_callback(self._auditor.stop)
            self._auditor.attach(group)
            stack.push_async_callback(surface.stop)
            self.http_port = await surface.start(group)
            listener = self._listener = PayListener(core)
            stack.push_async_callback(listener.stop)
            self.pay_port = await listener.start(group)
            stack.push_async_callback(self._payments.stop)
            self._payments.attach(group)
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        self._began_s = self.clock.monotonic_s()
        self.events.emit(
            NodeStarted(
                version=__version__,
                ilp_address=core.node.address,
                backend=core.accounts.ledger.backend,
            )
        )
        self.log.info(
            "connector_started",
            version=__version__,
            compiled=is_compiled(),
            ilp_address=core.node.address,
            btp_server_port=self.btp_port,
            http_port=self.http_port,
            ilp_http_port=self.ilp_http_port or None,
            ledger=core.accounts.ledger.backend,
            peers=len(core.peers),
            routes=sum(route.next_hop != LOCAL for route in core.routes),
            generation=core.accounts.generation,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop: nothing that was acknowledged is lost, nothing in flight is left to chance."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()
            self.log.info("connector_stopped")

    async def run_until(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set: the daemon.

        Raises:
            SupersededError: another process of this node has taken over; this one has stopped.
        """
        async with self, asyncio.TaskGroup() as group:
            ends = [group.create_task(one.wait()) for one in (stop, self.superseded)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            if isinstance(stop, Stop) and stop.comes_back:
                assert self._life is not None, "it runs"
                self._life.replaced_at_once()
        if self.superseded.is_set():
            raise SupersededError(self.core.superseded_why)

    def _check_ports(self, settings: Settings) -> None:
        """Name every port that is taken, before a ledger or a folder is made that nobody would use.

        Raises:
            LedgerLockedError: another process of this node is active, and so has them.
            ListenError: something else has them.
        """
        try:
            check_ports(settings)
        except ListenError:
            if lock_path(settings).exists():
                hold_data_dir(SystemDisk(), settings).close()
            raise

    def _build(self, found: InEffect) -> Core:
        """Build every part; nothing is opened yet."""
        settings = found.settings
        self.events = EventBus(node_id=settings.node_id, clock=self.clock)
        alerting = AlertingLog(self.log, emit=self.events.emit, clock=self.clock)
        platform = self._platform = system_platform(alerting, self.clock)
        self._memory = PeerMemory(settings, platform)
        self._memory.read()
        ledger = make_ledger(
            settings, platform.clock, platform.disk, accept_loss=self._accept_ledger_loss
        )
        core = self._core = Core(
            settings,
            platform=platform,
            ledger=ledger,
            emit=self.events.emit,
            account_changed=self._account_changed,
            make_engine=self._make_engine,
            price_source=http_price_source(settings.rates_url, settings.rates_max_age_seconds),
            accept_ledger_loss=self._accept_ledger_loss,
            process=self._process,
            takes_over=self._takes_over,
            on_superseded=self.superseded.set,
            pay_key=pay_key(settings, platform.randomness),
            parents_asset=self._memory.parents_asset(settings),
        )
        core.applier.on_asset = self._peers_changed
        if self._handler is not None:
            core.on_prepare(self._handler)
        if self._data_handler is not None:
            core.on_payment_data(self._data_handler)
        # Whatever the setting says now: accounts keep what they were made to keep.
        self._past = (
            LedgerHistory(ledger, core.accounts) if isinstance(ledger, TigerBeetleLedger) else None
        )
        self._store = EventStore(
            path=settings.data_dir / EVENTS_FILE,
            disk=platform.disk,
            node_id=settings.node_id,
            clock=platform.clock,
            log=platform.log,
            events_max=settings.explorer_max_events,
            bytes_max=settings.explorer_max_bytes,
            retention_days=settings.explorer_retention_days,
            no_room=lambda: core.room.reason,
        )
        sinks = self.sinks = Sinks(
            make_sinks(settings, platform.clock, platform.log),
            settings=settings,
            store=self._store,
            bus=self.events,
            disk=platform.disk,
            clock=platform.clock,
            randomness=platform.randomness,
            log=platform.log,
        )
        self._event_log = EventLog(
            folder=settings.data_dir,
            disk=platform.disk,
            node_id=settings.node_id,
            clock=platform.clock,
            log=platform.log,
            bytes_max=settings.event_log_max_bytes,
            retention_days=settings.event_log_retention_days,
            no_room=lambda: core.room.reason,
        )
        self._auditor = Auditor(
            settings=found.base, clock=platform.clock, emit=self.events.emit, log=platform.log
        )
        self._payments = Payments(core)
        received = self._received = (
            None
            if core.incoming is None
            else ReceivedPayments(core, core.incoming, emit=self.events.emit)
        )
        self.control = OperatorChanges(
            found=found,
            path=settings.data_dir / CHANGES_FILE,
            applier=core.applier,
            accounts=core.accounts,
            answer_given=core.driver.answer_given,
            changed=self._peers_changed,
            fingerprint=self._key_fingerprint,
            emit=self.events.emit,
            log=platform.log,
            announced_to=core.control.router.announced_to,
            now_ms=platform.clock.now_ms,
            recorded=self._is_recorded,
        )
        core.applier.is_configured = self.control.is_configured
        self.views = NodeViews(
            is_configured=self.control.is_configured,
            settings=lambda: self.settings,
            known=lambda: self.known,
            clock=platform.clock,
            node=core.node,
            room=core.room,
            local=core.local,
            peers=core.peers,
            routes=core.routes,
            accounts=core.accounts,
            links=core.links,
            packets=core.packets,
            requests=core.requests,
            bus=self.events,
            store=self._store,
            ports=lambda: Ports(self.btp_port, self.http_port),
            settlement_state=self._settlement_state,
            settlements=core.settlements.counts,
            settlements_waiting=core.settlements.waiting,
            settlements_waiting_amount=core.settlements.waiting_amount,
            loops=core.switch.loops,
            ways=core.switch.ways,
            asset_fault=lambda: core.control.addressing.asset_fault,
            announced_to=core.control.router.announced_to,
            http_counters=core.http.counters,
            pay_url=lambda: "" if self._listener is None else self._listener.url,
            rates=RatesView(lambda: self.settings, core.live_rates),
            incoming_metrics=lambda: incoming_metrics(received, core.questions),
            sinks=sinks,
            in_flight_out=core.driver.waiting_by_peer,
        )
        self.reporter = Reporter(
            bus=self.events,
            accounts=core.accounts,
            take_touched=self.accounts.take_moved,
            status=self.views.node_status,
            monotonic_s=platform.clock.monotonic_s,
            settlement_state=self._settlement_state,
        )
        self.events.ask_before_flush(self.reporter.report)
        now_ms, keep = platform.clock.now_ms, self._store.take_minute
        self.aggregates = Aggregates(read=self._counters, now_ms=now_ms, sink=keep)
        self.events.ask_before_flush(self.aggregates.sample)
        self.peer_minutes = PeerMinutes(
            read=self._peer_counters, now_ms=now_ms, known_s=self.aggregates.known_s, sink=keep
        )
        self.events.ask_before_flush(self.peer_minutes.sample)
        self.events.hand_to(self._store.take)
        self.events.hand_to(self._event_log.take)
        if settings.otlp_endpoint is not None:
            self._traces = Traces(
                endpoint=settings.otlp_endpoint,
                sample_ratio=settings.otlp_sample_ratio,
                node_id=settings.node_id,
                log=platform.log,
            )
            self.events.hand_to(self._traces.take)
        return core

    async def _is_recorded(self) -> bool:
        """Write the events of the log that wait; whether they are on disk, or are not to be kept."""
        store = self._event_log.store
        self.events.flush()
        await store.write()
        return not (store.fault and store.is_kept)

    async def _open_store(self, stack: contextlib.AsyncExitStack) -> None:
        """Events of earlier runs; no ground to refuse to start."""
        log = self._event_log.store
        stack.push_async_callback(self._close_store)
        await self._store.open()
        await log.open()
        self.events.number_from(max(self._store.last_seq, log.last_seq))
        self.events.remember_packets(await self._store.last_packet_events())
        now_s = self.clock.now_ms() // 1000
        self.aggregates.restore(await self._store.minutes(now_s - AGGREGATE_MINUTES_MAX * 60))
        self.peer_minutes.restore(await self._store.minutes_of_peers(now_s - PEER_MINUTES_MAX * 60))
        # Before the first packet: what is counted later is what has come since.
        self.aggregates.sample()
        self.peer_minutes.sample()

    async def _close_store(self) -> None:
        if self._began_s is not None:
            uptime_s = int(self.clock.monotonic_s() - self._began_s)
            self.events.emit(NodeStopped(uptime_seconds=uptime_s))
        self.events.flush()
        self.aggregates.flush()
        self.peer_minutes.flush()
        await self._event_log.store.close()
        await self._store.close()

    def _counters(self) -> Counters:
        """What has passed, for `Aggregates`."""
        packets = self.core.packets
        peers = (self.core.local, *self.core.peers)
        return Counters(
            packets.fulfilled,
            packets.rejected,
            {
                (
                    peer.peer_id,
                    peer.terms.asset.code,
                    peer.terms.asset.scale,
                ): peer.counters.amount_in
                for peer in peers
            },
            {
                (peer.peer_id, code): count
                for peer in peers
                for code, count in peer.counters.rejected_in_by_code.items()
            },
            tuple(packets.latency.buckets),
        )

    def _peer_counters(self) -> Iterator[tuple[str, PeerRow]]:
        """What each peer has had since the start, for `PeerMinutes`."""
        for peer in self.core.peers:
            counted = peer.counters
            yield (
                peer.peer_id,
                PeerRow(
                    counted.fulfilled_in,
                    counted.rejected_in,
                    counted.fulfilled_out,
                    counted.rejected_out,
                    counted.amount_in,
                    counted.amount_out,
                    dict(counted.rejected_in_by_code),
                ),
            )

    def _settlement_state(self, peer_id: str) -> str:
        return self.core.settlements.state(peer_id).value

    def _account_changed(self, peer_id: str) -> None:
        """A settlement moved it, or took a step."""
        self.reporter.touch(peer_id)

    # --- settlement engines

    def _make_engine(self, url: str, token: str | None) -> HttpEngine:
        self._engine_client = self._engine_client or make_client()
        return HttpEngine(url, client=self._engine_client, token=token)

    async def _close_engine_client(self) -> None:
        client, self._engine_client = self._engine_client, None
        if client is not None:
            await client.close()

    def _peers_changed(self) -> None:
        """An operator changed the settings in effect."""
        self._memory.note(self.settings)
        self.core.use_engines()

    def _key_fingerprint(self) -> str:
        key = self.settings.admin_api_key
        return "" if key is None else self.known.fingerprint(key.get_secret_value())

    # --- sending and receiving here

    async def send(
        self,
        destination: str,
        amount: int,
        *,
        data: bytes = b"",
        fulfillment: bytes | None = None,
        condition: bytes | None = None,
        expiry_s: float = 30.0,
    ) -> Answer:
        """Send a Prepare from this node and wait for its answer, a Fulfill or a Reject.

        Without `fulfillment` or `condition` it is a ping: any connector of this kind answers it.

        Args:
            destination: an ILP address.
            amount: in units of the node's own asset; 0 to 2**64 - 1.
            data: for the receiver; at most 32767 octets.
            fulfillment: 32 octets; the condition is its SHA-256.
            condition: 32 octets, where the fulfillment is not known here.
            expiry_s: seconds until the offer runs out.

        Raises:
            ValueError: an argument is out of its range.
        """
        return await self.core.send(
            destination,
            amount,
            data=data,
            fulfillment=fulfillment,
            condition=condition,
            expiry_s=expiry_s,
        )

    async def pay(
        self,
        target: str,
        amount: int,
        *,
        max_slippage: Fraction | str = "0.01",
        min_delivered: int = 0,
        timeout_s: float = PAYMENT_SECONDS,
        key: str | None = None,
    ) -> PaymentStatus:
        """Pay a payment pointer or URL (SPSP, STREAM), and wait for the end.

        Args:
            target: `$host/path`, or the URL that it stands for.
            amount: to be sent, in units of the node's own asset; at least 1.
            max_slippage: by which part the rate may become worse than quoted, 0 to 1. Where this node
                has a rate for the receiver's asset, the quote may not be worse than that by more.
            min_delivered: the least that the receiver must get of all, in units of its asset.
            timeout_s: how long it may take in all.
            key: under the same key it is not made a second time, also after a restart.

        Raises:
            ConfigError: an argument is out of its range.
            ConflictError: the key is of another payment, or was used by another process; too many are
                under way; or the node stops.
            EnvironmentFault: the disk cannot remember it, or the ledger is away.
        """
        return await self._payments.pay(
            target,
            amount,
            slippage=Fraction(max_slippage),
            min_delivered=min_delivered,
            timeout_s=timeout_s,
            key=key or self._platform.randomness.octets(16).hex(),
        )

    async def cancel_payment(self, key: str) -> PaymentStatus:
        """Send nothing more for a payment, for good, and wait until nothing is under way.

        One that has ended stays as it is.

        Raises:
            UnknownNameError: there is none with this key.
            ConflictError: the node is stopping.
            EnvironmentFault: the disk cannot remember it.
        """
        status = await self._payments.cancel(key)
        await status.changed.wait()
        return status

    async def ask_peer(self, peer_id: str, prepare: Prepare) -> Fulfill | Reject:
        """Put a question to a neighbour itself: it is not routed, and no money moves."""
        return await self.core.ask_peer(peer_id, prepare)

    def on_prepare(self, handler: Handler) -> None:
        """Let `handler` answer packets for this node that are neither ping nor RECEIVER_SECRET's.

        It is awaited with the Prepare and returns a Fulfill or a Reject; what it raises becomes a
        T00. Money is held when it is asked, and booked only if its Fulfill fits the condition.

        Delivery is at least once: after a crash a packet may come again, under the same id. A handler
        with a second parameter gets that id, 32 hex digits; one that must act once remembers which
        it has fulfilled, and gives the same fulfillment again.

        Raises:
            TypeError: it takes neither a Prepare nor a Prepare and an id.
        """
        self._handler = handler
        if self._core is not None:
            self._core.on_prepare(handler)

    def on_payment_data(self, handler: DataHandler) -> None:
        """Let `handler` decide about data that payers send with payments to wallets (docs/payments.md).

        It is awaited with a `PaymentData` and returns whether the packet is accepted, True or False, or a
        `Decision` with a message for the payer; what it raises becomes a T00. It has 5 s. Nothing is held
        when it is asked. It is asked at least once, under the same `question_id`.
        """
        self._data_handler = handler
        if self._core is not None:
            self._core.on_payment_data(handler)

    def explain(self, destination: str) -> Explanation:
        """Which route packets for `destination` take, and which others there were."""
        return self.routes.explain(destination)
