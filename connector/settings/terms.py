"""The terms of a peer: its settings, with the node's defaults filled in."""

from __future__ import annotations

from connector.peering.model import Asset, PeerTerms, Relation
from connector.routing.model import NeighbourTerms
from connector.settings.model import PeerSettings, Settings


def wallets_of(settings: Settings) -> dict[str, Asset]:
    """Who can be paid at this node by name, and in which asset."""
    asset = Asset(settings.asset_code, settings.asset_scale)
    return dict.fromkeys(settings.wallet_names, asset)


def asset_is_the_parents(settings: Settings) -> bool:
    """Whether the parent says in which asset amounts with it are (RFC 31): nothing is configured that says so."""
    return not (
        settings.ilp_address or settings.model_fields_set & {"asset_code", "asset_scale"}
    ) and any(
        peer.relation is Relation.PARENT and peer.asset_code is None and peer.asset_scale is None
        for peer in settings.peers
    )


def with_parents_asset(settings: Settings, asset: Asset) -> Settings:
    """The settings with this asset for the parent."""
    peers = [
        peer.model_copy(update={"asset_code": asset.code, "asset_scale": asset.scale})
        if peer.relation is Relation.PARENT
        else peer
        for peer in settings.peers
    ]
    return settings.model_copy(update={"peers": peers})


def terms_of(settings: Settings, peer: PeerSettings) -> PeerTerms:
    """The terms with a peer: its own settings, else those of the node."""

    def or_default(value: int | None, default: int) -> int:
        return default if value is None else value

    return PeerTerms(
        peer_id=peer.id,
        asset=settings.asset_of(peer),
        relation=peer.relation,
        credit_limit=or_default(peer.credit_limit, settings.credit_limit),
        max_payable=peer.max_payable,
        max_in_flight_value=peer.max_in_flight_value,
        max_packet_amount=peer.max_packet_amount,
        rate_limit=peer.rate_limit,
        throughput_in=peer.throughput_in,
        throughput_out=peer.throughput_out,
        throughput_window_ms=peer.throughput_window_seconds * 1000,
        fee_basis_points=or_default(peer.fee_basis_points, settings.fee_basis_points),
        settle_threshold=peer.settle_threshold,
        settle_to=peer.settle_to,
        max_prepaid=or_default(
            peer.max_prepaid, or_default(peer.credit_limit, settings.credit_limit)
        ),
        allow_reflection=peer.allow_reflection,
        segment=peer.ilp_address_segment or peer.id,
    )


def routing_terms_of(peer: PeerSettings) -> NeighbourTerms:
    """How routes are exchanged with a peer: its settings, with the defaults of its relation."""
    is_child = peer.relation is Relation.CHILD

    def or_default(value: bool | None, default: bool) -> bool:
        return default if value is None else value

    return NeighbourTerms(
        peer_id=peer.id,
        relation=peer.relation,
        sends=or_default(peer.send_routes, not is_child),
        receives=or_default(peer.receive_routes, not is_child),
        is_customer=or_default(peer.transit, is_child),
        send_prefixes=tuple(peer.send_prefixes),
        receive_prefixes=tuple(peer.receive_prefixes),
    )
