"""What a change of an operator would do, in words, before it is made.

The command line and the page show this and ask, so both say the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic.alias_generators import to_camel

from connector.peering.model import Asset
from connector.settings.faults import SECRETS
from connector.settings.model import PeerSettings, Settings
from connector.settings.terms import terms_of

_FROM_NOW: Final = frozenset(("secretFormerUntil",))
"""Settings that a change counts from when it is made."""
_LINK: Final = frozenset(("secret", "url", "username"))
"""Fields of which another value needs another link (`SettingsApplier`)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things are with a peer."""

    connected: bool
    in_flight: int
    """Packets of it and to it that have no answer yet."""
    net: int
    """What it owes us, below zero what we owe it; in units of `asset`."""
    asset: Asset


@dataclass(frozen=True, slots=True)
class Preview:
    """What would change, and what that means."""

    changes: list[dict[str, str]]
    """`target`, `field`, `from` and `to`; secrets are `(secret)`."""
    effects: list[str]
    """Sentences."""

    def as_json(self, action: str, target: str, shown: str) -> dict[str, Any]:
        """For the admin API; `shown`: its digest, by which the change can be bound to it."""
        return {
            "preview": True,
            "action": action,
            "target": target,
            "changes": self.changes,
            "effects": self.effects,
            "shown": shown,
        }

    @property
    def digest(self) -> str:
        """The same for the same preview, also when it is made a little later: 32 hex digits."""
        lasting = [one for one in self.changes if one["field"] not in _FROM_NOW]
        text = json.dumps([lasting, self.effects], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def amount_in_words(units: int, asset: Asset) -> str:
    """An amount in its asset, exact: `1.25 USD`."""
    digits = str(abs(units)).rjust(asset.scale + 1, "0")
    whole = digits[: len(digits) - asset.scale]
    fraction = digits[len(digits) - asset.scale :].rstrip("0")
    text = whole + ("" if not fraction else "." + fraction)
    return f"{'-' if units < 0 else ''}{text} {asset.code}"


def preview_of(
    before: Settings,
    after: Settings,
    *,
    removing: Collection[str],
    standing: Mapping[str, Standing],
    force: bool = False,
) -> Preview:
    """Compare settings in effect with those that a change leads to.

    Args:
        before: in effect.
        after: what they would become.
        removing: peers that would be removed.
        standing: how things are with each peer that is there, or was.
        force: whether they would be removed without waiting for their packets.
    """
    changes: list[dict[str, str]] = []
    effects: list[str] = []
    old = {peer.id: peer for peer in before.peers}
    for peer in after.peers:
        if peer.id not in old:
            effects += _added(peer, standing.get(peer.id))
            changes += [
                _change(peer.id, name, "", _shown(after, peer, name))
                for name in PeerSettings.model_fields
                if name in peer.model_fields_set and name != "id"
            ]
        elif peer != old[peer.id]:
            names = [
                name
                for name in PeerSettings.model_fields
                if getattr(peer, name) != getattr(old[peer.id], name)
            ]
            changes += [
                _change(
                    peer.id, name, _shown(before, old[peer.id], name), _shown(after, peer, name)
                )
                for name in names
            ]
            effects += _edited(old[peer.id], peer, names, standing.get(peer.id))
    for peer_id in sorted({*removing, *(old.keys() - {peer.id for peer in after.peers})}):
        effects += _removed(peer_id, standing.get(peer_id), force=force)
    effects += _routes(before, after)
    return Preview(changes, list(dict.fromkeys(effects)) or ["nothing changes"])


def _change(target: str, name: str, old: str, new: str) -> dict[str, str]:
    return {"target": target, "field": to_camel(name), "from": old, "to": new}


def _shown(settings: Settings, peer: PeerSettings, name: str) -> str:
    if name in SECRETS:
        return "" if getattr(peer, name) is None else "(secret)"
    value = getattr(peer, name)
    asset = settings.asset_of(peer)
    if name in ("credit_limit", "max_prepaid"):
        value = getattr(terms_of(settings, peer), name)
    if value is None:
        return "no limit" if name.startswith(("max_", "throughput", "rate")) else "(default)"
    if name in AMOUNT_FIELDS:
        return amount_in_words(value, asset)
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(getattr(value, "value", value))


AMOUNT_FIELDS: Final = frozenset(
    (
        "credit_limit",
        "max_payable",
        "max_in_flight_value",
        "max_packet_amount",
        "max_prepaid",
        "settle_threshold",
        "settle_to",
        "throughput_in",
        "throughput_out",
    )
)
"""Settings of a peer that are amounts in units of its asset."""


def _balance(found: Standing) -> str:
    if not found.net:
        return "its account is even"
    words = "it owes us" if found.net > 0 else "we owe it"
    return f"{words} {amount_in_words(abs(found.net), found.asset)}"


def _added(peer: PeerSettings, found: Standing | None) -> list[str]:
    link = f"{peer.id} is dialled at {peer.url}" if peer.url else f"{peer.id} may log in"
    effects = [f"{link}; packets of it are taken up to its credit limit"]
    if found is not None:
        effects.append(f"it was removed before, and has its account again: {_balance(found)}")
    if peer.routes:
        effects.append(f"packets for {', '.join(peer.routes)} go to {peer.id}")
    return effects


def _edited(
    old: PeerSettings, new: PeerSettings, names: Collection[str], found: Standing | None
) -> list[str]:
    effects: list[str] = []
    who = new.id
    if "enabled" in names:
        if new.enabled:
            effects.append(f"new packets of {who} are taken and routed to it again")
        else:
            under_way = "" if found is None or not found.in_flight else (
                f"; {found.in_flight} under way are finished"
            )  # fmt: skip
            effects.append(
                f"new packets of {who} are refused (T03) and none are routed to it{under_way}; "
                "its link and its account stay"
            )
    has_grace = (
        new.secret_former is not None
        and new.secret_former == old.secret
        and not _LINK.intersection(names) - {"secret"}
    )
    if has_grace:
        effects.append(
            f"the secret before serves until secretFormerUntil: the link with {who} stays up"
        )
    elif _LINK.intersection(names):
        what = "is closed and opened anew" if new.url else "is closed, and it has to log in again"
        effects.append(f"the link with {who} {what}")
    if "secret" in names:
        when = "by then" * has_grace
        effects.append(
            f"{who} must use the new secret{f' {when}' * has_grace}, or its link stays down"
        )
    elif "secret_former" in names and new.secret_former is None:
        effects.append(
            f"the former secret of {who} serves no more: links logged in with it are closed"
        )
    if "offline_expected" in names:
        effects.append(
            f"a missing link with {who} is {'no' if new.offline_expected else 'an'} alarm"
        )
    if "routes" in names:
        effects += [f"packets for {one} go to {who}" for one in new.routes if one not in old.routes]
        effects += [
            f"packets for {one} no longer go to {who} by its settings"
            for one in old.routes
            if one not in new.routes
        ]
    if not effects:
        effects.append(f"the link with {who} stays up")
    return effects


def _removed(peer_id: str, found: Standing | None, *, force: bool) -> list[str]:
    if found is None:
        return [f"{peer_id} is removed"]
    first = f"new packets of {peer_id} are refused and none are routed to it"
    if found.in_flight and force:
        wait = (
            f"{found.in_flight} packets of or to it under way are given up, and may be lost to us"
        )
    elif found.in_flight:
        wait = f"{found.in_flight} packets of or to it under way are finished first"
    else:
        wait = "no packet of or to it is under way"
    effects = [first, wait, f"then its link is closed and it may not log in; {_balance(found)}"]
    if found.net:
        effects.append("its account stays visible as removed until it is even")
    return effects


def _routes(before: Settings, after: Settings) -> list[str]:
    ids = {peer.id for peer in after.peers}
    added = [
        f"packets for {route.prefix or 'all else'} go to {route.next_hop}"
        for route in after.routes
        if route not in before.routes
    ]
    return added + [
        f"packets for {route.prefix or 'all else'} no longer go to {route.next_hop} by this route"
        for route in before.routes
        if route not in after.routes and route.next_hop in ids
    ]
