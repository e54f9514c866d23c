"""Bounds connections without a log-in: per address and in all. Pure.

Where there is one too many, the oldest idle one of the address with the most is closed, so that an
address with many idle connections keeps neither others out nor itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """One connection, as the table needs it."""

    address: str
    """Where it comes from; of IPv6 the /64, see `network_of`."""

    @property
    def is_idle(self) -> bool:
        """Whether it may be closed in favour of a new one."""


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """The open connections of a listener, oldest first."""

    def __init__(self, *, count_max: int, per_address_max: int) -> None:
        assert 0 < per_address_max <= count_max, (per_address_max, count_max)
        self._count_max = count_max
        self._per_address_max = per_address_max
        self._count = 0
        self._by_address: dict[str, dict[C, None]] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[C]:
        for of_address in self._by_address.values():
            yield from of_address

    def add(self, connection: C, *, shared: bool = False) -> C | None:
        """Take a new connection; `shared`: of an address, such as a proxy's, that many use.

        For a shared address only the bound of all connections holds. Returns the connection that the caller has to close, where that is one too many: an older
        one, or this one. It is removed already.
        """
        of_address = self._by_address.setdefault(connection.address, {})
        assert connection not in of_address, "added twice"
        of_address[connection] = None
        self._count += 1
        if len(of_address) > self._per_address_max and not shared:
            crowded = of_address
        elif self._count > self._count_max:
            crowded = max(self._by_address.values(), key=len)
        else:
            return None
        idle = (one for one in crowded if one is not connection and one.is_idle)
        victim = next(idle, connection)
        self.remove(victim)
        assert self._count <= self._count_max
        return victim

    def move(self, connection: C, address: str, *, shared: bool = False) -> C | None:
        """Count a connection for another address from now on; see `add`. One that was removed stays so."""
        if connection not in self._by_address.get(connection.address, {}):
            return None
        self.remove(connection)
        connection.address = address
        return self.add(connection, shared=shared)

    def remove(self, connection: C) -> None:
        """Forget a connection that is closed, or no longer a stranger's; again is no harm."""
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
