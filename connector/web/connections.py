"""Which HTTP connections are kept: bounded per address and in all, the oldest idle one goes first. Pure.

An address that holds many connections without a request must not keep others out, nor itself from
`/health`: a new connection takes the place of an idle one.
"""

from __future__ import annotations

import ipaddress
from typing import Protocol


class Connection(Protocol):
    """One connection, as the table needs it."""

    address: str
    """Where it comes from; of IPv6 the /64, see `network_of`."""

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being answered."""

    def abort(self) -> None:
        """Close it at once. `Connections.remove` follows, now or later."""


class Connections:
    """The open connections of a listener."""

    def __init__(self, *, count_max: int, per_address_max: int) -> None:
        assert 0 < per_address_max <= count_max, (per_address_max, count_max)
        self._count_max = count_max
        self._per_address_max = per_address_max
        self._count = 0
        self._by_address: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, connection: Connection) -> None:
        """Take a new connection. Where that is one too many, an older one is aborted, or this one."""
        of_address = self._by_address.setdefault(connection.address, {})
        assert connection not in of_address, "added twice"
        of_address[connection] = None
        self._count += 1
        if len(of_address) > self._per_address_max:
            crowded = of_address
        elif self._count > self._count_max:
            crowded = max(self._by_address.values(), key=len)
        else:
            return
        idle = (one for one in crowded if one is not connection and one.is_idle)
        victim = next(idle, connection)
        self.remove(victim)
        victim.abort()
        assert self._count <= self._count_max

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed, or has become a WebSocket; again is no harm."""
        of_address = self._by_address.get(connection.address, {})
        if connection not in of_address:
            return
        del of_address[connection]
        self._count -= 1
        assert self._count >= 0, self._count
        if not of_address:
            del self._by_address[connection.address]


def network_of(source: str) -> str:
    """An address, or its /64: the owner of one IPv6 address usually has all of them."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return source
