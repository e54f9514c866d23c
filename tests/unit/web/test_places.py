"""Places for viewers and logins: bounded in all, and no address can take them all."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from connector.web.places import Holder, holder_at, place_for
from connector.web.roles import Role

PLACES = 8


def reader(address: str, login: str = "") -> Holder:
    return Holder(address, login, Role.READ)


def operator(address: str, login: str = "") -> Holder:
    return Holder(address, login, Role.OPERATE)


def enter(taken: list[Holder], newcomer: Holder) -> bool:
    """As the live feed does it."""
    if len(taken) >= PLACES:
        at = place_for(newcomer, taken)
        if at is None:
            return False
        del taken[at]
    taken.append(newcomer)
    return True


def test_one_address_cannot_keep_another_out_and_both_end_with_a_half() -> None:
    taken = [reader("a")] * PLACES
    assert place_for(reader("a"), taken) is None
    for _ in range(PLACES // 2):
        assert enter(taken, reader("b"))
    assert not enter(taken, reader("b"))
    assert not enter(taken, reader("a")), "who made room does not ask for it back"
    assert Counter(one.address for one in taken) == {"a": PLACES // 2, "b": PLACES // 2}


def test_the_oldest_place_goes() -> None:
    taken = [reader("b"), reader("a", "1"), reader("a", "2"), reader("a", "3")]
    assert place_for(reader("c"), taken) == 1


def test_with_as_many_addresses_as_places_a_further_reader_gets_none_and_an_operator_one() -> None:
    taken = [reader(str(number)) for number in range(PLACES)]
    assert not enter(taken, reader("late"))
    assert enter(taken, operator("late"))
    assert not enter(taken, operator("late")), "it has as many as they"
    assert not enter(taken, reader("later")), "and is not put out by one who reads"
    assert operator("late") in taken


def test_of_one_address_no_login_keeps_another_out() -> None:
    taken = [reader("proxy", "a")] * PLACES
    assert enter(taken, reader("proxy", "b"))
    assert enter(taken, operator("proxy", "c"))
    taken = [reader("proxy", str(number)) for number in range(PLACES)]
    assert not enter(taken, reader("proxy", "late"))


def test_an_address_of_ipv6_is_its_network() -> None:
    one, other = (holder_at(f"2001:db8::{end}", "", Role.READ) for end in (1, 2))
    assert one == other


HOLDERS = st.builds(
    Holder,
    st.sampled_from("abcd"),
    st.sampled_from("xyz"),
    st.sampled_from([Role.READ, Role.OPERATE]),
)


@given(st.lists(HOLDERS, max_size=60))
def test_whoever_comes_the_places_are_bounded_and_no_share_is_taken_below_a_newcomers(
    newcomers: list[Holder],
) -> None:
    taken: list[Holder] = []
    for newcomer in newcomers:
        before = Counter((one.address, one.role) for one in taken)
        let_in = enter(taken, newcomer)
        after = Counter((one.address, one.role) for one in taken)
        assert len(taken) <= PLACES
        for share, count in before.items():
            if after[share] < count and share != (newcomer.address, newcomer.role):
                assert after[share] + 1 >= after[newcomer.address, newcomer.role]
        if not let_in:
            own = before[newcomer.address, newcomer.role]
            assert own + 1 >= max(before.values())
