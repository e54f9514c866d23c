"""Applies settings to peers, links, accounts and routes, at the start and while the node runs.

`change` compares the settings in effect with new ones and changes only what differs: a connection
whose peer keeps its settings is not interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from connector.accounting.manager import AccountManager
from connector.btp.credentials import Credentials
from connector.btp.links import Links
from connector.ilp.ildcp import child_address
from connector.ilp.packet import decode_prepare
from connector.ilp_http.carrier import HttpCarrier
from connector.ilp_http.reach import HttpTerms
from connector.node import bounds
from connector.peering.model import LOCAL, Asset, Peer, PeerRegistry, Relation
from connector.peering.routing import Route, RouteSource, RoutingTable
from connector.settings.model import PeerSettings, Settings
from connector.settings.terms import asset_is_the_parents, terms_of, with_parents_asset
from connector.switch.rules import Node
from connector.telemetry.events import Event, RouteAdded, RouteRemoved


def credentials_of(settings: Settings, peer: PeerSettings) -> Credentials:
    """The credentials of a peer at this node, and of this node at the peer."""
    return Credentials(
        peer_id=peer.id,
        token=peer.secret.get_secret_value(),
        username=peer.username or settings.node_id,
        url=peer.url,
        former_token=None if peer.secret_former is None else peer.secret_former.get_secret_value(),
        former_until_ms=peer.secret_former_until_ms,
    )


def http_terms_of(settings: Settings, peer: PeerSettings) -> HttpTerms | None:
    """How packets go to a peer by HTTP; None: they do not, and no answers either."""
    callback_url = peer.http_callback_url or peer.http_url
    if callback_url is None:
        return None
    is_async = peer.http_mode == "async"
    return HttpTerms(
        peer_id=peer.id,
        url=peer.http_url,
        token=(peer.http_token or peer.secret).get_secret_value(),
        is_async=is_async,
        content_type=peer.http_content_type,
        callback_url=callback_url,
        own_callback_url=f"{settings.own_http_url}/accounts/{peer.id}/ilp" if is_async else None,
    )


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Packets sent to a peer that have no answer: those that it fulfils may be lost."""

    packets: int
    amount: int
    """Total amount in its asset."""


def routes_of(settings: Settings, own_address: str) -> set[Route]:
    """All routes of the settings; without an own address (`""`) those below it are missing."""
    routes = {Route(RouteSource.CONFIG, one.next_hop, one.prefix) for one in settings.routes}
    if own_address:
        routes.add(Route(RouteSource.LOCAL, LOCAL, own_address))
    for peer in settings.peers:
        routes.update(Route(RouteSource.CONFIG, peer.id, prefix) for prefix in peer.routes)
        if peer.relation is Relation.PARENT:
            routes.add(Route(RouteSource.PARENT, peer.id, ""))
        elif peer.relation is Relation.CHILD and own_address:
            its_address = child_address(own_address, peer.ilp_address_segment or peer.id)
            routes.add(Route(RouteSource.CHILD, peer.id, its_address))
    return routes


def disabled_in(settings: Settings) -> frozenset[str]:
    """The peers that take part in no new packet."""
    return frozenset(peer.id for peer in settings.peers if not peer.enabled)


class SettingsApplier:
    """Applies settings to peers, links, accounts and routes. One per node."""

    def __init__(
        self,
        *,
        settings: Settings,
        node: Node,
        peers: PeerRegistry,
        links: Links,
        http: HttpCarrier,
        accounts: AccountManager,
        routes: RoutingTable,
        emit: Callable[[Event], None],
        takes_asset: bool = False,
    ) -> None:
        """`takes_asset`: the asset of the parent in `settings` is its own word, or a default until it gives that."""
        self.takes_asset = takes_asset
        """Whether the parent says in which asset amounts with it are."""
        self.on_asset: Callable[[], None] = lambda: None
        """Called when another asset of the parent was taken."""
        self.settings = settings
        """The settings in effect."""
        self.parent: Peer | None = None
        """The parent (RFC 31), if there is one."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when other settings are in effect, or peers are being removed."""
        self.is_configured: Callable[[Route], bool] = lambda _route: True
        """Whether a static route is of the configuration; else an operator has added it."""
        self._node = node
        self._peers = peers
        self._links = links
        self._http = http
        self._accounts = accounts
        self._routes = routes
        self._emit = emit
        self._draining: frozenset[str] = disabled_in(settings)
        """Peers being removed or disabled: no packets are routed to them or accepted from them."""
        self._removing: frozenset[str] = frozenset()
        """Those of them that are being removed."""
        self._told: set[Route] = set()
        """Routes that an event was emitted for."""
        self._dialling: dict[str, asyncio.Task[None]] = {}
        """By peer id: the task that keeps the connection to a dialled peer."""
        self._group: asyncio.TaskGroup | None = None
        """Owner of these tasks; None: no peer is dialled."""
        self._mark_draining()
        self._find_parent()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Keep connections to the peers that have a URL, in tasks of `group`."""
        self._group = group
        for peer in self.settings.peers:
            self._dial(credentials_of(self.settings, peer))

    def stop(self) -> None:
        """Stop dialling; connections stay."""
        self._group = None
        for task in self._dialling.values():
            task.cancel()
        self._dialling.clear()

    def add_routes(self) -> None:
        """Add the routes of the settings: at the start, and when the address has become known."""
        routes = self._routes_of(self.settings, self._draining)
        # One event per route of a large table would displace all other events.
        tells = len(routes) <= bounds.TELEMETRY_ROUTES_MAX
        for route in routes:
            self._routes.add(route)
        for route in sorted(routes - self._told) if tells else ():
            self._told.add(route)
            self._emit(
                RouteAdded(prefix=route.prefix, next_hop=route.next_hop, source=self._cause(route))
            )

    def set_address(self, own_address: str) -> None:
        """This node has another address: what lies below the former one has no routes any more."""
        former = self._routes_of(self.settings, self._draining) if self._node.address else set()
        self._node.set_address(own_address)
        for route in sorted(former - self._routes_of(self.settings, self._draining)):
            self._routes.remove(route)
            self._told.discard(route)
            self._emit(
                RouteRemoved(
                    prefix=route.prefix, next_hop=route.next_hop, source=self._cause(route)
                )
            )
        self.add_routes()

    def go_on_draining(self, peer_ids: Collection[str]) -> None:
        """Drain peers that were being removed when the node was stopped; others come by `change`."""
        self._removing = frozenset(peer_ids)
        self._draining = disabled_in(self.settings) | self._removing
        self._mark_draining()
        for route in routes_of(self.settings, self._node.address):
            if route.next_hop in self._draining:
                self._routes.remove(route)
        self.on_change()

    def link_of(self, peer_id: str) -> tuple[bool, int]:
        """Whether a peer can be reached, and how many packets of and to it have no answer yet."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return False, 0
        waiting = self._links.driver.waiting_for(peer)
        return self._links.reaches(peer_id), peer.in_flight + sum(not one.quiet for one in waiting)

    def is_drained(self, peer_id: str) -> bool:
        """Whether no packet of or to a peer is in flight, and it has read the answers to its own.

        Not while only a ledger that does not answer knows what was in flight before this start.
        """
        if not self._accounts.knows_holds:
            return False
        peer, books = self._peers.get(peer_id), self._accounts.peers.get(peer_id)
        if peer is None or books is None:
            return True
        driver = self._links.driver
        return not (
            peer.in_flight
            or books.peer.is_held
            or any(not one.quiet for one in driver.waiting_for(peer))
            or driver.wants_receipt(peer_id)
        )

    def unanswered(self, peer_id: str) -> LeftBehind:
        """What may be lost if the peer is removed now."""
        peer = self._peers.get(peer_id)
        waiting = () if peer is None else self._links.driver.waiting_for(peer)
        amounts = [decode_prepare(one.octets).amount for one in waiting if not one.quiet]
        return LeftBehind(len(amounts), sum(amounts))

    async def change(self, to: Settings, draining: Collection[str] = ()) -> None:
        """Apply other settings, which differ in peers and routes only.

        `draining`: peers of `to` that are being removed. The steps at the ledger, which can fail,
        come first; the rest follows in one step without an await.

        Raises:
            LedgerUnavailableError: no acknowledgement; nothing else was changed.
            CreditInUseError: a limit would be below what is in use; nothing else was changed.
            ConnectorError: an asset cannot be kept.
        """
        takes_asset = asset_is_the_parents(to)
        if takes_asset and self.takes_asset and self.parent is not None:
            to = with_parents_asset(to, self.parent.terms.asset)
        old = {peer.id: peer for peer in self.settings.peers}
        new = {peer.id: peer for peer in to.peers}
        before = {peer_id: terms_of(self.settings, peer) for peer_id, peer in old.items()}
        for peer_id, peer in new.items():
            terms = terms_of(to, peer)
            if peer_id not in old:
                await self._accounts.add_peer(terms)
            else:
                assert terms.asset == before[peer_id].asset, "an asset is not changed"
                if terms.credit_limit != before[peer_id].credit_limit:
                    await self._accounts.set_credit_limit(peer_id, terms.credit_limit)
        halted = disabled_in(to) | frozenset(draining)
        self._change_routes(to, halted)
        for peer_id in old.keys() - new.keys():
            self._remove(peer_id)
        for peer_id, peer in new.items():
            if peer_id not in old:
                self._peers.add(Peer(terms_of(to, peer)))
                self._links.add_peer(credentials_of(to, peer))
                self._dial(credentials_of(to, peer))
                self._http.put(peer_id, http_terms_of(to, peer))
            elif peer != old[peer_id]:
                self._renew(old[peer_id], peer, to)
        self.settings = to
        self.takes_asset = takes_asset
        self._draining, self._removing = halted, frozenset(draining)
        self._mark_draining()
        self._find_parent()
        self.on_change()

    async def take_parents_asset(self, asset: Asset) -> bool:
        """Let amounts with the parent be in another asset; False: there is a balance in the former one.

        The caller sees to it that no packet passes meanwhile.

        Raises:
            LedgerUnavailableError: no acknowledgement: to be tried again.
            ConnectorError: the asset cannot be kept.
        """
        parent = self.parent
        assert parent is not None
        books = self._accounts.peers[parent.peer_id]
        if not books.is_even:
            return False
        to = with_parents_asset(self.settings, asset)
        terms = next(terms_of(to, one) for one in to.peers if one.id == parent.peer_id)
        await self._accounts.set_credit_limit(parent.peer_id, 0)
        self._accounts.remove_peer(parent.peer_id)
        try:
            await self._accounts.add_peer(terms)
        except BaseException:
            self._accounts.peers[parent.peer_id].removed = False
            raise
        parent.terms = terms
        self.settings = to
        self.on_change()
        self.on_asset()
        return True

    def reconnect(self, peer_id: str) -> bool:
        """Close the links of a peer, and dial it at once where it has a URL; False: it has neither."""
        peer = next(one for one in self.settings.peers if one.id == peer_id)
        if peer.url is None and not self._links.reaches(peer_id):
            return False
        self._stop_dialling(peer_id)
        self._links.hang_up(peer_id, "an operator asked for a new link")
        self._links.flush()
        self._dial(credentials_of(self.settings, peer))
        return True

    def _mark_draining(self) -> None:
        disabled = disabled_in(self.settings)
        for peer in self._peers:
            peer.draining = peer.peer_id in self._draining
            peer.disabled = peer.peer_id in disabled - self._removing

    def _routes_of(self, settings: Settings, draining: Collection[str]) -> set[Route]:
        routes = routes_of(settings, self._node.address)
        return {route for route in routes if route.next_hop not in draining}

    def _renew(self, old: PeerSettings, peer: PeerSettings, to: Settings) -> None:
        terms = terms_of(to, peer)
        self._peers[peer.id].terms = terms
        self._accounts.peers[peer.id].terms = terms
        credentials, before = credentials_of(to, peer), credentials_of(self.settings, old)
        keeps_links = (credentials.url, credentials.username) == (before.url, before.username) and (
            before.token in (credentials.token, credentials.former_at(self._links.clock.now_ms()))
        )
        if peer.secret != old.secret and not keeps_links:
            self._http.cut_off(peer.id)
        self._http.put(peer.id, http_terms_of(to, peer))
        if credentials == before:
            return
        if keeps_links:
            # Its secret is the same, or serves for a time beside the new one: only log-ins change.
            self._stop_dialling(peer.id)
            self._links.add_peer(credentials)
            self._links.drop_not_accepted(peer.id)
            self._links.flush()
            self._dial(credentials)
            return
        # Another secret or URL needs a new link.
        self._stop_dialling(peer.id)
        self._links.add_peer(credentials)
        self._links.hang_up(peer.id, "its settings were changed")
        self._links.flush()
        self._dial(credentials)

    def _remove(self, peer_id: str) -> None:
        self._stop_dialling(peer_id)
        self._http.remove(peer_id)
        self._links.remove_peer(peer_id, "the peer was removed")
        self._peers.remove(peer_id)
        self._accounts.remove_peer(peer_id)

    def _change_routes(self, to: Settings, draining: Collection[str]) -> None:
        old = self._routes_of(self.settings, self._draining)
        new = self._routes_of(to, draining)
        for route in sorted(old - new):
            self._routes.remove(route)
            self._emit(
                RouteRemoved(
                    prefix=route.prefix, next_hop=route.next_hop, source=self._cause(route)
                )
            )
        for route in sorted(new - old):
            self._routes.add(route)
            self._emit(
                RouteAdded(prefix=route.prefix, next_hop=route.next_hop, source=self._cause(route))
            )

    def _cause(self, route: Route) -> str:
        """Where a route comes from, as `/api/routes` shows it."""
        if route.source is RouteSource.CONFIG and not self.is_configured(route):
            return "admin"
        return route.source.name.lower()

    def _dial(self, credentials: Credentials) -> None:
        if credentials.url is not None and self._group is not None:
            task = self._group.create_task(self._links.dialler.stay_connected(credentials))
            self._dialling[credentials.peer_id] = task

    def _stop_dialling(self, peer_id: str) -> None:
        task = self._dialling.pop(peer_id, None)
        if task is not None:
            task.cancel()

    def _find_parent(self) -> None:
        """There is at most one (`Settings`)."""
        found = (peer for peer in self._peers if peer.terms.relation is Relation.PARENT)
        self.parent = next(found, None)
