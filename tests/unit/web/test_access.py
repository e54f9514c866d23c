"""The key and the login cookie: accepted, refused, and throttled after too many wrong ones."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from connector.base import limits
from connector.base.randomness import SystemRandomness
from connector.base.wrong_keys import Denied, Throttle
from connector.web import bounds as web_bounds
from connector.web.access import Access
from connector.web.roles import Role
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock

KEY = "key-of-the-admin"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log() -> EventLog:
    return EventLog()


def access_of(clock: ManualClock, log: EventLog, key: str | None = KEY, **more: object) -> Access:
    return Access(
        key=key, required=True, node_id=str(more.get("node_id", "alice")), clock=clock, log=log, random_octets=SystemRandomness().octets
    )  # fmt: skip


@pytest.fixture
def access(clock: ManualClock, log: EventLog) -> Access:
    return access_of(clock, log)


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (f"Bearer {KEY}", Role.OPERATE), (f"bearer {KEY}", Role.OPERATE),
        ("", Denied.NO_KEY), ("Bearer", Denied.NO_KEY), ("Bearer ", Denied.NO_KEY),
        (f"Basic {KEY}", Denied.NO_KEY), (KEY, Denied.NO_KEY),
        (f"Bearer {KEY}x", Denied.WRONG_KEY), (f"Bearer {KEY[:-1]}", Denied.WRONG_KEY),
        (f"Bearer  {KEY}", Denied.WRONG_KEY), ("Bearer \xff\ud800", Denied.WRONG_KEY),
    ],
)  # fmt: skip
def test_only_the_exact_key_is_accepted(
    access: Access, header: str, verdict: Role | Denied
) -> None:
    assert access.by_header(header, "192.0.2.1") is verdict


def test_without_a_configured_key_nothing_is_accepted(clock: ManualClock, log: EventLog) -> None:
    access = access_of(clock, log, key=None)
    assert access.by_key("None", "") is Denied.WRONG_KEY
    assert access.by_key("", "") is Denied.WRONG_KEY
    assert not access.has_cookie("connector-alice=1.2")


def test_each_key_has_its_role(clock: ManualClock, log: EventLog) -> None:
    access = Access(
        key=KEY, read_key="read-key", metrics_key="metrics-key", required=True, node_id="alice",
        clock=clock, log=log, random_octets=SystemRandomness().octets,
    )  # fmt: skip
    assert access.by_header("Bearer metrics-key", "192.0.2.1") is Role.METRICS
    assert access.by_header("Bearer read-key", "192.0.2.1") is Role.READ
    assert access.by_key(KEY, "192.0.2.1") is Role.OPERATE
    assert access.by_key("metrics-key2", "192.0.2.1") is Denied.WRONG_KEY
    assert access.failures == 1
    alone = Access(
        key=None,
        metrics_key="metrics-key",
        required=False,
        node_id="alice",
        clock=clock,
        log=log,
        random_octets=SystemRandomness().octets,
    )
    assert alone.by_key("metrics-key", "192.0.2.1") is Role.METRICS
    assert not alone.has_key
    assert not alone.has_login
    assert not alone.has_cookie(value_of(new_cookie(access)))


def test_the_twenty_first_wrong_key_is_throttled_for_a_while(
    access: Access, clock: ManualClock, log: EventLog
) -> None:
    for _ in range(limits.HTTP_WRONG_KEYS_MAX):
        assert access.by_key("wrong", "192.0.2.1") is Denied.WRONG_KEY
    assert access.by_key("wrong", "192.0.2.1") is Denied.THROTTLED
    assert access.by_key(KEY, "192.0.2.1") is Role.OPERATE, "the owner is not locked out"
    assert access.by_key("wrong", "192.0.2.2") is Denied.WRONG_KEY, "others are not held liable"
    wait_s = access.retry_after_s("192.0.2.1")
    assert 1 <= wait_s <= limits.HTTP_WRONG_KEY_SECONDS + 1
    clock.advance(wait_s)
    assert access.by_key("wrong", "192.0.2.1") is Denied.WRONG_KEY
    assert access.by_key("wrong", "192.0.2.1") is Denied.THROTTLED
    clock.advance(wait_s)
    assert access.by_key(KEY, "192.0.2.1") is Role.OPERATE
    assert access.failures == limits.HTTP_WRONG_KEYS_MAX + 4
    said = [fields for _, event, fields in log.events if event == "http_authentication_failed"]
    assert 0 < len(said) <= 2 * limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX
    assert "wrong" not in str(said)


def test_addresses_of_one_ipv6_64_count_as_one_source(access: Access) -> None:
    for number in range(limits.HTTP_WRONG_KEYS_MAX):
        access.by_key("wrong", f"2001:db8::{number:x}")
    assert access.by_key("wrong", "2001:db8::ffff") is Denied.THROTTLED
    assert access.by_key("wrong", "2001:db8:0:1::1") is Denied.WRONG_KEY
    for _ in range(limits.HTTP_WRONG_KEYS_MAX):
        access.by_key("wrong", "::ffff:192.0.2.1")
    assert access.by_key("wrong", "::ffff:192.0.2.1") is Denied.THROTTLED
    assert access.by_key("wrong", "::ffff:192.0.2.2") is Denied.WRONG_KEY


def test_the_table_of_throttled_sources_is_bounded() -> None:
    throttle = Throttle()
    for number in range(limits.HTTP_THROTTLED_SOURCES_MAX + 100):
        throttle.failed(str(number), 0.0)
    assert len(throttle) == limits.HTTP_THROTTLED_SOURCES_MAX


# --- the cookie


def new_cookie(access: Access, source: str = "192.0.2.1", role: Role = Role.OPERATE) -> str:
    return access.new_cookie(role, source, secure=False)


def value_of(set_cookie: str) -> str:
    ((name, morsel),) = SimpleCookie(set_cookie).items()
    return f"{name}={morsel.value}"


def test_a_cookie_is_valid_until_it_expires(access: Access, clock: ManualClock) -> None:
    cookie = value_of(new_cookie(access))
    assert access.has_cookie(cookie)
    assert access.has_cookie(f"other=1; {cookie}; connector-bob=2.3")
    clock.advance(web_bounds.HTTP_LOGIN_SECONDS_MAX - 1)
    assert access.has_cookie(cookie)
    clock.advance(1)
    assert not access.has_cookie(cookie)


def test_a_login_ends_with_the_node_and_is_of_no_use_at_another(
    access: Access, clock: ManualClock, log: EventLog
) -> None:
    cookie = value_of(new_cookie(access))
    assert not access_of(clock, log).has_cookie(cookie)
    of_bob = cookie.replace("alice", "bob")
    assert not access_of(clock, log, node_id="bob").has_cookie(of_bob), "each node has its own"


def test_logging_out_ends_one_login_on_the_node(access: Access) -> None:
    first, second = (value_of(new_cookie(access)) for _ in range(2))
    assert first != second
    for _ in range(2):
        assert "Max-Age=0" in access.log_out(f"other=1; {first}", secure=False)
        assert not access.has_cookie(first), "whoever has kept it cannot use it any more"
        assert access.has_cookie(second)
    for header in ("", "connector-alice=", "connector-alice=x", "other=1"):
        access.log_out(header, secure=False)
    assert access.has_cookie(second)


def test_of_too_many_logins_the_oldest_ends(
    access: Access, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_bounds, "HTTP_SESSIONS_MAX", 3)
    cookies = [value_of(new_cookie(access)) for _ in range(5)]
    assert [access.has_cookie(one) for one in cookies] == [False, False, True, True, True]
    assert len(access._sessions) == 3
    clock.advance(web_bounds.HTTP_LOGIN_SECONDS_MAX)
    new_cookie(access)
    assert len(access._sessions) == 1, "those that have ended take no place"


def test_who_logs_in_again_and_again_logs_nobody_else_out(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_bounds, "HTTP_SESSIONS_MAX", 10)
    operator = value_of(new_cookie(access))
    reader = value_of(new_cookie(access, "192.0.2.2", Role.READ))
    for _ in range(50):
        greedy = value_of(new_cookie(access, "192.0.2.3", Role.READ))
    assert all(map(access.has_cookie, (operator, reader, greedy)))
    assert len(access._sessions) == 10
    for number in range(50):
        new_cookie(access, f"198.51.100.{number}", Role.READ)
    assert access.has_cookie(operator), "of even shares, those that only read make room"
    assert not access.has_cookie(reader)


def test_at_one_address_a_reader_logs_no_operator_out(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy that is not named all have one address."""
    monkeypatch.setattr(web_bounds, "HTTP_SESSIONS_MAX", 10)
    operator = value_of(new_cookie(access))
    for _ in range(50):
        reader = value_of(new_cookie(access, role=Role.READ))
    assert access.has_cookie(operator)
    assert access.has_cookie(reader)
    later = value_of(new_cookie(access))
    assert all(map(access.has_cookie, (operator, later)))
    assert len(access._sessions) == 10


def test_a_login_has_the_role_of_its_key(access: Access) -> None:
    for role in (Role.READ, Role.OPERATE):
        found = access.by_cookie(value_of(new_cookie(access, "2001:db8::1", role)))
        assert found is not None
        assert (found.role, found.address) == (role, "2001:db8::/64")
    assert access.by_cookie("connector-alice=x") is None


def test_a_cookie_of_strangers_is_no_login(access: Access) -> None:
    new_cookie(access)
    for value in ("", "0" * 64, "\xff\ud800", "1." + "0" * 64):
        assert not access.has_cookie(f"connector-alice={value}")


@pytest.mark.parametrize("path", ["/", "/nodes/alice"])
@pytest.mark.parametrize("secure", [False, True])
def test_scripts_and_other_sites_never_get_the_cookie(
    clock: ManualClock, log: EventLog, secure: bool, path: str
) -> None:
    access = access_of(clock, log)
    for text in (
        access.new_cookie(Role.OPERATE, "", secure=secure, path=path),
        access.log_out("", secure=secure, path=path),
    ):
        (morsel,) = SimpleCookie(text).values()
        assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", path)
        assert bool(morsel["secure"]) is secure
        assert KEY not in text
        assert access.has_cookie(value_of(text)) is ("Max-Age=0" not in text)


def test_of_many_cookies_ours_is_found(access: Access) -> None:
    cookie = value_of(new_cookie(access))
    name, _, value = cookie.partition("=")
    assert access.has_cookie(f"{name}x=1;{cookie} ;")
    assert access.has_cookie(f'a="1;2"; {name} = {value}')
    assert not access.has_cookie(f"x{cookie}")
    assert not access.has_cookie(f'{name}="' + '\\"' * 100_000 + '"')
    assert not access.has_cookie("")


def test_an_altered_cookie_is_rejected_without_throttling(access: Access) -> None:
    name, _, value = value_of(new_cookie(access)).partition("=")
    for wrong in (
        value[:-1], f"{value}0", value.upper(), f"1.{value}", f"-{value}", "9" * 40, "\u0661.x", "",
        "0" * len(value),
    ):  # fmt: skip
        for _ in range(limits.HTTP_WRONG_KEYS_MAX):
            assert not access.has_cookie(f"{name}={wrong}")
    assert not access.has_cookie('\x00;;=;,="')
    assert access.by_key(KEY, "192.0.2.1") is Role.OPERATE
