"""The admin key: who has shown it, by header or by login cookie, and who tries too often.

The cookie is signed with a secret that is derived from the key: nothing is kept for it here, it holds
over a restart, and a new key makes all cookies worthless. A key is compared in constant time; wrong
keys are counted per source address, and whoever has shown too many is not listened to for a while,
also with the right one, since otherwise guessing would not be slowed down.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from enum import Enum, auto
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Final

from connector.base import limits
from connector.base.clock import Clock
from connector.base.log import Log, Sampler
from connector.web import bounds


class Verdict(Enum):
    """What becomes of someone who wants in."""

    ALLOWED = auto()
    NO_KEY = auto()
    """Nothing was shown that could be a key."""
    WRONG_KEY = auto()
    THROTTLED = auto()
    """Too many wrong keys came from this address; what is shown now is not looked at."""


class Throttle:
    """Wrong keys per source address: a bucket each, which fills up again with time."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, source: str, now_s: float) -> float:
        """Seconds until `source` is listened to again; zero: now."""
        left = self._left(source, now_s)
        return 0.0 if left >= 1.0 else (1.0 - left) * bounds.HTTP_WRONG_KEY_SECONDS

    def failed(self, source: str, now_s: float) -> None:
        """Count a wrong key; who failed longest ago is forgotten when there are too many."""
        self._buckets[source] = self._left(source, now_s) - 1.0, now_s
        self._buckets.move_to_end(source)
        if len(self._buckets) > bounds.HTTP_THROTTLED_SOURCES_MAX:
            self._buckets.popitem(last=False)

    def _left(self, source: str, now_s: float) -> float:
        left, at_s = self._buckets.get(source, (float(bounds.HTTP_WRONG_KEYS_MAX), now_s))
        gained = (now_s - at_s) / bounds.HTTP_WRONG_KEY_SECONDS
        return min(float(bounds.HTTP_WRONG_KEYS_MAX), left + gained)

    def __len__(self) -> int:
        return len(self._buckets)


class Access:
    """Who may use the API and the page of one node."""

    def __init__(
        self,
        *,
        key: str | None,
        required: bool,
        node_id: str,
        clock: Clock,
        log: Log,
        secure: bool = False,
    ) -> None:
        """Build it.

        Args:
            key: ADMIN_API_KEY; None: admin is off.
            required: whether the page and the read API need it too.
            node_id: whose page it is: nodes on one machine share a browser's cookies.
            clock: what time it is.
            log: is told of wrong keys.
            secure: whether the page is served over TLS only.
        """
        self.required: Final = required
        self.has_key: Final = key is not None
        self.cookie_name: Final = f"connector-{node_id}"
        self._key_digest = None if key is None else _digest(key)
        self._key = key
        self._signing_salt = b"ilp-connector login " + node_id.encode()
        self._clock = clock
        self._log = log
        self._secure = secure
        self._throttle = Throttle()
        self._said = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self.failures = 0

    def by_header(self, authorization: str, source: str) -> Verdict:
        """Judge an `Authorization` header."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not given:
            return Verdict.NO_KEY
        return self.by_key(given, source)

    def by_key(self, given: str, source: str) -> Verdict:
        """Judge a key; a wrong one is counted and logged."""
        if self._key_digest is None:
            return Verdict.WRONG_KEY
        now_s = self._clock.monotonic_s()
        source = _network(source)
        if self._throttle.wait_s(source, now_s):
            return Verdict.THROTTLED
        if hmac.compare_digest(_digest(given), self._key_digest):
            return Verdict.ALLOWED
        self.failures += 1
        self._throttle.failed(source, now_s)
        suppressed = self._said.allow(now_s)
        if suppressed is not None:
            self._log.warning(
                "http_authentication_failed",
                remote=source,
                throttled=self._throttle.wait_s(source, now_s) > 0,
                suppressed=suppressed,
            )
        return Verdict.WRONG_KEY

    def retry_after_s(self, source: str) -> int:
        """Whole seconds until someone who is throttled is listened to."""
        return int(self._throttle.wait_s(_network(source), self._clock.monotonic_s())) + 1

    # --- the login cookie

    def has_cookie(self, header: str) -> bool:
        """Whether a `Cookie` header holds a login of ours that has not run out.

        A wrong one is not counted as a wrong key: it cannot be guessed, and a page that was open
        when the key changed sends it again and again.
        """
        if self._key_digest is None:
            return False
        try:
            morsel = SimpleCookie(header).get(self.cookie_name)
        except CookieError:
            return False
        if morsel is None:
            return False
        text, _, signature = morsel.value.partition(".")
        if not text.isascii() or not text.isdigit() or len(text) > 16:
            return False
        right = hmac.compare_digest(signature.encode(), self._sign(text).encode())
        return right and int(text) > self._clock.now_ms()

    def new_cookie(self) -> str:
        """A `Set-Cookie` header for someone who has shown the key."""
        seconds = bounds.HTTP_LOGIN_SECONDS_MAX
        text = str(self._clock.now_ms() + seconds * 1000)
        return self._set_cookie(f"{text}.{self._sign(text)}", seconds)

    def no_cookie(self) -> str:
        """A `Set-Cookie` header that ends a login."""
        return self._set_cookie("", 0)

    def _set_cookie(self, value: str, seconds: int) -> str:
        secure = "; Secure" if self._secure else ""
        return (
            f"{self.cookie_name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict"
            + secure
        )

    def _sign(self, text: str) -> str:
        return hmac.digest(self._signing_key, text.encode(), "sha256").hex()

    @cached_property
    def _signing_key(self) -> bytes:
        """Made slowly on purpose, once: who has a cookie must not find a short key by trying."""
        assert self._key is not None
        return hashlib.scrypt(
            self._key.encode(), salt=self._signing_salt, n=1 << 14, r=8, p=1, dklen=32
        )


def _digest(key: str) -> bytes:
    # Of equal length whatever is given: a comparison tells nothing of the right key's length.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _network(source: str) -> str:
    """An address, or its /64: whoever has one IPv6 address has a whole network of them."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return source
