"""A typed client of a node's HTTP API, for programs that operate nodes.

    client = Client("http://127.0.0.1:8080", key)
    for event in client.log_events(types=["operator"], since="2026-01-01"):
        print(event.timestamp, event.said)

Answers are the models of the OpenAPI document (`/api/openapi.json`); a test compares each call with that document
of a running node. Calls block: in a program with an event loop, make them in a thread (`asyncio.to_thread`).
Amounts are decimal strings in smallest units. Every call raises `ConnectorError`s: `EnvironmentFault` (the node does
not answer, or cannot do it now), `KeyRefusedError`, `UnknownNameError`, or `OperatorError` (it is not valid).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel, SecretStr

from connector.base.clock import SystemClock
from connector.base.errors import EnvironmentFault
from connector.base.http import Transport
from connector.tools.client import NodeClient
from connector.web import models

T = TypeVar("T", bound=BaseModel)

AUDIT_LOOK_SECONDS: Final = 0.2


class Operation(NamedTuple):
    """One operation of the API."""

    method: str
    path: str
    """As in the OpenAPI document, with `{peer_id}`."""
    answer: type[BaseModel] | None
    """None: it has no body."""
    query: tuple[str, ...] = ()
    """Parameters that are sent."""


_PAGE: Final = ("cursor", "limit")
_FILTERS: Final = ("type", "peer", "since", "until", "text")
OPERATIONS: Final[dict[str, Operation]] = {
    "status": Operation("GET", "/api/status", models.Status),
    "peers": Operation("GET", "/api/peers", models.Peers),
    "routes": Operation("GET", "/api/routes", models.Routes, _PAGE),
    "accounts": Operation("GET", "/api/accounts", models.Accounts),
    "keys": Operation("GET", "/api/keys", models.Keys),
    "log": Operation("GET", "/api/v1/log", models.LogPage, (*_FILTERS, *_PAGE, "after")),
    "sinks": Operation("GET", "/api/v1/sinks", models.Sinks),
    "begin_audit": Operation("POST", "/admin/audit", models.Audit),
    "audit": Operation("GET", "/admin/audit", models.Audit),
    "peer": Operation("GET", "/admin/peers/{peer_id}", models.AdminPeer),
    "add_peer": Operation("POST", "/admin/peers", models.AdminPeer),
    "edit_peer": Operation("PATCH", "/admin/peers/{peer_id}", models.AdminPeer),
    "set_limits": Operation("PUT", "/admin/peers/{peer_id}/limits", models.AdminPeer),
    "rotate_secret": Operation("POST", "/admin/peers/{peer_id}/rotate-secret", models.AdminPeer),
    "reconnect": Operation("POST", "/admin/peers/{peer_id}/reconnect", None),
    "remove_peer": Operation("DELETE", "/admin/peers/{peer_id}", None, ("force",)),
    "add_route": Operation("POST", "/admin/routes", models.AdminRoute),
    "remove_route": Operation("DELETE", "/admin/routes", None, ("prefix", "nextHop")),
}
"""What is called, by the name of the method."""


class Client:
    """Of one node."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        verify: bool = True,
        transport: Transport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: of the node, such as http://127.0.0.1:8080.
            key: READ_API_KEY for what reads, ADMIN_API_KEY for what changes something.
            verify: whether the certificate of an https node is checked.
            transport: replaces the network in tests.

        Raises:
            OperatorError: the URL is none.
        """
        self._client: Final = NodeClient(url, key, verify=verify, transport=transport)

    # --- what a node shows

    def status(self) -> models.Status:
        """The node at a glance."""
        return self._answer("status", models.Status)

    def peers(self) -> list[models.PeerItem]:
        """Peers and their links."""
        return self._answer("peers", models.Peers).items

    def sinks(self) -> list[models.SinkItem]:
        """Where events are delivered, and how that is going."""
        return self._answer("sinks", models.Sinks).items

    def routes(self) -> Iterator[models.RouteInUse]:
        """The routes in use, by prefix; page after page."""
        cursor: str | None = ""
        while cursor is not None:
            page = self._answer("routes", models.Routes, query={"cursor": cursor, "limit": 1000})
            yield from page.items
            cursor = page.next

    def accounts(self) -> list[models.AccountItem]:
        """How the node stands with each peer."""
        return self._answer("accounts", models.Accounts).items

    def keys(self) -> models.Keys:
        """What identifies the node and secures its links; never a secret."""
        return self._answer("keys", models.Keys)

    def log(
        self,
        *,
        types: Sequence[str] = (),
        peer: str | None = None,
        since: str | None = None,
        until: str | None = None,
        text: str = "",
        cursor: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> models.LogPage:
        """A page of the log, newest first; with `after`, what came after that number, oldest first.

        Args:
            types: groups (`operator`, `link`, ...) or types of events; none: all.
            peer: only about this one.
            since: ISO 8601, or milliseconds since 1970.
            until: the same.
            text: only events with it; not with `after`.
            cursor: `next` of the page before.
            after: a `last_seq`.
            limit: 1 to 1000.
        """
        given = {
            "type": ",".join(types), "peer": peer, "since": since, "until": until, "text": text,
            "cursor": cursor, "after": after, "limit": limit,
        }  # fmt: skip
        return self._answer("log", models.LogPage, query=given)

    def log_events(
        self,
        *,
        types: Sequence[str] = (),
        peer: str | None = None,
        since: str | None = None,
        until: str | None = None,
        text: str = "",
    ) -> Iterator[models.LogEvent]:
        """All events of the log that fit, newest first; page after page."""
        cursor: str | None = None
        while True:
            page = self.log(
                types=types, peer=peer, since=since, until=until, text=text, cursor=cursor,
                limit=1000,
            )  # fmt: skip
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    # --- what an operator does

    def audit(self, *, wait_s: float = 3600.0) -> models.AuditReport:
        """Have the node check its books, and wait for the report.

        Raises:
            EnvironmentFault: it could not, or it takes longer than `wait_s`.
        """
        clock = SystemClock()
        ends_s = clock.monotonic_s() + wait_s
        seen = self._answer("begin_audit", models.Audit)
        while seen.state == "running":
            if clock.monotonic_s() >= ends_s:
                raise EnvironmentFault("the audit is not done yet")
            time.sleep(AUDIT_LOOK_SECONDS)
            seen = self._answer("audit", models.Audit)
        if seen.report is None:
            raise EnvironmentFault(seen.error or "there is no report: the node was restarted")
        return seen.report

    def peer(self, peer_id: str) -> models.AdminPeer:
        """The settings of a peer that are in effect."""
        return self._answer("peer", models.AdminPeer, peer_id=peer_id)

    def add_peer(self, peer_id: str, secret: str | SecretStr, **settings: Any) -> models.AdminPeer:
        """Add a peer; `settings` by their names in YAML (docs/configuration.md)."""
        body = {"id": peer_id, "secret": _text(secret), **settings}
        return self._answer("add_peer", models.AdminPeer, body=body)

    def edit_peer(self, peer_id: str, **settings: Any) -> models.AdminPeer:
        """Change settings of a peer, by their names in YAML; None is the default."""
        return self._answer("edit_peer", models.AdminPeer, peer_id=peer_id, body=settings)

    def set_limits(self, peer_id: str, **limits: str | int | None) -> models.AdminPeer:
        """Change limits of a peer, such as `creditLimit`; None is the default."""
        return self._answer("set_limits", models.AdminPeer, peer_id=peer_id, body=limits)

    def rotate_secret(
        self, peer_id: str, secret: str | SecretStr, *, grace_s: int = 0
    ) -> models.AdminPeer:
        """Give a peer another secret; the present one serves beside it for `grace_s` seconds."""
        body = {"secret": _text(secret), "graceSeconds": grace_s}
        return self._answer("rotate_secret", models.AdminPeer, peer_id=peer_id, body=body)

    def reconnect(self, peer_id: str) -> None:
        """Close the link of a peer, and dial it at once where it has a URL."""
        self._call("reconnect", peer_id=peer_id)

    def remove_peer(self, peer_id: str, *, force: bool = False) -> models.RemovedPeer | None:
        """Drain a peer and remove it; None: no packet was left without an answer."""
        said = self._call(
            "remove_peer", peer_id=peer_id, query={"force": "true" if force else None}
        )
        return models.RemovedPeer.model_validate(said) if said else None

    def add_route(self, prefix: str, next_hop: str) -> models.AdminRoute:
        """Add a static route."""
        body = {"prefix": prefix, "nextHop": next_hop}
        return self._answer("add_route", models.AdminRoute, body=body)

    def remove_route(self, prefix: str, next_hop: str) -> None:
        """Remove a static route."""
        # The default route has an empty prefix: it is sent all the same.
        self._call("remove_route", query={"prefix": prefix, "nextHop": next_hop}, keep_empty=True)

    # --- how

    def _answer(self, name: str, kind: type[T], **request: Any) -> T:
        assert OPERATIONS[name].answer is kind, name
        return kind.model_validate(self._call(name, **request))

    def _call(
        self,
        name: str,
        *,
        peer_id: str = "",
        query: Mapping[str, str | int | None] | None = None,
        body: dict[str, Any] | None = None,
        keep_empty: bool = False,
    ) -> dict[str, Any]:
        operation = OPERATIONS[name]
        given = {
            key: value
            for key, value in (query or {}).items()
            if value is not None and (value != "" or keep_empty)
        }
        assert given.keys() <= set(operation.query), (name, given.keys())
        path = operation.path.replace("{peer_id}", quote(peer_id, safe=""))
        if given:
            path += f"?{urlencode(given)}"
        return self._client.admin(operation.method, path, body)


def _text(secret: str | SecretStr) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret
