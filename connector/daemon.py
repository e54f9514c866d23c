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
from typing import Any, Final, Self

from connector import limits
from connector.btp.link import Credentials, Links
from connector.clock import Clock, SystemClock
from connector.config import PeerSettings, Settings, is_loopback
from connector.delivery import Deliveries, Handler
from connector.errors import ConfigError, ConnectorError, DecodeError
from connector.ilp import address, ildcp
from connector.ilp.packet import Answer, Fulfill, Prepare, Reject, decode
from connector.ledger.account_manager import AccountManager, State
from connector.ledger.embedded import FILE_NAME as LEDGER_FILE
from connector.ledger.embedded import EmbeddedLedger, MemoryLedger
from connector.ledger.interface import Ledger
from connector.ledger.model import IdGenerator
from connector.ledger.outbox import FILE_NAME as OUTBOX_FILE
from connector.ledger.outbox import SqliteOutbox
from connector.ledger.tigerbeetle import TigerBeetleLedger
from connector.log import Log, Sampler
from connector.log import set_up as set_up_log
from connector.peers import LOCAL, Asset, Peer, PeerRegistry, PeerTerms, Relation
from connector.routing import Explanation, Route, RouteSource, RoutingTable
from connector.switch.driver import Driver, Flight
from connector.switch.receiver import PING_CONDITION
from connector.switch.rules import Node
from connector.switch.switch import Result, Switch
from connector.switch.terms import Rates
from connector.telemetry.metrics import Latency, NodeCollector, render
from connector.version import __version__
from connector.web.app import create_app
from connector.web.server import WebServer

TICK_SECONDS: Final = 0.02
SLOW_TICK_SECONDS: Final = 1.0
ILDCP_SECONDS_MAX: Final = 10


def make_ledger(settings: Settings, clock: Clock, *, read_only: bool = False) -> Ledger:
    """The ledger that the settings name."""
    if settings.tigerbeetle_cluster_id is not None and settings.tigerbeetle_replicas is not None:
        return TigerBeetleLedger(
            cluster_id=settings.tigerbeetle_cluster_id,
            addresses=settings.tigerbeetle_replicas,
            clock=clock,
            timeout_ms=settings.accounting_timeout_ms,
        )
    if settings.ledger == "memory":
        return MemoryLedger(clock=clock)
    return EmbeddedLedger(settings.data_dir / LEDGER_FILE, clock=clock, read_only=read_only)


def terms_of(settings: Settings, peer: PeerSettings) -> PeerTerms:
    """A peer's settings with the node's defaults filled in."""

    def or_default(value: int | None, default: int) -> int:
        return default if value is None else value

    return PeerTerms(
        peer_id=peer.id,
        asset=settings.asset_of(peer),
        relation=peer.relation,
        credit_limit=or_default(peer.credit_limit, settings.credit_limit),
        max_payable=peer.max_payable,
        max_packet_amount=peer.max_packet_amount,
        rate_limit=peer.rate_limit,
        fee_basis_points=or_default(peer.fee_basis_points, settings.fee_basis_points),
        settle_threshold=peer.settle_threshold,
        settle_to=peer.settle_to,
        allow_reflection=peer.allow_reflection,
    )


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
        self.settings: Final = settings
        self.clock: Final = clock or SystemClock()
        self.log: Final = log or set_up_log(
            settings.log_level, settings.log_format or "", settings.node_id
        )
        self.btp_port = 0
        """Where peers are let in, once started."""
        self.http_port = 0
        """Where health, metrics and API are, once started."""
        self._began_s = self.clock.monotonic_s()
        self.peers: Final = PeerRegistry(Peer(terms_of(settings, peer)) for peer in settings.peers)
        own_asset = Asset(settings.asset_code, settings.asset_scale)
        self._local = Peer(PeerTerms(peer_id=LOCAL, asset=own_asset))
        parents = [peer for peer in self.peers if peer.terms.relation is Relation.PARENT]
        self._parent = parents[0] if parents else None
        own_address = settings.ilp_address or (
            "" if self._parent is not None else f"test.{settings.node_id}"
        )
        self.node: Final = Node(own_address)
        self.routes: Final = RoutingTable()
        self._outbox = SqliteOutbox(settings.data_dir / OUTBOX_FILE)
        self.accounts: Final = AccountManager(
            node_id=settings.node_id,
            ledger=make_ledger(settings, self.clock),
            clock=self.clock,
            ids=IdGenerator(random_bits=secrets.randbits),
            outbox=self._outbox,
            on_state=self._accounting_state,
            on_alert=self._alert,
            timeout_ms=settings.accounting_timeout_ms,
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
        self._credentials = [
            Credentials(
                peer_id=peer.id,
                token=peer.secret.get_secret_value(),
                username=peer.username or settings.node_id,
                url=peer.url,
            )
            for peer in settings.peers
        ]
        self.links: Final = Links(
            clock=self.clock,
            log=self.log,
            peers=self.peers,
            credentials=self._credentials,
            random_id=lambda: secrets.randbits(31),
            random_octets=secrets.token_bytes,
            observer=self,
        )
        self.driver: Final = Driver(
            switch=self.switch,
            accounts=self.accounts,
            outlet=self.links,
            deliver=self._deliveries.deliver,
            observer=self,
            now_ms=self.clock.now_ms,
            monotonic_s=self.clock.monotonic_s,
        )
        self.links.attach(self.driver)
        self.accounts.attach(self.driver.booked, self.links.flush)
        self._latency = Latency()
        self._rejects = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._collector = NodeCollector(
            peers=self.peers,
            accounts=self.accounts,
            latency=self._latency,
            in_flight=lambda: self.driver.in_flight,
            connected=lambda peer_id: peer_id in self.links.live,
            counters=lambda: {
                "btp_authentication_failures": self.links.auth_failures,
                "btp_messages_ignored": self.links.ignored,
                "ilp_answers_late": sum(p.counters.answers_late for p in self.peers),
                "ilp_answers_malformed": sum(p.counters.answers_malformed for p in self.peers),
                "ilp_answers_undelivered": sum(p.counters.answers_undelivered for p in self.peers),
            },
        )
        self._web: WebServer | None = None
        self._stack: contextlib.AsyncExitStack | None = None
        self._stopping = asyncio.Event()
        self._asking_parent = False

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
            tls = _tls(settings)
            await self._open_books(stack)
            self._add_routes()
            group = await stack.enter_async_context(asyncio.TaskGroup())
            # Left in reverse: the last thing entered is the first to be stopped.
            writer = group.create_task(self.accounts.run())
            stack.push_async_callback(self._drain, writer)
            tickers = [
                group.create_task(self._every(TICK_SECONDS, self._tick)),
                group.create_task(self._every(TICK_SECONDS, self.accounts.release_late)),
                group.create_task(self._every(SLOW_TICK_SECONDS, self._slow_tick)),
            ]
            stack.callback(lambda: [task.cancel() for task in tickers])
            self._deliveries.attach(group, self.driver, self.links.flush)
            stack.push_async_callback(self._deliveries.close)
            stack.push_async_callback(self.links.close)
            self.btp_port = await self.links.listen(
                settings.btp_server_host, settings.btp_server_port, tls
            )
            dialling = [
                group.create_task(self.links.dial(credentials))
                for credentials in self._credentials
                if credentials.url is not None
            ]
            stack.callback(lambda: [task.cancel() for task in dialling])
            stack.push_async_callback(self._wait_for_packets)
            await self._start_web(stack, group)
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        self.log.info(
            "connector_started",
            version=__version__,
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

    async def _open_books(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self.settings
        if settings.ledger == "memory":
            self.log.warning("ledger_in_memory", detail="balances are lost when this node stops")
        stack.push_async_callback(self.accounts.close)
        assets = [Asset(settings.asset_code, settings.asset_scale)]
        await self._outbox.open()
        stack.push_async_callback(self._outbox.close)
        await self.accounts.open((peer.terms for peer in self.peers), assets)
        self.log.info(
            "accounting_initialized",
            backend=self.accounts.ledger.backend,
            cluster_id=settings.tigerbeetle_cluster_id,
            replicas=settings.tigerbeetle_replicas,
        )

    async def _start_web(self, stack: contextlib.AsyncExitStack, group: asyncio.TaskGroup) -> None:
        settings = self.settings
        loopback = is_loopback(settings.http_host)
        key = settings.admin_api_key
        app = create_app(
            self,
            key=key.get_secret_value() if key is not None else None,
            key_required=not loopback,
            hosts=frozenset(("localhost", "127.0.0.1", "::1", settings.http_host))
            if loopback
            else None,
        )
        self._web = WebServer(app, settings.http_host, settings.http_port)
        self.http_port = self._web.bind()
        serving = group.create_task(self._web.run())
        stack.push_async_callback(self._stop_web, serving)
        await self._web.started()

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

    async def _drain(self, writer: asyncio.Task[None]) -> None:
        self.accounts.stop()
        # A ledger that does not answer must not keep a node from stopping: what was promised is
        # in the outbox by then, or can be asked for again.
        _, late = await asyncio.wait([writer], timeout=limits.STOP_IN_FLIGHT_SECONDS_MAX)
        for task in late:
            task.cancel()

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

    async def _slow_tick(self) -> None:
        self.links.tick()
        await self.accounts.expire()
        self._ask_parent()

    # --- addresses and routes

    def _add_routes(self) -> None:
        settings = self.settings
        for peer in settings.peers:
            for prefix in peer.routes:
                self.routes.add(Route(RouteSource.CONFIG, peer.id, prefix))
        for route in settings.routes:
            self.routes.add(Route(RouteSource.CONFIG, route.next_hop, route.prefix))
        if self._parent is not None:
            self.routes.add(Route(RouteSource.PARENT, self._parent.peer_id, ""))
        if self.node.address:
            self._add_own()

    def _add_own(self) -> None:
        """Routes that follow from our own address: ourselves, and our children below us."""
        self.routes.add(Route(RouteSource.LOCAL, LOCAL, self.node.address))
        for peer in self.peers:
            if peer.terms.relation is Relation.CHILD:
                prefix = f"{self.node.address}.{peer.peer_id}"
                self.routes.add(Route(RouteSource.CHILD, peer.peer_id, prefix))

    def _ask_parent(self) -> None:
        """Without an address of its own a child asks its parent (RFC 31); again until it knows."""
        parent = self._parent
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
        assert self._parent is not None
        asset = Asset(config.asset_code, config.asset_scale)
        if asset != self._parent.terms.asset:
            self.log.warning(
                "ildcp_asset_differs", parent=str(asset), configured=str(self._parent.terms.asset)
            )
        self.node.settle_at(config.address)
        self._add_own()
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

    def on_prepare(self, handler: Handler) -> None:
        """Let `handler` answer packets for this node that are neither ping nor RECEIVER_SECRET's.

        It is awaited with the Prepare and returns a Fulfill or a Reject; what it raises becomes a
        T00. Money is held when it is asked, and booked only if its Fulfill fits the condition.
        """
        self._deliveries.on_prepare(handler)

    def explain(self, destination: str) -> Explanation:
        """Which route packets for `destination` take, and which others there were."""
        return self.routes.explain(destination)

    # --- what the parts tell (Observer, LinkObserver)

    def ended(self, flight: Flight, result: Result) -> None:
        """See `Observer`."""
        now_s = self.clock.monotonic_s()
        self._latency.observe(now_s - flight.began_s)
        if result.code is None:
            return
        suppressed = self._rejects.allow(now_s)
        if suppressed is not None:
            self.log.info(
                "packet_rejected",
                packet_id=f"{flight.packet_id:032x}",
                peer_id=flight.source.peer_id,
                next_hop=result.next_hop,
                destination=flight.prepare.destination,
                amount=str(flight.prepare.amount),
                code=result.code,
                reason=result.message[: limits.REJECT_MESSAGE_CHARACTERS_OURS_MAX],
                triggered_by=result.triggered_by,
                suppressed=suppressed,
            )

    def connected(self, peer_id: str, direction: str) -> None:
        """See `LinkObserver`."""
        del direction
        if self._parent is not None and peer_id == self._parent.peer_id:
            # Not from within the log-in that is being handled.
            asyncio.get_running_loop().call_soon(self._ask_parent)

    def disconnected(self, peer_id: str, direction: str, reason: str) -> None:
        """See `LinkObserver`."""

    def _accounting_state(self, state: State, why: str) -> None:
        level = self.log.warning if state is State.UNAVAILABLE else self.log.info
        level(
            "accounting_state_changed",
            state=state.value,
            backend=self.accounts.ledger.backend,
            reason=why,
        )

    def _alert(self, event: str, fields: dict[str, object]) -> None:
        self.log.warning(event, **fields)

    # --- what the web surface shows (NodeView)

    def health(self) -> dict[str, Any]:
        """See `NodeView`."""
        is_ready, reason = self.ready()
        return {
            "status": "healthy" if is_ready else "unhealthy",
            "reason": reason,
            "nodeId": self.settings.node_id,
            "peersConnected": len(self.links.live),
            "peersTotal": len(self.peers),
            "accounting": {
                "state": self.accounts.state.value,
                "backend": self.accounts.ledger.backend,
            },
            "version": __version__,
            "uptimeSeconds": int(self.clock.monotonic_s() - self._began_s),
        }

    def ready(self) -> tuple[bool, str]:
        """See `NodeView`."""
        if self.node.stopping:
            return False, "shutting down"
        if not self.btp_port:
            return False, "starting"
        if self.accounts.state is not State.AVAILABLE:
            return False, f"accounting {self.accounts.state.value}: {self.accounts.state_reason}"
        return True, ""

    def metrics(self) -> bytes:
        """See `NodeView`."""
        return render(self._collector)

    def status(self) -> dict[str, Any]:
        """See `NodeView`."""
        peers = list(self.peers)
        return {
            **self.health(),
            "ilpAddress": self.node.address,
            "btpServerPort": self.btp_port,
            "httpPort": self.http_port,
            "routes": len(self.routes),
            "packetsInFlight": self.driver.in_flight,
            "packetsFulfilled": sum(p.counters.fulfilled_in for p in peers)
            + self._local.counters.fulfilled_in,
            "packetsRejected": sum(p.counters.rejected_in for p in peers)
            + self._local.counters.rejected_in,
        }

    def peers_view(self) -> list[dict[str, Any]]:
        """See `NodeView`."""
        items = []
        for peer in self.peers:
            link = self.links.live.get(peer.peer_id)
            dialling = self.links.dialling.get(peer.peer_id)
            counters = peer.counters
            items.append(
                {
                    "peerId": peer.peer_id,
                    "relation": peer.terms.relation.value,
                    "assetCode": peer.terms.asset.code,
                    "assetScale": peer.terms.asset.scale,
                    "connected": link is not None,
                    "direction": link.direction if link is not None else None,
                    "resumable": link is not None and link.session.resumable,
                    "latencyMs": round(link.latency_s * 1000, 3)
                    if link is not None and link.latency_s is not None
                    else None,
                    "connects": self.links.connects.get(peer.peer_id, 0),
                    "lastError": dialling.last_error if dialling is not None else "",
                    "inFlight": peer.in_flight,
                    "packetsIn": counters.prepares_in,
                    "packetsOut": counters.prepares_out,
                    "fulfilledIn": counters.fulfilled_in,
                    "fulfilledOut": counters.fulfilled_out,
                    "rejectedIn": counters.rejected_in,
                    "rejectedOut": counters.rejected_out,
                    "resentIn": counters.resent_in,
                    "resentOut": counters.resent_out,
                }
            )
        return items

    def routes_view(self, cursor: str, count: int) -> tuple[list[dict[str, Any]], str | None]:
        """See `NodeView`."""
        items: list[dict[str, Any]] = []
        for route in self.routes:
            if cursor and route.prefix <= cursor:
                continue
            if len(items) == count:
                return items, str(items[-1]["prefix"])
            items.append(_route(route))
        return items, None

    def accounts_view(self) -> list[dict[str, Any]]:
        """See `NodeView`."""
        return [
            {
                "peerId": peer_id,
                "assetCode": books.terms.asset.code,
                "assetScale": books.terms.asset.scale,
                "debitBalance": str(books.debit_balance),
                "creditBalance": str(books.credit_balance),
                "netBalance": str(books.net_balance),
                "pendingDebits": str(books.peer.debits_pending),
                "pendingCredits": str(books.peer.credits_pending),
                "creditLimit": str(books.terms.credit_limit),
                "availableCredit": str(books.available_credit),
                "settlementThreshold": None
                if books.terms.settle_threshold is None
                else str(books.terms.settle_threshold),
                "settlementState": "IDLE",
            }
            for peer_id, books in self.accounts.peers.items()
        ]

    def explain_view(self, destination: str) -> dict[str, Any]:
        """See `NodeView`."""
        found = self.explain(destination)
        return {
            "destination": destination,
            "chosen": None if found.chosen is None else _route(found.chosen),
            "shorter": [_route(route) for route in found.shorter],
            "beaten": [_route(route) for route in found.beaten],
            "local": found.chosen is not None and found.chosen.next_hop == LOCAL,
        }


def _route(route: Route) -> dict[str, Any]:
    return {
        "prefix": route.prefix,
        "nextHop": route.next_hop,
        "source": route.source.name.lower(),
    }


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.btp_tls_cert is None or settings.btp_tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.btp_tls_cert, settings.btp_tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            [f"BTP_TLS_CERT and BTP_TLS_KEY cannot be used: {error.strerror or error}"]
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
