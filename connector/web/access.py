"""The keys of the web surface: checks them in headers and login cookies.

Each key has a role, and each role may do what the roles below it may. A login exchanges a key for a
cookie (`sessions`). Keys are compared in constant time; wrong ones are throttled (`wrong_keys`).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from connector.base.clock import Clock
from connector.base.log import Log
from connector.base.wrong_keys import Denied, WrongKeys, digest
from connector.web import bounds
from connector.web.places import Holder
from connector.web.roles import Role
from connector.web.sessions import Sessions


class Access:
    """Authenticates users of the API and the page of one node."""

    def __init__(
        self,
        *,
        key: str | None,
        required: bool,
        node_id: str,
        clock: Clock,
        log: Log,
        random_octets: Callable[[int], bytes],
        read_key: str | None = None,
        metrics_key: str | None = None,
    ) -> None:
        """Build it.

        Args:
            key: ADMIN_API_KEY; None: admin is off.
            read_key: READ_API_KEY; None: there is none.
            metrics_key: METRICS_KEY; None: there is none.
            required: whether the page and the read API need the key too.
            node_id: names the cookie: nodes on one machine share a browser's cookies.
            clock: for throttling and the expiry of logins.
            log: for wrong keys.
            random_octets: returns so many unguessable octets.
        """
        self.required: Final = required
        self.has_key: Final = key is not None
        self.key_names: Final = (
            "ADMIN_API_KEY" if read_key is None else "ADMIN_API_KEY or READ_API_KEY"
        )
        """The settings whose keys open what is read, for messages."""
        self.metrics_need_key: Final = required or metrics_key is not None
        """Whether balances in /metrics are shown only to a request with a key."""
        self.cookie_name: Final = f"connector-{node_id}"
        keys = {Role.METRICS: metrics_key, Role.READ: read_key, Role.OPERATE: key}
        # The highest role first, should two keys be the same.
        self._digests = [
            (role, digest(text)) for role, text in reversed(keys.items()) if text is not None
        ]
        self.has_login: Final = key is not None or read_key is not None
        """Whether there is a key to log in with."""
        self._sessions = Sessions(clock=clock, random_octets=random_octets)
        self._wrong = WrongKeys(clock=clock, log=log)

    @property
    def failures(self) -> int:
        """Wrong keys since the start."""
        return self._wrong.count

    def by_header(self, authorization: str, source: str) -> Role | Denied:
        """The role of the key in an `Authorization` header."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not given:
            return Denied.NO_KEY
        return self.by_key(given, source)

    def by_key(self, given: str, source: str) -> Role | Denied:
        """The role of a key; a wrong one is counted, and logged until its address is throttled."""
        if not self._digests:
            return Denied.WRONG_KEY
        shown = digest(given)
        # All are compared, so that the time does not tell which one was nearly right.
        found = [role for role, right in self._digests if hmac.compare_digest(shown, right)]
        return found[0] if found else self._wrong.deny(source)

    def retry_after_s(self, source: str) -> int:
        """See `WrongKeys`."""
        return self._wrong.retry_after_s(source)

    # --- the login cookie, which reads; it changes something only if it was asked for that

    def by_cookie(self, header: str) -> Holder | None:
        """Who has logged in with a `Cookie` header; None: nobody, or the login has ended.

        A wrong cookie is not counted as a wrong key: it cannot be guessed, and a page that was open
        over a restart keeps sending it.
        """
        token = _cookie(header, self.cookie_name)
        return self._sessions.holder(token) if token else None

    def has_cookie(self, header: str) -> bool:
        """Whether a `Cookie` header has a login of ours that has not ended."""
        return self.by_cookie(header) is not None

    def operating_token(self, header: str) -> str | None:
        """The token of a login that may change something; None: there is none in a `Cookie` header."""
        token = _cookie(header, self.cookie_name)
        return token if token and self._sessions.operates_for_s(token) > 0 else None

    def operates_for_s(self, header: str) -> int:
        """For how many seconds the login of a `Cookie` header may change something."""
        return int(self._sessions.operates_for_s(_cookie(header, self.cookie_name)))

    def new_cookie(
        self, role: Role, source: str, *, secure: bool, path: str = "/", operate: bool = False
    ) -> str:
        """A `Set-Cookie` header that logs in; for requests with the right key.

        Args:
            role: that of the key.
            source: the address that the request comes from.
            secure: the browser uses TLS; it then never shows the cookie without.
            path: where the browser shows it.
            operate: whether it may change something for a while.
        """
        token = self._sessions.begin(role, source, operate=operate)
        return self._set_cookie(token, bounds.HTTP_LOGIN_SECONDS_MAX, secure=secure, path=path)

    def log_out(self, header: str, *, secure: bool, path: str = "/") -> str:
        """End the login of a `Cookie` header; a `Set-Cookie` header that removes it from the browser.

        Arguments: see `new_cookie`.
        """
        self._sessions.end(_cookie(header, self.cookie_name))
        return self._set_cookie("", 0, secure=secure, path=path)

    def _set_cookie(self, value: str, seconds: int, *, secure: bool, path: str) -> str:
        return (
            f"{self.cookie_name}={value}; Max-Age={seconds}; Path={path}; HttpOnly; SameSite=Strict"
            + ("; Secure" if secure else "")
        )


def _cookie(header: str, name: str) -> str:
    """The value of one cookie; empty: it is not there. Ours need no quotes (RFC 6265, 4.1.1).

    In one pass: `http.cookies` of some Python versions takes quadratic time for quoted values.
    """
    for pair in header.split(";"):
        key, _, value = pair.partition("=")
        if key.strip() == name:
            return value.strip()
    return ""
