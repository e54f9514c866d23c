"""The composition root: builds every part once, starts them in order, stops them in reverse.

`Connector` is also the library: `async with Connector(settings) as node: await node.send(...)`.
Starting: ledger and books, then the links (nobody is let in before money can be booked), then
HTTP. Stopping: no new packets, wait for those in flight, close the links, drain the writer, close
the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Self

import httpx

from connector.accounting.history import LedgerHistory
from connector.accounting.manager import AccountManager, State
from connector.accounting.outbox import FILE_NAME as OUTBOX_FILE
from connector.accounting.outbox import SqliteOutbox
from connector.base import limits
from connector.base.clock import Clock, SystemClock
from connector.base.disk import SystemDisk
from connector.base.errors import ConfigError, ConnectorError, DecodeError
from connector.base.log import Log
from connector.base.log import set_up as set_up_log
from connector.btp.link import Links
from connector.btp.network import SystemNetwork
from connector.ilp import address, ildcp
from connector.ilp.packet import Answer, Fulfill, Prepare, Reject, decode
from connector.ledger.model import IdGenerator
from connector.ledger.select import make_ledger
from connector.ledger.tigerbeetle import TigerBeetleLedger
from connector.node.apply import Neighbours, credentials_of, terms_of
from connector.node.changes import Control
from connector.peering.model import LOCAL, Asset, Peer, PeerRegistry, PeerTerms, Relation
from connector.peering.remembered import FILE_NAME as KNOWN_FILE
from connector.peering.remembered import KnownPeers
from connector.peering.routing import Explanation, RoutingTable
from connector.settings.model import PeerSettings, Settings, is_loopback
from connector.settings.overlay import FILE_NAME as CHANGES_FILE
from connector.settings.overlay import in_effect
from connector.settlement.engine import HttpEngine, make_client
from connector.settlement.manager import SettlementManager
from connector.settlement.store import FILE_NAME as SETTLEMENTS_FILE
from connector.settlement.store import SettlementStore
from connector.switch.delivery import Deliveries, Handler
from connector.switch.driver import Driver
from connector.switch.observer import PacketObserver
from connector.switch.receiver import PING_CONDITION
from connector.switch.rules import Node
from connector.switch.switch import Switch
from connector.switch.terms import Rates
from connector.telemetry.bus import EventBus
from connector.telemetry.events import (
    AccountingState,
    PeerConnected,
    PeerDisconnected,
)
from connector.telemetry.metrics import LedgerRequests
from connector.telemetry.reporter import Reporter
from connector.telemetry.store import FILE_NAME as EVENTS_FILE
from connector.telemetry.store import EventStore
from connector.telemetry.traces import Traces
from connector.version import __version__, is_compiled
from connector.web.access import Access
from connector.web.admin import admin_router
from connector.web.app import create_app
from connector.web.feed import feed_router
from connector.web.network import Neighbourhood, network_router
from connector.web.server import WebServer
from connector.web.settlement import engine_router, settlements_router
from connector.web.views import NodeViews, Ports

TICK_SECONDS: Final = 0.02
SLOW_TICK_SECONDS: Final = 1.0
LOOK_UP_PAUSE_TIMES: Final = 4
"""A look-up is followed by a pause of so many times what it took."""
ILDCP_SECONDS_MAX: Final = 10


class _Answered:
    """Waits for the answer to a packet of this node itself."""

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(self, _request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        if self.future.done():
            return False
        self.future.set_result(octets)
        return True


class Connector:
    """One node. Use it as an async context manager; everything it starts ends with it."""

    def __init__(
        self, settings: Settings, *, clock: Clock | None = None, log: Log | None = None
    ) -> None:
        """Build every part; nothing is opened yet."""
        found = in_effect(settings)
        settings = found.settings
        self.clock: Final = clock or SystemClock()
        self.log: Final = log or set_up_log(
            settings.log_level, settings.log_format or "", settings.node_id
        )
        self.events: Final = EventBus(node_id=settings.node_id, clock=self.clock)
        """What happens here, for viewers and the event store."""
        disk = SystemDisk()
        self._store = EventStore(
            path=settings.data_dir / EVENTS_FILE,
            disk=disk,
            node_id=settings.node_id,
            clock=self.clock,
            log=self.log,
            events_max=settings.explorer_max_events,
            bytes_max=settings.explorer_max_bytes,
            retention_days=settings.explorer_retention_days,
        )
        self.btp_port = 0
        """Where peers are let in, once started."""
        self.http_port = 0
        """Where health, metrics and API are, once started."""
        self.peers: Final = PeerRegistry(Peer(terms_of(settings, peer)) for peer in settings.peers)
        own_asset = Asset(settings.asset_code, settings.asset_scale)
        self._local = Peer(PeerTerms(peer_id=LOCAL, asset=own_asset))
        own_address = settings.ilp_address or (
            ""
            if any(peer.relation is Relation.PARENT for peer in settings.peers)
            else f"test.{settings.node_id}"
        )
        self.node: Final = Node(own_address)
        self.routes: Final = RoutingTable()
        self._outbox = SqliteOutbox(disk.database(settings.data_dir / OUTBOX_FILE))
        ledger = make_ledger(settings, self.clock, disk)
        # An embedded ledger fails with its disk, which is the outbox's too: what room is left
        # there is for the posts of packets in flight.
        spools = settings.accounting_outage_policy == "spool" and ledger.may_be_away
        self._requests = LedgerRequests()
        self.accounts: Final = AccountManager(
            node_id=settings.node_id,
            ledger=ledger,
            clock=self.clock,
            ids=IdGenerator(random_bits=secrets.randbits),
            outbox=self._outbox,
            on_state=self._accounting_state,
            on_alert=self._alert,
            on_request=self._requests.observe,
            timeout_ms=settings.accounting_timeout_ms,
            spool_transfers_max=settings.accounting_spool_limit if spools else 0,
            keeps_history=settings.tigerbeetle_history,
        )
        # Whatever the setting says now: accounts keep what they were made to keep.
        self._past = (
            LedgerHistory(ledger, self.accounts) if isinstance(ledger, TigerBeetleLedger) else None
        )
        self._deliveries = Deliveries(
            url=settings.local_delivery_url,
            clock=self.clock,
            log=self.log,
            own_address=lambda: self.node.address,
        )
        self.switch: Final = Switch(
            node=self.node,
            peers=self.peers,
            routes=self.routes,
            rates=Rates(settings.rates),
            now_ms=self.clock.now_ms,
            window_ms=settings.message_window_ms,
            hold_ms_max=settings.max_hold_ms,
            receiver_secret=settings.receiver_key,
            delivers=self._deliveries.possible,
        )
        self.links: Final = Links(
            clock=self.clock,
            log=self.log,
            peers=self.peers,
            credentials=[credentials_of(settings, peer) for peer in settings.peers],
            random_id=lambda: secrets.randbits(31),
            random_octets=secrets.token_bytes,
            observer=self,
            network=SystemNetwork(),
        )
        self.packets: Final = PacketObserver(
            emit=self.events.emit,
            log=self.log,
            monotonic_s=self.clock.monotonic_s,
            packets_per_second=settings.telemetry_packets_per_second,
            own_address=lambda: self.node.address,
        )
        self.driver: Final = Driver(
            switch=self.switch,
            accounts=self.accounts,
            outlet=self.links,
            deliver=self._deliveries.deliver,
            observer=self.packets,
            now_ms=self.clock.now_ms,
            monotonic_s=self.clock.monotonic_s,
        )
        self.links.attach(self.driver)
        self.accounts.attach(self.driver.booked, self.links.flush)
        self.neighbours: Final = Neighbours(
            settings=settings,
            node=self.node,
            peers=self.peers,
            links=self.links,
            accounts=self.accounts,
            routes=self.routes,
            emit=self.events.emit,
        )
        self.control: Final = Control(
            found=found,
            path=settings.data_dir / CHANGES_FILE,
            neighbours=self.neighbours,
            accounts=self.accounts,
            changed=self._peers_changed,
            fingerprint=self._key_fingerprint,
            emit=self.events.emit,
            log=self.log,
        )
        """Peers, routes and limits, changed while the node runs."""
        self.known = KnownPeers.make(secrets.token_bytes)
        """What is remembered of peers; of other starts too, once started."""
        self._engine_client: httpx.AsyncClient | None = None
        self._engines: dict[str, tuple[str | None, int | None]] = {}
        self.settlements: Final = SettlementManager(
            accounts=self.accounts,
            store=SettlementStore(
                disk.database(
                    # As lasting as the ledger.
                    Path(":memory:")
                    if settings.ledger == "memory" and settings.tigerbeetle_cluster_id is None
                    else settings.data_dir / SETTLEMENTS_FILE
                )
            ),
            clock=self.clock,
            log=self.log,
            emit=self.events.emit,
            touch=self._account_changed,
            ask_peer=self.ask_peer,
            new_key=lambda: secrets.token_hex(16),
            random=secrets.SystemRandom().random,
        )
        for peer in settings.peers:
            self._use_engine(peer)
        self._deliveries.on_settle_message(self.settlements.answer)
        self.views: Final = NodeViews(
            settings=lambda: self.settings,
            known=lambda: self.known,
            clock=self.clock,
            node=self.node,
            local=self._local,
            peers=self.peers,
            routes=self.routes,
            accounts=self.accounts,
            links=self.links,
            packets=self.packets,
            requests=self._requests,
            bus=self.events,
            store=self._store,
            ports=lambda: Ports(self.btp_port, self.http_port),
            settlement_state=lambda peer_id: self.settlements.state(peer_id).value,
            settlements=self.settlements.counts,
        )
        self.reporter: Final = Reporter(
            bus=self.events,
            accounts=self.accounts,
            take_touched=self.driver.take_touched,
            status=self.views.node_status,
            monotonic_s=self.clock.monotonic_s,
            settlement_state=lambda peer_id: self.settlements.state(peer_id).value,
        )
        self.events.ask_before_flush(self.reporter.report)
        self.events.hand_to(self._store.take)
        self._traces: Traces | None = None
        if settings.otlp_endpoint is not None:
            self._traces = Traces(
                endpoint=settings.otlp_endpoint,
                sample_ratio=settings.otlp_sample_ratio,
                node_id=settings.node_id,
                log=self.log,
            )
            self.events.hand_to(self._traces.take)
        self._web: WebServer | None = None
        self._stack: contextlib.AsyncExitStack | None = None
        self._stopping = asyncio.Event()
        self._asking_parent = False

    @property
    def settings(self) -> Settings:
        """In effect: as given, with what was changed while the node ran."""
        return self.neighbours.settings

    # --- life

    async def __aenter__(self) -> Self:
        """Start: ledger, links, HTTP.

        Raises:
            ConnectorError: a port, a file or the ledger cannot be used; the message says which.
        """
        settings = self.settings
        self.log.info(
            "config_loaded",
            ilp_address=settings.ilp_address,
            peers=len(settings.peers),
            routes=len(settings.routes),
            data_dir=str(settings.data_dir),
            admin="on" if settings.admin_api_key is not None else "off",
        )
        stack = contextlib.AsyncExitStack()
        try:
            tls = _tls("BTP", settings.btp_tls_cert, settings.btp_tls_key)
            await self._open_store(stack)
            await self._open_books(stack)
            self.neighbours.add_routes()
            group = await stack.enter_async_context(asyncio.TaskGroup())
            # Left in reverse: the last thing entered is the first to be stopped.
            books = [
                group.create_task(self.accounts.run()),
                group.create_task(self.accounts.attend()),
            ]
            stack.push_async_callback(self._drain, books)
            tickers = [
                group.create_task(self._every(TICK_SECONDS, self._tick)),
                group.create_task(self._every(TICK_SECONDS, self.accounts.release_late)),
                group.create_task(self._every(TICK_SECONDS, self._look_up)),
                group.create_task(self._every(SLOW_TICK_SECONDS, self._slow_tick)),
                group.create_task(self.events.run(self.log)),
                group.create_task(self._store.run()),
            ]
            if self._traces is not None:
                tickers.append(group.create_task(self._traces.run()))
            stack.callback(lambda: [task.cancel() for task in tickers])
            settling = group.create_task(self.settlements.run())
            stack.push_async_callback(self._stop_settling, settling)
            self._deliveries.attach(group, self.driver, self.links.flush)
            stack.push_async_callback(self._deliveries.close)
            stack.push_async_callback(self.links.close)
            self.btp_port = await self.links.listen(
                settings.btp_server_host, settings.btp_server_port, tls
            )
            self.neighbours.start(group)
            stack.callback(self.neighbours.stop)
            stack.push_async_callback(self._wait_for_packets)
            await self._start_web(stack, group)
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        self.log.info(
            "connector_started",
            version=__version__,
            compiled=is_compiled(),
            ilp_address=self.node.address,
            btp_server_port=self.btp_port,
            http_port=self.http_port,
            ledger=self.accounts.ledger.backend,
            peers=len(self.peers),
            routes=len(self.routes),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop: nothing that was acknowledged is lost, nothing in flight is left to chance."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()
            self.log.info("connector_stopped")

    async def _open_store(self, stack: contextlib.AsyncExitStack) -> None:
        """Events of earlier runs; no ground to refuse to start."""
        await self._store.open()
        stack.push_async_callback(self._close_store)
        self.events.number_from(self._store.last_seq)
        self.events.remember_packets(await self._store.last_packet_events())

    async def _close_store(self) -> None:
        self.events.flush()
        await self._store.close()

    async def _open_books(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self.settings
        if settings.ledger == "memory":
            self.log.warning("ledger_in_memory", detail="balances are lost when this node stops")
        stack.push_async_callback(self.accounts.close)
        assets = [Asset(settings.asset_code, settings.asset_scale)]
        await self._outbox.open()
        stack.push_async_callback(self._outbox.close)
        self._remember_peers()
        former = [
            PeerTerms(peer_id=peer_id, asset=known.asset)
            for peer_id, known in self.known.peers.items()
            if peer_id not in self.peers
        ]
        await self.accounts.open((peer.terms for peer in self.peers), assets, former)
        stack.push_async_callback(self._close_engine_client)
        stack.push_async_callback(self.settlements.close)
        await self.settlements.open()
        self._forget_even(former)
        if self.accounts.state is not State.AVAILABLE:
            return  # said when the state was set
        self.log.info(
            "accounting_initialized",
            backend=self.accounts.ledger.backend,
            cluster_id=settings.tigerbeetle_cluster_id,
            replicas=settings.tigerbeetle_replicas,
        )

    def _remember_peers(self) -> None:
        """Whom we had, and since when secrets are in use; no ground to refuse to start."""
        path = self.settings.data_dir / KNOWN_FILE
        try:
            if self.settings.ledger != "memory":
                self.known = KnownPeers.read(path, secrets.token_bytes)
        except (OSError, ValueError) as error:
            self.log.warning("known_peers_unreadable", path=str(path), reason=str(error))
        self._meet_peers()

    def _meet_peers(self) -> None:
        """Note peers and secrets that are new."""
        settings = self.settings
        peers = [
            (peer.id, settings.asset_of(peer), peer.secret.get_secret_value())
            for peer in settings.peers
        ]
        if self.known.meet(peers, self.clock.now_ms()):
            self._write_known()

    def _write_known(self) -> None:
        if self.settings.ledger == "memory":
            return
        path = self.settings.data_dir / KNOWN_FILE
        try:
            self.known.write(path)
        except OSError as error:
            self.log.warning("known_peers_not_written", path=str(path), reason=str(error))

    def _forget_even(self, former: list[PeerTerms]) -> None:
        """Peers that are gone are remembered only as long as there is a balance with them."""
        if self.accounts.state is not State.AVAILABLE:
            return  # balances are not known for sure
        even = [
            one.peer_id
            for one in former
            if self.accounts.peers[one.peer_id].is_even
            and self.settlements.under_way(one.peer_id) is None
        ]
        for peer_id in even:
            self.accounts.forget_peer(peer_id)
            del self.known.peers[peer_id]
        if even:
            self._write_known()

    def _key_fingerprint(self) -> str:
        key = self.settings.admin_api_key
        return "" if key is None else self.known.fingerprint(key.get_secret_value())

    async def _start_web(self, stack: contextlib.AsyncExitStack, group: asyncio.TaskGroup) -> None:
        settings = self.settings
        loopback = is_loopback(settings.http_host)
        key = settings.admin_api_key
        tls = _tls("HTTP", settings.http_tls_cert, settings.http_tls_key)
        access = Access(
            key=key.get_secret_value() if key is not None else None,
            required=not loopback,
            node_id=settings.node_id,
            clock=self.clock,
            log=self.log,
            secure=tls is not None,
        )
        token = settings.settlement_token
        engines = Access(
            key=token.get_secret_value() if token is not None else None,
            required=token is not None or not loopback,
            node_id=settings.node_id,
            clock=self.clock,
            log=self.log,
        )
        names = frozenset(settings.http_allowed_hosts)
        own_names = frozenset(("localhost", "127.0.0.1", "::1", settings.http_host))
        app = create_app(
            self.views,
            access=access,
            hosts=own_names | names if loopback or names else None,
            log=self.log,
            node_id=settings.node_id,
            engines=engines,
            routers=[
                admin_router(self.control, self.views, self),
                feed_router(
                    bus=self.events,
                    store=self._store,
                    snapshot=self.views.snapshot,
                    asset_of=self._asset_of,
                    past=self._past,
                    now_ms=self.clock.now_ms,
                ),
                engine_router(self.settlements),
                settlements_router(self.settlements, lambda: secrets.token_hex(16)),
                network_router(self._neighbourhood()),
            ],
        )
        self._web = WebServer(
            app,
            settings.http_host,
            settings.http_port,
            settings.http_tls_cert,
            settings.http_tls_key,
        )
        self.http_port = self._web.bind()
        serving = group.create_task(self._web.run())
        stack.push_async_callback(self._stop_web, serving)
        await self._web.started()

    def _asset_of(self, peer_id: str) -> Asset | None:
        books = self.accounts.peers.get(peer_id)
        return None if books is None else books.terms.asset

    def _neighbourhood(self) -> Neighbourhood:
        settings = self.settings
        key = settings.explorer_nodes_key
        return Neighbourhood(
            own=self.views,
            urls=settings.explorer_nodes,
            key=key.get_secret_value() if key is not None else None,
            clock=self.clock,
        )

    async def _stop_web(self, serving: asyncio.Task[None]) -> None:
        assert self._web is not None
        self._web.stop()
        await serving

    async def _wait_for_packets(self) -> None:
        """Take nothing new; packets in flight are waited for, a bounded time."""
        self.node.stopping = True
        self.links.stop_listening()
        deadline_s = self.clock.monotonic_s() + limits.STOP_IN_FLIGHT_SECONDS_MAX
        while self.driver.in_flight and self.clock.monotonic_s() < deadline_s:
            await asyncio.sleep(TICK_SECONDS)

    async def _drain(self, books: list[asyncio.Task[None]]) -> None:
        self.accounts.stop()
        # A ledger that does not answer must not keep a node from stopping: what was promised is
        # in the outbox by then, or can be asked for again.
        _, late = await asyncio.wait(books, timeout=limits.STOP_IN_FLIGHT_SECONDS_MAX)
        for task in late:
            task.cancel()
        if not late:
            await self.accounts.stopped()

    def _use_engine(self, peer: PeerSettings) -> None:
        """Who pays a peer: its settlement engine, or an operator."""
        settings = self.settings
        url = settings.settlement_engine_of(peer)
        if self._engines.get(peer.id) == (url, peer.settlement_engine_scale):
            return
        self._engines[peer.id] = url, peer.settlement_engine_scale
        token = settings.settlement_token
        engine = None
        if url is not None:
            self._engine_client = self._engine_client or make_client()
            secret = None if token is None else token.get_secret_value()
            engine = HttpEngine(url, client=self._engine_client, token=secret)
        self.settlements.use(peer.id, engine, peer.settlement_engine_scale)

    async def _close_engine_client(self) -> None:
        if self._engine_client is not None:
            await self._engine_client.aclose()

    def _peers_changed(self) -> None:
        """While running. Who pays a peer that is gone stays, until its balance is settled."""
        self._meet_peers()
        for peer in self.settings.peers:
            self._use_engine(peer)

    def _account_changed(self, peer_id: str) -> None:
        """A settlement moved it, or took a step."""
        self.reporter.touch(peer_id)

    async def _stop_settling(self, settling: asyncio.Task[None]) -> None:
        await self.settlements.stop()
        settling.cancel()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set: the daemon."""
        async with self:
            await stop.wait()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await work()

    async def _tick(self) -> None:
        self.driver.tick()
        self.accounts.tick()

    async def _look_up(self) -> None:
        """Take up Prepares that were sent again, when the ledger has said which of them it knows."""
        asked = self.driver.to_look_up()
        if asked:
            began_s = self.clock.monotonic_s()
            self.driver.looked_up(await self.accounts.find_former(asked))
            self.links.flush()
            # A peer that says of all its packets that they were sent before gets its share of the
            # ledger and no more.
            took_s = self.clock.monotonic_s() - began_s
            await asyncio.sleep(took_s * LOOK_UP_PAUSE_TIMES)

    async def _slow_tick(self) -> None:
        self.links.tick()
        self.driver.give_up_asking()
        self.links.flush()
        await self.accounts.expire()
        await self.accounts.look_after_outbox()
        await self.accounts.take_back_credit()
        self._ask_parent()

    # --- addresses and routes

    def _ask_parent(self) -> None:
        """Without an address of its own a child asks its parent (RFC 31); again until it knows."""
        parent = self.neighbours.parent
        if self.node.address or parent is None or parent.peer_id not in self.links.live:
            return
        if self._asking_parent:
            return
        self._asking_parent = True
        waiter = _Answered()
        waiter.future.add_done_callback(self._told_by_parent)
        expires_at_ms = self.clock.now_ms() + ILDCP_SECONDS_MAX * 1000
        self.driver.ask(self._local, parent, ildcp.request(expires_at_ms), waiter)
        self.links.flush()

    def _told_by_parent(self, answered: asyncio.Future[bytes]) -> None:
        self._asking_parent = False
        if answered.cancelled():
            return
        try:
            answer = decode(answered.result())
            if not isinstance(answer, Fulfill):
                raise DecodeError("ILDCP", 0, f"the parent answered {answer!r}")
            config = ildcp.read_answer(answer)
        except DecodeError as error:
            self.log.warning("ildcp_failed", reason=str(error))
            return
        parent = self.neighbours.parent
        asset = Asset(config.asset_code, config.asset_scale)
        if parent is not None and asset != parent.terms.asset:
            self.log.warning(
                "ildcp_asset_differs", parent=str(asset), configured=str(parent.terms.asset)
            )
        self.node.settle_at(config.address)
        self.neighbours.add_routes()
        self.log.info("ilp_address_received", ilp_address=config.address)

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
        if not address.is_address(destination):
            raise ValueError(f"{destination!r} is not an ILP address")
        if not 0 <= amount <= limits.AMOUNT_MAX:
            raise ValueError("an amount lies between 0 and 2**64 - 1")
        if len(data) > limits.PACKET_DATA_BYTES_MAX:
            raise ValueError(f"data has at most {limits.PACKET_DATA_BYTES_MAX} octets")
        if fulfillment is not None:
            condition = hashlib.sha256(fulfillment).digest()
        prepare = Prepare(
            amount=amount,
            expires_at_ms=self.clock.now_ms() + int(expiry_s * 1000),
            condition=condition or PING_CONDITION,
            destination=destination,
            data=data,
        )
        waiter = _Answered()
        self.driver.originate(self._local, prepare, waiter)
        self.links.flush()
        answer = decode(await waiter.future)
        assert isinstance(answer, Fulfill | Reject), answer
        return answer

    async def ask_peer(self, peer_id: str, prepare: Prepare) -> Fulfill | Reject:
        """Put a question to a neighbour itself: it is not routed, and no money moves."""
        waiter = _Answered()
        self.driver.ask(self._local, self.peers[peer_id], prepare, waiter)
        self.links.flush()
        answer = decode(await waiter.future)
        assert isinstance(answer, Fulfill | Reject), answer
        return answer

    def on_prepare(self, handler: Handler) -> None:
        """Let `handler` answer packets for this node that are neither ping nor RECEIVER_SECRET's.

        It is awaited with the Prepare and returns a Fulfill or a Reject; what it raises becomes a
        T00. Money is held when it is asked, and booked only if its Fulfill fits the condition.
        """
        self._deliveries.on_prepare(handler)

    def explain(self, destination: str) -> Explanation:
        """Which route packets for `destination` take, and which others there were."""
        return self.routes.explain(destination)

    # --- what the parts tell (LinkObserver)

    def connected(self, peer_id: str, direction: str) -> None:
        """See `LinkObserver`."""
        self.events.emit(PeerConnected(peer_id=peer_id, direction=direction))
        parent = self.neighbours.parent
        if parent is not None and peer_id == parent.peer_id:
            # Not from within the log-in that is being handled.
            asyncio.get_running_loop().call_soon(self._ask_parent)

    def disconnected(self, peer_id: str, direction: str, reason: str) -> None:
        """See `LinkObserver`."""
        self.events.emit(PeerDisconnected(peer_id=peer_id, direction=direction, reason=reason))

    def _accounting_state(self, state: State, why: str) -> None:
        level = self.log.info if state is State.AVAILABLE else self.log.warning
        level(
            "accounting_state_changed",
            state=state.value,
            backend=self.accounts.ledger.backend,
            reason=why,
        )
        self.events.emit(
            AccountingState(
                state=state.value,
                backend=self.accounts.ledger.backend,
                spooled=self.accounts.spooled,
                error=why,
            )
        )

    def _alert(self, event: str, fields: dict[str, object]) -> None:
        self.log.warning(event, **fields)


def _tls(which: str, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key that asks for a password would wait at a terminal that a daemon does not have.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            [f"{which}_TLS_CERT and {which}_TLS_KEY cannot be used: {error.strerror or error}"]
        ) from error
    return context


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run a daemon until `stop` is set.

    Raises:
        ConnectorError: it could not start; the message says why and what to do.
    """
    node = Connector(settings)
    try:
        await node.run_until(stop)
    except* ConnectorError as group:
        raise group.exceptions[0] from None
