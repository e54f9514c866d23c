"""The changes that an operator can make, each a step from one overlay to another; nothing is done here.

A step raises what makes its change impossible: `ConfigError`, `ConflictError`, `UnknownNameError`. Whether
balances allow it is checked later (`node.changes`), and what it would do is told by `node.preview`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from connector.base.errors import ConfigError, ConflictError, UnknownNameError
from connector.settings.faults import SECRETS
from connector.settings.model import PeerSettings, RouteSettings, Settings
from connector.settings.overlay import Overlay, faults_in


@dataclass(frozen=True, slots=True)
class Step:
    """One change, as an operator asks for it."""

    action: str
    """As it is recorded, such as `peer.create`."""
    target: str
    """What it is done to."""
    apply: Callable[[Overlay], Overlay]
    """Returns what the overlay is to become; the same: there is nothing to change."""
    is_new: bool = False
    """Whether the target is not there yet."""


class Steps:
    """Makes the steps of one node."""

    def __init__(
        self,
        *,
        base: Settings,
        settings: Callable[[], Settings],
        is_removed: Callable[[str, Overlay], bool],
    ) -> None:
        """Nothing is asked yet.

        Args:
            base: the configuration without changes.
            settings: those in effect.
            is_removed: whether there was such a peer, and an operator has removed it.
        """
        self._base: Final = base
        self._settings: Final = settings
        self._is_removed: Final = is_removed

    def peer(self, peer_id: str) -> PeerSettings:
        """The settings in effect of a peer.

        Raises:
            UnknownNameError: there is no such peer.
        """
        for peer in self._settings().peers:
            if peer.id == peer_id:
                return peer
        raise UnknownNameError("there is no such peer")

    def _is_there(self, peer_id: str) -> bool:
        return any(peer.id == peer_id for peer in self._settings().peers)

    def create_peer(self, wanted: PeerSettings) -> Step:
        """Add a peer; nothing changes if it exists with the same settings."""

        def apply(now: Overlay) -> Overlay:
            there = self.peer(wanted.id) if self._is_there(wanted.id) else None
            if there == wanted and wanted.id not in now.draining_peers:
                return now
            if there is not None and there != wanted:
                raise ConflictError(
                    f"peer {wanted.id} exists with other settings: PUT /admin/peers/{wanted.id} "
                    "changes it"
                )
            _check_engine(self._settings(), wanted, wanted.settlement_token)
            return now.with_peer(wanted, self._base)

        return Step("peer.create", wanted.id, apply, is_new=not self._is_there(wanted.id))

    def put_peer(self, peer_id: str, fields: dict[str, Any]) -> Step:
        """Add a peer or replace its settings.

        Fields that are not given get their defaults, except the secret, the HTTP token and the
        settlement token. Each is kept as long as the URL that it is sent to leads to the same place.
        A token of None is given: the peer has none of its own from then on.
        """
        is_new = not self._is_there(peer_id)

        def apply(now: Overlay) -> Overlay:
            return now.with_peer(self._replaced(peer_id, fields), self._base)

        action = "peer.create" if is_new else "peer.replace"
        return Step(action, peer_id, apply, is_new=is_new)

    def edit_peer(self, peer_id: str, fields: dict[str, Any]) -> Step:
        """Change those settings of a peer that are given; None: the default. Rules: see `put_peer`."""

        def apply(now: Overlay) -> Overlay:
            there = self.peer(peer_id)
            kept = {
                name: getattr(there, name)
                for name in PeerSettings.model_fields
                if name not in SECRETS
            }
            for name, value in fields.items():
                if value is None and name not in SECRETS:
                    kept.pop(name)
                else:
                    kept[name] = value
            after = now.with_peer(self._replaced(peer_id, kept), self._base)
            return after.draining(peer_id) if peer_id in now.draining_peers else after

        return Step("peer.rotate" if fields.keys() == {"secret"} else "peer.edit", peer_id, apply)

    def rotate_secret(self, peer_id: str, secret: SecretStr, until: str | None) -> Step:
        """Give a peer another secret; the present one serves beside it until then, None: not at all.

        The same secret again changes until when the one before it serves.
        """

        def apply(now: Overlay) -> Overlay:
            there = self.peer(peer_id)
            before = there.secret_former if there.secret == secret else there.secret
            former: dict[str, Any] = {"secret_former": None, "secret_former_until": None}
            if until is not None and before is not None:
                former = {"secret_former": before, "secret_former_until": until}
            wanted = _peer_of({**there.model_dump(), **former, "secret": secret})
            after = now.with_peer(wanted, self._base)
            return after.draining(peer_id) if peer_id in now.draining_peers else after

        return Step("peer.rotate", peer_id, apply)

    def end_grace(self, peer_id: str) -> Step:
        """Forget the former secret of a peer."""

        def apply(now: Overlay) -> Overlay:
            there = self.peer(peer_id).model_dump()
            former = {"secret_former": None, "secret_former_until": None}
            after = now.with_peer(_peer_of({**there, **former}), self._base)
            return after.draining(peer_id) if peer_id in now.draining_peers else after

        return Step("peer.grace_over", peer_id, apply)

    def _replaced(self, peer_id: str, fields: dict[str, Any]) -> PeerSettings:
        """The peer with these fields and those secrets that it keeps."""
        there = self.peer(peer_id) if self._is_there(peer_id) else None
        whole = {**fields, "id": peer_id}
        if there is not None:
            if whole.get("secret") is None:
                if _goes_elsewhere(there.url, whole.get("url")):
                    raise ConfigError(
                        [f"peer {peer_id}: url: it leads to another place: give the secret again"]
                    )
                whole["secret"] = there.secret
            if there.secret == whole["secret"] and "secret_former" not in fields:
                whole["secret_former"] = there.secret_former
                whole["secret_former_until"] = there.secret_former_until
            elif whole.get("secret_former") is None:
                # It was the one before the secret that is replaced now.
                whole["secret_former_until"] = None
            for name in ("settlement_token", "http_token"):
                if name not in fields:
                    whole[name] = getattr(there, name)
        wanted = _peer_of(whole)
        if there is not None:
            _check_http(there, wanted, fields)
        _check_engine(self._settings(), wanted, fields.get("settlement_token"))
        return wanted

    def set_limits(self, peer_id: str, limits: dict[str, Any]) -> Step:
        """Change those limits of a peer that are given; None: the default of the node."""

        def apply(now: Overlay) -> Overlay:
            there = self.peer(peer_id).model_dump()
            after = now.with_peer(_peer_of({**there, **limits}), self._base)
            return after.draining(peer_id) if peer_id in now.draining_peers else after

        return Step("peer.limits", peer_id, apply)

    def drain_peer(self, peer_id: str) -> Step:
        """Let a peer be drained, to be removed then."""

        def apply(now: Overlay) -> Overlay:
            if self._is_removed(peer_id, now) or peer_id in now.draining_peers:
                return now
            self.peer(peer_id)
            return now.draining(peer_id)

        return Step("peer.delete", peer_id, apply)

    def add_route(self, route: RouteSettings) -> Step:
        """Add a static route."""

        def apply(now: Overlay) -> Overlay:
            settings = self._settings()
            if route in settings.routes:
                return now
            if not self._is_there(route.next_hop):
                raise ConfigError(["nextHop: is no configured peer"])
            return now.with_route(route, self._base)

        return Step("route.add", f"{route.prefix}={route.next_hop}", apply)

    def delete_route(self, route: RouteSettings) -> Step:
        """Remove a static route."""

        def apply(now: Overlay) -> Overlay:
            if route in now.removed_routes:
                return now
            if route not in self._settings().routes:
                raise UnknownNameError(
                    "there is no such static route; those in a peer's own settings are changed there"
                )
            return now.without_route(route, self._base)

        return Step("route.delete", f"{route.prefix}={route.next_hop}", apply)


def _goes_elsewhere(before: str | None, after: str | None) -> bool:
    """Whether a new URL leads to another host or port than the old one, or gives up TLS."""
    if not after:
        return False
    return before is None or _place(before) != _place(after)


def _check_http(there: PeerSettings, wanted: PeerSettings, fields: dict[str, Any]) -> None:
    """Refuse to show the token of ILP over HTTP at a place where it is not shown yet.

    Raises:
        ConfigError: the token has to be given.
    """
    before, after = (
        {_place(url) for url in (one.http_url, one.http_callback_url) if url is not None}
        for one in (there, wanted)
    )
    name = "secret" if wanted.http_token is None else "http_token"
    if after <= before or fields.get(name) is not None:
        return
    where = f"peer {wanted.id}: httpUrl"
    raise ConfigError([f"{where}: it leads to another place: give the {to_camel(name)} for it"])


def _check_engine(settings: Settings, wanted: PeerSettings, given: SecretStr | None) -> None:
    """Refuse to show a settlement token at a place where it is not shown yet.

    The token of a peer without its own is the node's: it goes to the places of the configuration,
    not to one that the admin API names.

    Args:
        settings: in effect.
        wanted: the peer, as it would be.
        given: its token, if the request gives it; then the place was chosen together with it.

    Raises:
        ConfigError: the token has to be given.
    """
    url, token = settings.settlement_engine_of(wanted), settings.settlement_token_of(wanted)
    if url is None or token is None or given is not None:
        return
    shown = {
        (settings.settlement_token_of(peer), _place(engine))
        for peer in settings.peers
        if (engine := settings.settlement_engine_of(peer)) is not None
    }
    if settings.settlement_token is not None and settings.settlement_engine_url is not None:
        shown.add(
            (settings.settlement_token.get_secret_value(), _place(settings.settlement_engine_url))
        )
    if (token, _place(url)) not in shown:
        where = f"peer {wanted.id}: settlementEngineUrl"
        raise ConfigError([f"{where}: it leads to another place: give the settlementToken for it"])


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url.removeprefix("btp+").lower())
    return parts.scheme, parts.netloc


def _peer_of(fields: dict[str, Any]) -> PeerSettings:
    try:
        return PeerSettings.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(faults_in(error)) from error
