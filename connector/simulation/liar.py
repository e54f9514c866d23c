"""An end that speaks CCP and announces what is not behind it: other nodes, their ends, everything; and withdraws it again.

With the simulator's own codec. Some of its requests are broken: gaps of epochs, stale ones, octets of no update. It fulfils no packet.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from connector.simulation import octets
from connector.simulation.ends import START_MS, End, address_of
from connector.simulation.transport import Transport

_TELLS_EVERY_S: Final = (0.2, 1.5)
_EXPIRY_MS: Final = 60_000
_CONDITION: Final = hashlib.sha256(bytes(32)).digest()


class LyingEnd(End):
    """See the module."""

    def __init__(self, *, prefixes: list[str], **options: Any) -> None:
        """`prefixes`: what it announces, among them some that nobody may take."""
        super().__init__(**options)
        self._prefixes: Final = prefixes
        self._table_id = self.chance.randbytes(16)
        self._epoch = 0
        self._stopped_s = 0.0
        self.told = 0

    def begin(self, until_s: float) -> None:
        """Announce something now and then, until so late."""
        self._stopped_s = until_s
        self.world.after(0.5, self._tell)

    def _tell(self) -> None:
        if self.world.now_s >= self._stopped_s:
            return
        low, high = _TELLS_EVERY_S
        self.world.after(low + (high - low) * self.chance.random(), self._tell)
        if self.connected_s is not None:
            self.told += 1
            destination = "peer.route.update"
            expires_ms = START_MS + int(self.world.now_s * 1000) + _EXPIRY_MS
            ilp = octets.prepare(0, expires_ms, _CONDITION, destination, self._update())
            self.send_octets(ilp, b"", again=False)

    def _update(self) -> bytes:
        chance, own = self.chance, address_of(self.name)
        if chance.random() < 0.1:
            return chance.randbytes(chance.choice((0, 1, 40, 300)))
        if chance.random() < 0.15:
            self._table_id, self._epoch = chance.randbytes(16), 0
        first = max(0, self._epoch + chance.choice((0, 0, 0, 0, 7, -1)))
        self._epoch += 1
        paths: tuple[tuple[str, ...], ...] = (
            (own,),
            (own,),
            (),
            (own, own, own),
            (f"g.{self.node}", own),
        )
        new = [
            (prefix, chance.choice(paths))
            for prefix in chance.sample(self._prefixes, chance.randrange(len(self._prefixes)))
        ]
        gone = chance.sample(self._prefixes, chance.randrange(3)) if chance.random() < 0.5 else []
        hold_ms = chance.choice((0, 3000, 45_000, 2**32 - 1))
        return octets.route_update(
            self._table_id, self._epoch, first, self._epoch, hold_ms, own, new, gone
        )

    def asked(
        self,
        packet: octets.BtpSeen,
        prepare: octets.PrepareSeen | octets.AnswerSeen,
        transport: Transport,
    ) -> None:
        """See `End`; requests for routes are answered as if they were taken, or not."""
        assert isinstance(prepare, octets.PrepareSeen)
        if not prepare.destination.startswith("peer.route."):
            super().asked(packet, prepare, transport)
        elif self.chance.random() < 0.8:
            self.reply(transport, packet.request_id, octets.fulfill(bytes(32)))
        elif self.chance.random() < 0.5:
            answer = octets.reject("F00", address_of(self.name), "what is that?")
            self.reply(transport, packet.request_id, answer)
