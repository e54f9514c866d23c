"""The payer of each peer in the settings in effect: its settlement engine, or an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from connector.base.errors import ConfigError
from connector.settings.model import PeerSettings, Settings
from connector.settlement.engine import SettlementEngine
from connector.settlement.manager import SettlementManager

MakeEngine = Callable[[str, str | None], SettlementEngine]
"""Makes a client for the settlement engine at a URL, which is shown a token; may be called twice."""


def no_engine(url: str, _token: str | None) -> SettlementEngine:
    """For nodes that reach none."""
    raise ConfigError([f"the settlement engine {url} cannot be reached from here"])


class _Payer(NamedTuple):
    url: str | None
    """None: an operator."""
    scale: int | None
    token: str | None


class Payers:
    """Hands the payer of each peer to `settlements`; knows the tokens of their engines."""

    def __init__(self, *, settlements: SettlementManager, make_engine: MakeEngine) -> None:
        self._settlements: Final = settlements
        self._make_engine: Final = make_engine
        self._of: dict[str, _Payer] = {}
        """By peer id, as last handed to `settlements`."""
        self._token_of_all: str | None = None

    def use(self, settings: Settings) -> None:
        """Take the payers of `settings`; unchanged ones are left alone.

        The payer of a removed peer, and its token, are kept until its balance is settled.
        """
        token = settings.settlement_token
        self._token_of_all = None if token is None else token.get_secret_value()
        for peer in settings.peers:
            self._use_of(settings, peer)

    def _use_of(self, settings: Settings, peer: PeerSettings) -> None:
        wanted = _Payer(
            settings.settlement_engine_of(peer),
            peer.settlement_engine_scale,
            settings.settlement_token_of(peer),
        )
        if self._of.get(peer.id) == wanted:
            return
        self._of[peer.id] = wanted
        engine = None if wanted.url is None else self._make_engine(wanted.url, wanted.token)
        self._settlements.use(peer.id, engine, wanted.scale)

    def token_of(self, peer_id: str) -> str | None:
        """The token that requests about a peer have to show; None: there is none.

        Of an unknown peer it is the node's.
        """
        payer = self._of.get(peer_id)
        return self._token_of_all if payer is None else payer.token
