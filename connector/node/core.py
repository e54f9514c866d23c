"""The core of a node: every part that handles packets and money, joined once.

    network ── links ── driver ── switch      a packet comes in, runs its flow, goes out
                          │ └── deliveries    or is answered by this node itself
                       accounts ── ledger     money is held, posted or released
                          │    └── outbox     posts that the ledger has not acknowledged
                      settlements             debts are paid outside the ledger

External dependencies are passed in: clock, randomness, network, disk and log (`Platform`), the
ledger, and the receiver of events. Building a core opens, reads and starts nothing; that is done by
`node.lifecycle.Lifecycle`. The daemon (`node.connector`) adds the web surface and telemetry; the
simulator runs the core unchanged, so both use the same wiring.

Long because every part is joined here, and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connector.accounting.bounds import LEASE_STANDSTILL_SECONDS
from connector.accounting.leaseholder import LeaseTerms
from connector.accounting.manager import AccountManager, State
from connector.accounting.outbox import FILE_NAME as OUTBOX_FILE
from connector.accounting.outbox import SqliteOutbox
from connector.base import limits
from connector.base.clock import JUMP_LASTS_SECONDS, Clock, SteadyClock
from connector.base.disk import Disk, SystemDisk
from connector.base.log import Log
from connector.base.randomness import Randomness, SystemRandomness
from connector.base.room import DiskRoom, Level
from connector.btp.links import Links
from connector.btp.network import Network, SystemNetwork
from connector.ilp import address
from connector.ilp.packet import Answer, Fulfill, Prepare, Reject, decode
from connector.ilp_http.carrier import HttpCarrier
from connector.ledger.interface import Ledger
from connector.ledger.model import IdGenerator
from connector.node.apply import SettingsApplier, credentials_of, http_terms_of
from connector.node.control import ControlPlane
from connector.node.payers import MakeEngine, Payers, no_engine
from connector.node.route_memory import FILE_NAME as ROUTES_FILE
from connector.node.route_memory import RouteMemory
from connector.peering.model import LOCAL, Asset, Peer, PeerRegistry, PeerTerms, Relation
from connector.peering.routing import RoutingTable
from connector.settings.model import Settings
from connector.settings.terms import asset_is_the_parents, terms_of, with_parents_asset
from connector.settlement.manager import SettlementManager
from connector.settlement.store import FILE_NAME as SETTLEMENTS_FILE
from connector.settlement.store import SettlementStore
from connector.stream.incoming import IncomingPayments
from connector.stream.receiver import Receiver
from connector.switch.asking import DataHandler, DataQuestions
from connector.switch.delivery import Deliveries, Handler
from connector.switch.driver import Driver
from connector.switch.dry_run import DryRun
from connector.switch.observer import PacketObserver
from connector.switch.rates import LiveRates, PriceSource
from connector.switch.receiver import PING_CONDITION
from connector.switch.rules import Node
from connector.switch.switch import Switch
from connector.switch.terms import Rates
from connector.telemetry.events import (
    AccountingState,
    Event,
    PeerConnected,
    PeerDisconnected,
)
from connector.telemetry.metrics import LedgerRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a node runs on. The simulator passes its own."""

    clock: Clock
    randomness: Randomness
    network: Network
    disk: Disk
    log: Log


def system_platform(log: Log, clock: Clock | None = None) -> Platform:
    """The machine that this process runs on."""
    return Platform(
        clock=clock or SteadyClock(),
        randomness=SystemRandomness(),
        network=SystemNetwork(),
        disk=SystemDisk(),
        log=log,
    )


class Core:
    """One node without its web surface. See the module.

    All attributes are parts of the node, for views and tests; none is ever replaced.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        platform: Platform,
        ledger: Ledger,
        emit: Callable[[Event], None] = lambda _event: None,
        account_changed: Callable[[str], None] = lambda _peer_id: None,
        make_engine: MakeEngine = no_engine,
        price_source: PriceSource | None = None,
        accept_ledger_loss: bool = False,
        process: int | None = None,
        takes_over: bool = False,
        on_superseded: Callable[[], None] = lambda: None,
        parents_asset: Asset | None = None,
        pay_key: bytes | None = None,
    ) -> None:
        """Build and join the parts; nothing is opened, read or started.

        Args:
            settings: in effect at the start; later ones come through `applier`.
            platform: clock, randomness, network, disk and log.
            ledger: not open yet. The core opens and closes it.
            emit: takes events; must not block.
            account_changed: called with the peer whose account a settlement changed; must not block.
            make_engine: for the settlement engines of peers.
            price_source: of live exchange rates (RATES_URL); None: there are only static ones.
            accept_ledger_loss: start although the ledger has less than it acknowledged.
            process: the name under which this process has claimed the accounts while it stood by;
                None: it has not.
            takes_over: claim them although another process has taken over since.
            on_superseded: called once when another process has taken over: packets are refused from
                then on, and the core is to be stopped.
            parents_asset: what an earlier start was told by the parent; None: nothing, yet.
            pay_key: 32 octets, the key of the addresses that payers of wallets are given; None:
                nobody is paid here by name.
        """
        self.platform: Final = platform
        self.clock: Final = platform.clock
        self.log: Final = platform.log
        self._emit = emit
        self._on_superseded = on_superseded
        self.superseded_why = ""
        """What an operator should know when another process has taken over; empty: none has."""
        clock, log, randomness = platform.clock, platform.log, platform.randomness
        takes_asset = asset_is_the_parents(settings)
        if takes_asset and parents_asset is not None:
            settings = with_parents_asset(settings, parents_asset)
        self.peers: Final = PeerRegistry(Peer(terms_of(settings, peer)) for peer in settings.peers)
        own_asset = Asset(settings.asset_code, settings.asset_scale)
        self.local: Final = Peer(PeerTerms(peer_id=LOCAL, asset=own_asset))
        """This node itself, as the source of packets that it sends."""
        self.node: Final = Node(_own_address(settings))
        """Its address, and how many packets are in flight."""
        self.routes: Final = RoutingTable()
        self.outbox: Final = SqliteOutbox(platform.disk.database(settings.data_dir / OUTBOX_FILE))
        # An embedded ledger fails with its disk, which is also the outbox's: the room left there is
        # reserved for the posts of packets in flight.
        spools = settings.accounting_outage_policy == "spool" and ledger.may_be_away
        self.requests: Final = LedgerRequests()
        """How long requests to the ledger took."""
        self.accounts: Final = AccountManager(
            node_id=settings.node_id,
            ledger=ledger,
            clock=clock,
            ids=IdGenerator(random_bits=randomness.bits),
            outbox=self.outbox,
            on_state=self._accounting_state,
            on_alert=self._alert,
            on_request=self.requests.observe,
            timeout_ms=settings.accounting_timeout_ms,
            spool_transfers_max=settings.accounting_spool_limit if spools else 0,
            keeps_history=settings.tigerbeetle_history,
            accept_ledger_loss=accept_ledger_loss,
            relays_early=settings.fulfill_when == "durable",
            # A ledger that only this process can reach needs no lease: its lock is one.
            lease=LeaseTerms(
                process=randomness.bits(128) if process is None else process,
                memory=self.outbox,
                takes_over=takes_over,
                on_superseded=self._superseded,
            )
            if ledger.may_be_away
            else None,
        )
        self.deliveries: Final = Deliveries(
            url=settings.local_delivery_url,
            clock=clock,
            log=log,
            own_address=lambda: self.node.address,
        )
        self.questions: Final = DataQuestions(url=settings.pay_data_url, clock=clock, log=log)
        """Asks whether data of payments is accepted."""
        self.incoming: Final = (
            None
            if pay_key is None
            else IncomingPayments(
                asset_code=own_asset.code,
                asset_scale=own_asset.scale,
                quiet_ms=settings.pay_quiet_seconds * 1000,
                now_ms=clock.now_ms,
            )
        )
        """Counts what wallets of this node are paid."""
        self.wallets: Final = (
            None
            if pay_key is None
            else Receiver(
                key=pay_key,
                former_key=settings.former_pay_key,
                wallets=settings.wallet_names,
                asset_code=own_asset.code,
                asset_scale=own_asset.scale,
                own_address=lambda: self.node.address,
                takes_data=self.questions.possible,
                incoming=self.incoming,
            )
        )
        """Answers payments to wallets of this node."""
        self.rates: Final = Rates(
            settings.rates,
            spread_basis_points=settings.spread_basis_points,
            monotonic_s=clock.monotonic_s,
        )
        self.live_rates: Final = (
            None
            if price_source is None
            else LiveRates(
                source=price_source,
                rates=self.rates,
                clock=clock,
                log=log,
                max_age_s=settings.rates_max_age_seconds,
                wanted=lambda: {own_asset.code, *(peer.terms.asset.code for peer in self.peers)},
                random=randomness.random,
            )
        )
        """None: RATES_URL is not set."""
        self.switch: Final = Switch(
            node=self.node,
            peers=self.peers,
            routes=self.routes,
            rates=self.rates,
            now_ms=clock.now_ms,
            window_ms=settings.message_window_ms,
            hold_ms_max=settings.max_hold_ms,
            receiver_secret=settings.receiver_key,
            delivers=self.deliveries.possible,
            wallets=self.wallets,
            wallet_asset=own_asset,
        )
        self.links: Final = Links(
            clock=clock,
            log=log,
            peers=self.peers,
            credentials=[credentials_of(settings, peer) for peer in settings.peers],
            random_id=lambda: randomness.bits(31),
            random_octets=randomness.octets,
            observer=self,
            network=platform.network,
            # A ledger that only this process can reach has no other process to take over.
            standstill_s=LEASE_STANDSTILL_SECONDS if ledger.may_be_away else math.inf,
            on_standstill=self.accounts.stood_still,
        )
        self.packets: Final = PacketObserver(
            emit=emit,
            log=log,
            monotonic_s=clock.monotonic_s,
            now_ms=clock.now_ms,
            packets_per_second=settings.telemetry_packets_per_second,
            own_address=lambda: self.node.address,
        )
        """Counts packets, and records some of them in full."""
        self.driver: Final = Driver(
            switch=self.switch,
            accounts=self.accounts,
            outlet=self.links,
            deliver=self.deliveries.deliver,
            ask_about=self.questions.ask,
            observer=self.packets,
            now_ms=clock.now_ms,
            monotonic_s=clock.monotonic_s,
        )
        self.dry_run: Final = DryRun(
            switch=self.switch,
            accounts=self.accounts,
            links=self.links,
            now_ms=clock.now_ms,
            random_octets=randomness.octets,
        )
        """Says what would happen to a packet."""
        self.links.attach(self.driver)
        self.http: Final = HttpCarrier(
            clock=clock,
            log=log,
            peers=self.peers,
            links=self.links,
            driver=self.driver,
            network=platform.network,
            terms=filter(None, (http_terms_of(settings, peer) for peer in settings.peers)),
            random=randomness.random,
        )
        self.accounts.attach(self.driver.booked, self.links.flush)
        self.room: Final = DiskRoom(
            disk=platform.disk,
            path=settings.data_dir,
            reserve_bytes=settings.disk_reserve_bytes,
            log=log,
            on_level=self._disk_level,
        )
        """Room on the disk of DATA_DIR."""
        self.applier: Final = SettingsApplier(
            settings=settings,
            node=self.node,
            peers=self.peers,
            links=self.links,
            http=self.http,
            accounts=self.accounts,
            routes=self.routes,
            emit=emit,
            takes_asset=takes_asset,
        )
        """The settings in effect; applies other ones while the node runs."""
        self.settlements: Final = SettlementManager(
            accounts=self.accounts,
            store=SettlementStore(platform.disk.database(_settlements_path(settings))),
            clock=clock,
            log=log,
            emit=emit,
            touch=account_changed,
            ask_peer=self.ask_peer,
            new_key=lambda: randomness.octets(16).hex(),
            random=randomness.random,
        )
        self.payers: Final = Payers(settlements=self.settlements, make_engine=make_engine)
        self.use_engines()
        self.deliveries.on_settle_message(self.settlements.answer)
        self.control: Final = ControlPlane(
            clock=clock,
            log=log,
            randomness=randomness,
            emit=emit,
            local=self.local,
            node=self.node,
            peers=self.peers,
            links=self.links,
            driver=self.driver,
            applier=self.applier,
            routes=self.routes,
        )
        kept = platform.disk.database(settings.data_dir / ROUTES_FILE)
        self.route_memory: Final = RouteMemory(
            database=None if settings.ledger == "memory" else kept,
            router=self.control.router,
            clock=clock,
            log=log,
            no_room=lambda: self.room.reason,
        )
        """Addresses and routes, as neighbours tell them to each other."""

    @property
    def settings(self) -> Settings:
        """The settings in effect: as given, with the changes since."""
        return self.applier.settings

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
        """Send a Prepare from this node and wait for its answer; see `Connector.send`.

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
        self.driver.originate(self.local, prepare, waiter)
        self.links.flush()
        return await waiter.answer()

    async def ask_peer(self, peer_id: str, prepare: Prepare) -> Fulfill | Reject:
        """Send a request to a peer itself: it is not routed, and no money moves."""
        waiter = _Answered()
        self.driver.ask(self.local, self.peers[peer_id], prepare, waiter)
        self.links.flush()
        return await waiter.answer()

    def on_prepare(self, handler: Handler) -> None:
        """Let `handler` answer packets for this node; see `Connector.on_prepare`."""
        self.deliveries.on_prepare(handler)

    def on_payment_data(self, handler: DataHandler) -> None:
        """Let `handler` decide about data of payments; see `Connector.on_payment_data`."""
        self.questions.on_payment_data(handler)

    # --- settings that change while it runs

    def use_engines(self) -> None:
        """Take the payer of each peer from the settings, at the start and when they have changed."""
        self.payers.use(self.applier.settings)

    # --- time

    def watch_clock(self) -> None:
        """Follow the machine's clock, and log jumps; called about once a second."""
        if not isinstance(self.clock, SteadyClock):
            return
        jump_s = self.clock.watch()
        if jump_s is not None:
            self.log.warning(
                "clock_jumped",
                seconds=round(jump_s, 3),
                detail="packets in flight keep their time; the node follows in "
                f"{JUMP_LASTS_SECONDS:.0f} s if the clock stays so",
            )

    # --- callbacks of the parts

    def connected(self, peer_id: str, direction: str) -> None:
        """See `LinkObserver`."""
        self._emit(PeerConnected(peer_id=peer_id, direction=direction))
        self.peers[peer_id].away = False
        self.control.connected(peer_id)

    def disconnected(self, peer_id: str, direction: str, reason: str) -> None:
        """See `LinkObserver`."""
        self._emit(PeerDisconnected(peer_id=peer_id, direction=direction, reason=reason))
        comes_back = self.links.is_replaced(peer_id)
        peer = self.peers.get(peer_id)
        if peer is not None:
            peer.away = not comes_back
        self.control.disconnected(peer_id, comes_back=comes_back)

    def _accounting_state(self, state: State, why: str) -> None:
        level = self.log.info if state is State.AVAILABLE else self.log.warning
        backend = self.accounts.ledger.backend
        level("accounting_state_changed", state=state.value, backend=backend, reason=why)
        self._emit(
            AccountingState(
                state=state.value, backend=backend, spooled=self.accounts.spooled, error=why
            )
        )

    def _disk_level(self, level: Level) -> None:
        self.node.disk_full = level is Level.FULL

    def _superseded(self, why: str) -> None:
        self.node.stopping = True
        self.superseded_why = why
        self._on_superseded()

    def _alert(self, event: str, fields: dict[str, object]) -> None:
        self.log.warning(event, **fields)


class _Answered:
    """Waits for the answer to a packet of this node itself; a `ReplyTo`."""

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(self, _request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        if self.future.done():
            return False
        self.future.set_result(octets)
        return True

    async def answer(self) -> Answer:
        """Wait for the answer; the driver answers every packet by its deadline."""
        answer = decode(await self.future)
        assert isinstance(answer, Fulfill | Reject), answer
        return answer


def _own_address(settings: Settings) -> str:
    """The configured address; empty if it is requested of a parent (RFC 31)."""
    if settings.ilp_address:
        return settings.ilp_address
    if any(peer.relation is Relation.PARENT for peer in settings.peers):
        return ""
    return f"test.{settings.node_id}"


def _settlements_path(settings: Settings) -> Path:
    # As lasting as the ledger.
    if settings.ledger == "memory" and settings.tigerbeetle_cluster_id is None:
        return Path(":memory:")
    return settings.data_dir / SETTLEMENTS_FILE
