"""Fuzz targets: HTTP requests of any client to the node, and answers to requests of the node."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import MutableMapping
from functools import cache
from typing import Any

import httpx
from hypothesis import strategies as st

from connector.base.clock import SystemClock
from connector.base.errors import EngineError, SettlementError, SettlementUnknownError
from connector.base.http import HttpClient
from connector.base.randomness import SystemRandomness
from connector.ilp import packet as ilp
from connector.ilp import settle
from connector.ilp.packet import Code, Fulfill, Reject
from connector.node.apply import LeftBehind
from connector.peering.model import Asset
from connector.settings.model import PeerSettings, RouteSettings
from connector.settlement.engine import HttpEngine
from connector.settlement.model import (
    Direction,
    Origin,
    Payer,
    Phase,
    Quantity,
    Settlement,
    convert,
    read_quantity,
    to_engine,
)
from connector.switch.bounds import RATE_MAX
from connector.switch.delivery import read_answer
from connector.switch.rates import PricesError, read_quote
from connector.telemetry.bus import EventBus
from connector.web.access import Access
from connector.web.admin import admin_router
from connector.web.engine_access import EngineAccess
from connector.web.feed import feed_router
from connector.web.network import Neighbourhood
from connector.web.proxies import Proxies, ProxyHeaders
from connector.web.settlement import engine_router, settlements_router
from tests.fuzz.configuration import texts
from tests.fuzz.target import Target, json_octets, json_values, near_object
from tests.support import strategies as some
from tests.support.daemons import EventLog
from tests.unit.web.test_app import MadeUpNode, app_of

KEY = "key-of-the-admin"
READ_KEY = "key-of-the-reader"
USD = Asset("USD", 9)


class MadeUpSettlements:
    """Takes every settlement that is well-formed."""

    async def receive(self, peer_id: str, key: str, quantity: Quantity) -> Settlement:
        return self._one(peer_id, key, quantity)

    async def record(
        self, peer_id: str, direction: Direction, key: str, quantity: Quantity
    ) -> Settlement:
        return self._one(peer_id, key, quantity)

    async def pay(self, peer_id: str, key: str, amount: int | None) -> Settlement:
        return self._one(peer_id, key, Quantity(amount or 0, USD.scale))

    async def confirm(self, peer_id: str, settlement_id: str) -> Settlement:
        raise SettlementUnknownError("no such settlement")

    async def cancel(self, peer_id: str, settlement_id: str, *, force: bool) -> Settlement:
        raise SettlementUnknownError("no such settlement")

    async def relay(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        return settle.answer(octets)

    async def view(
        self, peer_id: str | None, count: int, phase: Phase | None
    ) -> list[dict[str, Any]]:
        assert count >= 1
        return []

    def as_json(self, one: Settlement) -> dict[str, Any]:
        return {"id": one.settlement_id, "amount": str(one.amount)}

    def scale_of(self, peer_id: str) -> int:
        return USD.scale

    @staticmethod
    def _one(peer_id: str, key: str, quantity: Quantity) -> Settlement:
        amount, _ = convert(quantity, Quantity(0, 0), USD.scale)
        return Settlement(
            id=1 << 8, booking_id=1 << 8, peer_id=peer_id, asset=USD, direction=Direction.INCOMING,
            origin=Origin.ENGINE, key=key, amount=amount, quantity=quantity, payer=Payer.NOBODY,
            phase=Phase.PENDING, created_ms=0, changed_ms=0,
        )  # fmt: skip


class MadeUpAdmin(MadeUpNode):
    """Takes every change that is well-formed."""

    def peer_view(self, peer: PeerSettings) -> dict[str, Any]:
        return peer.model_dump(mode="json", by_alias=True, exclude={"secret"})

    def peer(self, peer_id: str) -> PeerSettings:
        return PeerSettings.model_validate({"id": peer_id, "secret": "s"})

    def routes_view(self, *_: Any) -> Any:
        return []

    async def create_peer(self, wanted: PeerSettings, shown: str | None = None) -> bool:
        return True

    async def put_peer(
        self, peer_id: str, fields: dict[str, Any], shown: str | None = None
    ) -> bool:
        return True

    async def set_limits(
        self, peer_id: str, limits: dict[str, Any], shown: str | None = None
    ) -> bool:
        return True

    async def delete_peer(
        self, peer_id: str, *, force: bool = False, shown: str | None = None
    ) -> LeftBehind:
        return LeftBehind(1, 2) if force else LeftBehind(0, 0)

    async def add_route(self, route: RouteSettings, shown: str | None = None) -> bool:
        return True

    async def delete_route(self, route: RouteSettings, shown: str | None = None) -> bool:
        return True

    def note(self, action: str, target: str, outcome: str = "ok") -> None:
        pass

    async def send(self, destination: str, amount: int, **more: Any) -> Reject:
        ilp.encode(
            ilp.Prepare(
                amount=amount,
                expires_at_ms=1000,
                condition=more["condition"] or bytes(32),
                destination=destination,
                data=more["data"],
            )
        )
        return ilp.reject(Code.F02_UNREACHABLE, "g.hub", "no route")


class _Events:
    """A store without events."""

    items: tuple[str, ...] = ()
    next = None

    async def events(self, query: Any) -> _Events:
        assert 1 <= query.count <= 1000
        return self

    async def packet(self, _: str) -> list[str]:
        return []

    async def last_asset(self, _: str) -> Asset:
        return USD

    async def history(
        self, peer: str, asset: Asset, from_ms: int, to_ms: int, points: int
    ) -> tuple[int, list[Any]]:
        assert from_ms <= to_ms
        return 1000, []


@cache
def _node() -> tuple[ProxyHeaders, EventLog, Access]:
    log, clock = EventLog(), SystemClock()
    admin, events, settlements = MadeUpAdmin(), _Events(), MadeUpSettlements()
    engines = EngineAccess(token_of=lambda _: "of-engines", required=True, clock=clock, log=log)
    made_up: Any = events
    feed = feed_router(
        bus=EventBus(node_id="made-up", clock=clock), store=made_up, snapshot=dict, asset_of=lambda _: None, past=None,
        now_ms=clock.now_ms,
    )  # fmt: skip
    shown: Any = admin
    routers = [
        feed,
        admin_router(shown, shown, shown),
        engine_router(settlements),
        settlements_router(settlements, lambda: "made-up-key", lambda *_: None),
    ]
    guard = app_of(
        MadeUpNode(), key=KEY, read_key=READ_KEY, log=log, engines=engines, routers=routers
    )
    # Every request comes through a proxy that is trusted: its headers are parsed, too.
    app = ProxyHeaders(guard, Proxies(["127.0.0.1", "10.0.0.0/8"]))
    return app, log, Access(
        key=KEY, required=True, node_id="made-up", clock=clock, log=log,
        random_octets=SystemRandomness().octets,
    )  # fmt: skip


_names = st.sampled_from(
    ("host", "origin", "cookie", "authorization", "content-length", "content-type",
     "transfer-encoding", "idempotency-key", "sec-fetch-site", "accept", "x-forwarded-for",
     "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")
)  # fmt: skip
_cookies = st.lists(
    st.sampled_from(
        ("connector-made-up", "=", ";", " ", '"', "1", ".", "9" * 16, "9" * 20, "\\", "\\400", "$",
         "a", ",", "Path", "HttpOnly", "²", "\x00", "\xff", "ab" * 32)
    ),
    max_size=12,
).map("".join)  # fmt: skip
_header_values = (
    _cookies
    | st.text(st.characters(max_codepoint=255), max_size=12)
    | st.sampled_from(
        (f"Bearer {KEY}", "Basic b2Y6b2YtZW5naW5lcw==", "Basic é", "Bearer of-engines",
         "http://[", "http://h:99999", "null", "127.0.0.1:8080", "[::1]", "h:99999", "application/json",
         "application/octet-stream", "application/x-www-form-urlencoded; charset=", "5", "-1", "1e9",
         f"Bearer {READ_KEY}", "https", "/admin", "/api/../x", "203.0.113.9, 10.0.0.1", "[::1]:5, unknown",
         "1.2.3.4:\xb2", "::ffff:10.0.0.1%1")
    )
)  # fmt: skip
_paths = st.sampled_from(
    ("/login", "/logout", "/health", "/", "/api/status", "/api/events", "/api/packets/" + "0" * 32,
     "/api/accounts/bob/history", "/api/routes", "/api/routes/explain", "/admin/peers",
     "/admin/peers/bob", "/admin/peers/bob/limits", "/admin/routes", "/admin/packets",
     "/admin/accounts/bob/settlements", "/admin/accounts/bob/settlements/x/cancel",
     "/settlement/accounts/bob/settlements", "/settlement/accounts/bob/messages", "/ws")
) | st.text(st.characters(max_codepoint=255), max_size=10).map("/".__add__)  # fmt: skip
_times = st.sampled_from(
    ("2026-01-31T12:00:00Z", "0001-01-01", "9999-12-31T23:59:59+23:59", "2026-W01", "1", "9" * 16)
)
_queries = st.lists(
    st.tuples(
        st.sampled_from(
            ("type", "peer", "packet", "from", "to", "cursor", "after", "limit", "points", "stored",
             "prefix", "nextHop", "destination", "since", "x")
        ),
        texts | _times,
    ),
    max_size=4,
).map(
    lambda pairs: str(
        httpx.QueryParams(
            [(name, value.encode("utf-8", "replace").decode()) for name, value in pairs]
        )
    ).encode()
) | st.binary(max_size=20)  # fmt: skip
_amounts = st.integers(-5, 2**65) | st.text("0123456789", max_size=110) | st.booleans()
_bodies = (
    json_octets(
        near_object({"amount": _amounts, "scale": st.integers(-1, 300)})
        | near_object(
            {
                "direction": st.sampled_from(("incoming", "outgoing")),
                "amount": _amounts,
                "scale": st.none() | st.integers(0, 255),
                "execute": st.booleans(),
            }
        )
        | near_object(
            {
                "id": st.just("bob"),
                "secret": st.just("s"),
                "creditLimit": _amounts,
                "rateLimit": _amounts,
                "routes": st.lists(st.just("g.bob")),
                "relation": st.just("child"),
            }
        )
        | near_object(
            {
                "destination": st.just("g.bob"),
                "amount": _amounts,
                "data": st.sampled_from(("", "AAAA", "é", "A")),
                "condition": st.just("ab" * 32),
                "expirySeconds": st.floats() | st.just(1),
            }
        )
        | near_object({"prefix": st.sampled_from(("", "g.a")), "nextHop": st.just("bob")})
        | near_object({"key": st.just(KEY)})
        | json_values
    )
    | st.just(b"key=" + KEY.encode())
    | st.binary(max_size=30)
)
_sane_headers = st.sampled_from(
    (
        {},
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
        {
            "authorization": "Bearer of-engines",
            "content-type": "application/json",
            "idempotency-key": "k",
        },
        {"authorization": "Bearer of-engines", "content-type": "application/octet-stream"},
    )
)
requests = st.tuples(
    st.sampled_from(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "X")),
    _paths,
    _queries,
    _sane_headers,
    st.dictionaries(_names, _header_values, max_size=3),
    _bodies,
)
Request = tuple[str, str, bytes, dict[str, str], dict[str, str], bytes]


async def _status_of(request: Request) -> int:
    method, path, query, sane, odd, body = request
    app, log, _ = _node()
    log.events.clear()
    headers = {
        "host": "127.0.0.1:8080", "content-length": str(len(body)), **sane, **odd
    }  # fmt: skip
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode("utf-8"), "query_string": query,
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080),
        "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers.items()],
    }  # fmt: skip
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    status = 0

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    failures = [fields for level, event, fields in log.events if level == "error"]
    assert not failures, failures
    return status


def check_request(request: Request) -> None:
    """An answer to any request, and never a failure of ours."""
    status = asyncio.run(_status_of(request))
    assert status < 500, status


def check_cookie(header: str) -> None:
    """A verdict on any header; none of these was signed."""
    _, _, access = _node()
    assert not access.has_cookie(header)
    access.by_header(header, "10.0.0.1")


# --- what others answer

_answers = st.tuples(
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(("content-type", "content-encoding", "location", "content-length")),
        st.sampled_from(("application/json", "gzip", "deflate", "br", "identity", "x", "5")),
        max_size=2,
    ),
)


def _transport(status: int, headers: dict[str, str], body: bytes) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    return httpx.MockTransport(handle)


def check_engine(value: tuple[tuple[int, dict[str, str]], bytes, int, str]) -> None:
    """Whatever a settlement engine answers, the order is taken or there is an EngineError."""
    (status, headers), body, amount, peer_id = value

    async def ask() -> None:
        async with HttpClient(
            seconds_max=5,
            answer_bytes_max=65_536,
            connections_max=1,
            transport=_transport(status, headers, body),
        ) as client:
            engine = HttpEngine("http://127.0.0.1:3010", client=client, token="t")
            with contextlib.suppress(EngineError):
                await engine.settle(peer_id, "key", Quantity(amount, 9))
            with contextlib.suppress(EngineError):
                reply = await engine.message(peer_id, body)
                assert reply.body == body or headers
            with contextlib.suppress(EngineError):
                await engine.remove_account(peer_id)

    asyncio.run(ask())


def check_settle_message(value: tuple[bytes, str]) -> None:
    """`peer.settle` (RFC 38): any message comes through as a packet and back."""
    message, text = value
    asked = ilp.decode_prepare(ilp.encode(settle.request(message, 1000)))
    assert (asked.data, asked.amount, asked.destination) == (message, 0, settle.DESTINATION)
    for said in (settle.answer(message), settle.refusal(Code.F00_BAD_REQUEST, text, message)):
        got = ilp.decode(ilp.encode(said))
        assert isinstance(got, Fulfill | Reject)
        assert got.data == message


def check_quantity(value: tuple[Any, Any, int, int]) -> None:
    """A quantity of an engine; converting it neither makes nor loses anything."""
    amount, scale, own_scale, kept_amount = value
    try:
        quantity = read_quantity(amount, scale)
    except SettlementError:
        return
    kept = Quantity(kept_amount, 255)
    units, rest = convert(quantity, kept, own_scale)
    assert quantity.amount * 10 ** (255 - quantity.scale) + kept.amount == units * 10 ** (
        255 - own_scale
    ) + rest.amount * 10 ** (255 - rest.scale)
    taken, told = to_engine(units, own_scale, quantity.scale)
    assert taken <= units
    assert taken * 10**told.scale == told.amount * 10**own_scale


def check_delivery(body: Any) -> None:
    """What a local receiver answers: a packet that can be sent, or a ValueError."""
    with contextlib.suppress(ValueError):
        ilp.encode(read_answer(body, "g.hub"))


class _Own:
    def status(self) -> dict[str, Any]:
        return {
            "nodeId": "own",
            "ilpAddress": "g.own",
            "status": "healthy",
            "accounting": {"state": "available"},
        }

    def accounts_view(self) -> list[dict[str, Any]]:
        return []

    def peers_view(self) -> list[dict[str, Any]]:
        return []


def check_network(value: tuple[tuple[int, dict[str, str]], bytes]) -> None:
    """Whatever another node's page answers, the view of the network is made."""
    (_, headers), body = value

    async def ask() -> None:
        view = Neighbourhood(
            own=_Own(),
            urls=["http://127.0.0.1:9080"],
            key=None,
            clock=SystemClock(),
            transport=_transport(200, headers, body),
        )
        for one in await view.nodes():
            json.dumps(one)

    asyncio.run(ask())


_node_answers = json_octets(
    near_object(
        {
            "nodeId": st.text(max_size=5),
            "accounting": near_object({"state": st.just("available")}),
            "items": st.lists(
                near_object({"peerId": st.just("a"), "netBalance": st.just("1")}), max_size=2
            ),
        }
    )
)
_base64_texts = st.sampled_from(("", "AAAA", "A", "é", "=" * 4, "A" * 44, "A" * 43 + "="))


def check_prices(value: tuple[Any, bytes]) -> None:
    """An answer of a source of exchange rates: JSON of any kind, or any octets."""
    made, octets = value
    for one in (json.dumps(made).encode(), octets):
        with contextlib.suppress(PricesError):
            quote = read_quote(one)
            assert all(0 < price <= RATE_MAX for price in quote.by_code.values())
            assert quote.by_code.keys().isdisjoint(quote.refused)


_price_values = st.floats() | st.integers() | st.text("0123456789.eE+-/", max_size=50) | json_values

TARGETS = (
    Target(
        "rates-answer",
        st.tuples(
            near_object(
                {
                    "base": st.sampled_from(("USD", "", "U D")),
                    "rates": st.dictionaries(
                        st.sampled_from(("USD", "EUR", "XRP", " ")), _price_values
                    ),
                    "timestamp": _price_values,
                }
            )
            | json_values,
            st.binary(max_size=100),
        ),
        check_prices,
    ),
    Target("http-request", requests, check_request),
    Target("http-cookie", _cookies | st.text(max_size=20) | _header_values, check_cookie),
    Target(
        "settlement-engine-answer",
        st.tuples(_answers, st.binary(max_size=60), st.integers(0, 2**64), st.text(max_size=5)),
        check_engine,
    ),
    Target(
        "settlement-message",
        st.tuples(some.payloads, st.text(max_size=300)),
        check_settle_message,
    ),
    Target(
        "settlement-quantity",
        st.tuples(
            st.text("0123456789", max_size=101) | st.text(max_size=5) | json_values,
            st.integers(-1, 256) | json_values,
            st.integers(0, 255),
            st.integers(0, 10**20),
        ),
        check_quantity,
    ),
    Target(
        "local-delivery-answer",
        near_object(
            {
                "fulfillment": _base64_texts,
                "data": _base64_texts,
                "code": st.sampled_from(("F00", "T99", "f00", "F0", "\uff2600")),
                "message": st.text(max_size=300),
            }
        )
        | json_values,
        check_delivery,
    ),
    Target("network-answer", st.tuples(_answers, _node_answers), check_network),
)
