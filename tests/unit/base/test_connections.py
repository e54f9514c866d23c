"""Connections are bounded per address and in all; the oldest idle one makes room."""

from __future__ import annotations

import random

import pytest

from connector.base.connections import Connections, network_of


class Socket:
    """A connection that is closed or not."""

    def __init__(self, address: str, *, is_idle: bool = True) -> None:
        self.address = address
        self.is_idle = is_idle
        self.aborted = False


class Table(Connections[Socket]):
    """Closes what has to be closed."""

    def add(self, connection: Socket, *, shared: bool = False) -> Socket | None:
        superfluous = super().add(connection, shared=shared)
        if superfluous is not None:
            superfluous.aborted = True
        return superfluous


def added(table: Table, address: str, count: int, *, is_idle: bool = True) -> list[Socket]:
    sockets = [Socket(address, is_idle=is_idle) for _ in range(count)]
    for one in sockets:
        table.add(one)
    return sockets


def test_an_address_with_too_many_loses_its_oldest_idle_one() -> None:
    table = Table(count_max=10, per_address_max=3)
    sockets = added(table, "192.0.2.1", 5)
    assert [one.aborted for one in sockets] == [True, True, False, False, False]
    assert len(table) == 3


def test_one_with_a_request_under_way_is_spared() -> None:
    table = Table(count_max=10, per_address_max=2)
    busy, idle = Socket("192.0.2.1", is_idle=False), Socket("192.0.2.1")
    new = Socket("192.0.2.1")
    for one in (busy, idle, new):
        table.add(one)
    assert (busy.aborted, idle.aborted, new.aborted) == (False, True, False)


def test_where_all_are_busy_the_new_one_is_refused() -> None:
    table = Table(count_max=10, per_address_max=2)
    busy = added(table, "192.0.2.1", 2, is_idle=False)
    (new,) = added(table, "192.0.2.1", 1)
    assert new.aborted
    assert not any(one.aborted for one in busy)
    assert len(table) == 2


def test_in_all_the_address_with_the_most_makes_room() -> None:
    table = Table(count_max=6, per_address_max=5)
    few = added(table, "192.0.2.1", 1)
    many = added(table, "192.0.2.2", 5)
    (new,) = added(table, "192.0.2.3", 1)
    assert not few[0].aborted
    assert not new.aborted
    assert [one.aborted for one in many] == [True, False, False, False, False]


def test_a_shared_address_is_bounded_by_the_number_in_all_alone() -> None:
    table = Table(count_max=10, per_address_max=3)
    of_proxy = [Socket("10.0.0.2") for _ in range(12)]
    for one in of_proxy:
        table.add(one, shared=True)
    assert [one.aborted for one in of_proxy] == [True] * 2 + [False] * 10
    (other,) = added(table, "192.0.2.1", 1)
    assert (other.aborted, of_proxy[2].aborted) == (False, True)


def test_a_connection_that_moves_counts_for_its_new_address() -> None:
    table = Table(count_max=10, per_address_max=3)
    of_proxy = [Socket("10.0.0.2", is_idle=False) for _ in range(5)]
    for one in of_proxy:
        table.add(one, shared=True)
    for one in of_proxy[:3]:
        assert table.move(one, "192.0.2.1") is None
    of_proxy[1].is_idle = True
    assert table.move(of_proxy[3], "192.0.2.1") is of_proxy[1]
    assert of_proxy[1].aborted
    assert table.move(of_proxy[4], "192.0.2.1") is of_proxy[4], "none of them is idle"
    assert len(table) == 3
    assert table.move(of_proxy[4], "192.0.2.9") is None, "gone stays gone"
    assert len(table) == 3
    assert table.move(of_proxy[0], "10.0.0.2", shared=True) is None
    assert of_proxy[0].address == "10.0.0.2"


def test_removed_twice_is_no_harm() -> None:
    table = Table(count_max=6, per_address_max=5)
    (one,) = added(table, "192.0.2.1", 1)
    table.remove(one)
    table.remove(one)
    assert len(table) == 0
    assert not one.aborted


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_and_goes_no_bound_is_passed(seed: int) -> None:
    chance = random.Random(seed)
    table = Table(count_max=20, per_address_max=8)
    alive: list[Socket] = []
    for _ in range(500):
        if alive and chance.random() < 0.3:
            table.remove(alive.pop(chance.randrange(len(alive))))
        else:
            one = Socket(f"192.0.2.{chance.randrange(6)}", is_idle=chance.random() < 0.7)
            table.add(one)
            alive.append(one)
        alive = [one for one in alive if not one.aborted]
        assert len(table) == len(alive) <= 20
        by_address = [one.address for one in alive]
        assert all(by_address.count(address) <= 8 for address in by_address)


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("not an address", "not an address"),
        ("", ""),
    ],
)
def test_of_ipv6_the_64_counts(source: str, network: str) -> None:
    assert network_of(source) == network
