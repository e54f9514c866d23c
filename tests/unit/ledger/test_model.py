"""Transfers as octets, ids of accounts and transfers."""

from __future__ import annotations

import random
import struct

import pytest

from connector.ledger.model import (
    DERIVED_ID_MAX,
    ID_MAX,
    SECOND_WAY,
    TAG_MASK,
    AccountCode,
    IdGenerator,
    Transfer,
    account_id,
    asset_ledger,
    first_id,
    node_tag,
    peer_tag,
    second_id,
    settlement_id,
)
from connector.ledger.rows import ROW, pack_transfer, unpack_transfer

FULL = Transfer(
    2**128 - 1, 2**127, 3, 2**128 - 2, 5, 2**126 + 6, 2**64 - 1, 2**32 - 1, 2**32 - 2, 2**32 - 3,
    2**16 - 1, 2**16 - 2, 2**64 - 3,
)  # fmt: skip


def test_a_transfer_is_128_octets_and_round_trips() -> None:
    octets = pack_transfer(FULL, FULL.timestamp)
    assert len(octets) == ROW.size == 128
    assert unpack_transfer(b"x" * 7 + octets, 7) == FULL
    # Unless one is given, the timestamp is the ledger's to set.
    assert unpack_transfer(pack_transfer(FULL)) == FULL._replace(timestamp=0)


@pytest.mark.parametrize(
    "fields", [{"id": 2**128}, {"amount": -1}, {"user_data_64": 2**64}, {"code": 2**16}]
)
def test_a_field_that_does_not_fit_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(struct.error):
        pack_transfer(FULL._replace(**fields))


def test_account_ids_can_be_recomputed_and_differ_in_every_part() -> None:
    ids = [
        account_id("n1", AccountCode.PEER, "alice", "USD/9"),
        account_id("n2", AccountCode.PEER, "alice", "USD/9"),
        account_id("n1", AccountCode.SETTLEMENT, "alice", "USD/9"),
        account_id("n1", AccountCode.PEER, "bob", "USD/9"),
        account_id("n1", AccountCode.PEER, "alice", "USD/6"),
        # Lengths are part of it: moving a letter from one name to the next makes another account.
        account_id("n1a", AccountCode.PEER, "lice", "USD/9"),
    ]
    assert len(set(ids)) == len(ids)
    assert all(0 < id_ < ID_MAX for id_ in ids)
    # Written down: a change would cut every node off from its money.
    assert ids[0] == 0x9E0ED3BA3EFC9060CB8F0958D41082D0


def test_ids_of_settlements_can_be_recomputed_and_differ_in_every_part() -> None:
    account = account_id("n1", AccountCode.SETTLEMENT, "alice", "USD/9")
    ids = [
        settlement_id(account, "incoming", "engine", "k"),
        settlement_id(account + 1, "incoming", "engine", "k"),
        settlement_id(account, "outgoing", "engine", "k"),
        settlement_id(account, "incoming", "operator", "k"),
        settlement_id(account, "incoming", "engine", "k2"),
        settlement_id(account, "incoming", "enginek", ""),
    ]
    assert len(set(ids)) == len(ids)
    assert all(0 < id_ <= DERIVED_ID_MAX and not id_ & TAG_MASK for id_ in ids)
    # Written down: after a change, a payment told again would be credited again.
    assert ids[0] == 0x7EC56430F7C18D24C200


def test_numbers_of_assets_and_tags_fit_their_fields() -> None:
    assert 0 < asset_ledger("USD", 9) < 2**32
    assert asset_ledger("USD", 9) != asset_ledger("USD", 8)
    assert 0 < node_tag("n1") < 2**128
    assert node_tag("n1") != node_tag("n2")
    assert 0 < peer_tag("alice") < 2**64


def test_ids_rise_with_time_and_leave_the_low_octet_clear() -> None:
    rng = random.Random(1)
    ids = IdGenerator(random_bits=rng.getrandbits)
    made = [ids.next(now_ms) for now_ms in (1000, 1000, 1001, 900, 1001, 1002)]
    assert made == sorted(set(made))
    assert all(id_ & 0xFF == 0 for id_ in made)
    assert [id_ >> 80 for id_ in made] == [1000, 1000, 1001, 1001, 1001, 1002]


@pytest.mark.parametrize("low", [0, 1, 0xFF])
def test_ids_rise_above_what_a_ledger_has_seen(low: int) -> None:
    seen = 2000 << 80 | 0xAB << 8 | low
    ids = IdGenerator(random_bits=lambda _: 0)
    assert ids.last == 0
    ids.rise_above(seen)
    ids.rise_above(seen - 0x1000)  # never back
    first = ids.next(1500)
    assert first > seen
    assert first & 0xFF == 0
    assert ids.last == first
    assert ids.next(2001) == 2001 << 80


def test_ids_of_second_ways_are_derived_and_those_of_no_other_packet() -> None:
    ids = IdGenerator(random_bits=lambda bits: (1 << bits) - 1)
    made = [ids.next(1000) for _ in range(1000)]
    seconds = [second_id(id_) for id_ in made]
    assert not set(made) & set(seconds)
    assert [first_id(id_) for id_ in seconds] == made == [first_id(id_) for id_ in made]
    assert all(id_ & 0xFF == 0 and id_ >> 80 == 1000 for id_ in seconds)
    with pytest.raises(AssertionError):
        second_id(seconds[0])


@pytest.mark.parametrize("low", [0, 1, 0x11])
def test_ids_rise_above_those_of_second_ways_and_are_none_of_them(low: int) -> None:
    ids = IdGenerator(random_bits=lambda _: 0)
    seen = second_id(2000 << 80 | 0xAB << 8) | low
    ids.rise_above(seen)
    made = [ids.next(1500) for _ in range(3)]
    assert all(id_ > seen and not id_ & SECOND_WAY and id_ & 0xFF == 0 for id_ in made)


def test_an_id_that_leaves_no_room_above_it_is_not_counted_on_from() -> None:
    ids = IdGenerator(random_bits=lambda _: 0)
    ids.rise_above(2**128 - 2)
    assert ids.next(1500) == 1500 << 80


def test_ids_rise_above_earlier_runs_when_the_clock_went_back() -> None:
    last = 2000 << 80 | 0xAB << 8
    ids = IdGenerator(random_bits=lambda _: 0, last=last)
    first = ids.next(1500)
    assert first == last + 0x100
    assert ids.next(1600) == first + 0x100
    assert ids.next(2001) == 2001 << 80
