"""Status, accounts and links of several nodes: this one, and those that `EXPLORER_NODES` names.

The page may only request data from its own node (CSP), so the node queries the others for their
status, accounts and peers, with a deadline and a size limit, at most once a second for all viewers. Their
answers are untrusted: one that is not the answer of a connector is shown as that node's fault. Of a node
that does not answer, what it said last is shown, with the time: one answer for each configured URL is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol, TypeVar

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import HttpAnswerError, HttpTimeoutError, HttpUnreachableError
from connector.base.http import HttpAnswer, HttpClient, Transport, check_json, off_loop
from connector.telemetry.events import iso
from connector.web import bounds, models

_WRONG_KEY: Final = " (its key in EXPLORER_NODE_KEYS, or EXPLORER_NODES_KEY, is missing or wrong)"

T = TypeVar("T")


class OwnView(Protocol):
    """The views of this node that are used here."""

    def status(self) -> dict[str, Any]:
        """The node at a glance."""

    def accounts_view(self) -> list[dict[str, Any]]:
        """One item a peer account."""

    def peers_view(self) -> list[dict[str, Any]]:
        """One item a peer."""


class Neighbourhood:
    """Queries the other nodes."""

    def __init__(
        self,
        *,
        own: OwnView,
        urls: Sequence[str],
        key: str | None,
        keys: Mapping[str, str] | None = None,
        clock: Clock,
        transport: Transport | None = None,
    ) -> None:
        """Nothing is queried yet.

        Args:
            own: this node.
            urls: the base URLs of the nodes; this node may be among them.
            key: shown to those that have none of their own; None: they are asked without.
            keys: the key of a node, by its URL without a slash at the end.
            clock: for the age of an answer.
            transport: replaces the network in tests.
        """
        self._own = own
        self._urls = [url.rstrip("/") for url in dict.fromkeys(urls)]
        self._key = key
        self._keys = {} if keys is None else keys
        self._clock = clock
        self._transport = transport
        self._answer: list[dict[str, Any]] = []
        self._last: dict[str, dict[str, Any]] = {}
        """The last good answer of each URL."""
        self._asked_s: float | None = None
        self._asking = asyncio.Lock()

    @property
    def configured(self) -> bool:
        """Whether there are other nodes."""
        return bool(self._urls)

    def last_name(self, url: str) -> tuple[str | None, str | None]:
        """Id and address of the node at a URL, as it has said last; None: it has said nothing yet."""
        last = self._last.get(url, {})
        return last.get("nodeId"), last.get("ilpAddress")

    async def nodes(self) -> list[dict[str, Any]]:
        """This node first, then the others in the configured order."""
        # Concurrent callers share one query.
        async with self._asking:
            now_s = self._clock.monotonic_s()
            if self._asked_s is None or now_s - self._asked_s >= bounds.NETWORK_ANSWER_SECONDS:
                self._answer = await self._ask_all()
                self._asked_s = self._clock.monotonic_s()
        own = self._own_node()
        return [own, *(one for one in self._answer if one["nodeId"] != own["nodeId"])]

    def _own_node(self) -> dict[str, Any]:
        status = self._own.status()
        links = {one["peerId"]: one for one in self._own.peers_view()}
        return {
            "url": "",
            "error": "",
            "at": iso(self._clock.now_ms()),
            "nodeId": status["nodeId"],
            "ilpAddress": status["ilpAddress"],
            "status": status["status"],
            "accountingState": status["accounting"]["state"],
            "accounts": [
                {name: item.get(name, default) for name, default in _ACCOUNT_FIELDS.items()}
                | _link_of(links.get(item["peerId"], {}))
                for item in self._own.accounts_view()
            ],
        }

    async def each(self, ask: Callable[[Ask], Awaitable[T]]) -> list[T]:
        """What `ask` makes of each of the other nodes, in the configured order; it does not raise."""
        async with HttpClient(
            seconds_max=bounds.NETWORK_SECONDS_MAX,
            answer_bytes_max=bounds.NETWORK_ANSWER_BYTES_MAX,
            connections_max=bounds.NETWORK_REQUESTS_AT_ONCE_MAX,
            headers={"accept": "application/json"},
            transport=self._transport,
        ) as client:
            places = asyncio.Semaphore(bounds.NETWORK_REQUESTS_AT_ONCE_MAX)
            async with asyncio.TaskGroup() as group:

                async def one(url: str) -> T:
                    headers = self._headers_for(url)
                    return await ask(Ask(client, places, url, headers))

                tasks = [group.create_task(one(url)) for url in self._urls]
        return [task.result() for task in tasks]

    async def _ask_all(self) -> list[dict[str, Any]]:
        return [self._with_last(answer) for answer in await self.each(_ask)]

    def _with_last(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer, or in place of none what the node said last."""
        url, error = answer["url"], answer["error"]
        if not error:
            self._last[url] = answer | {"at": iso(self._clock.now_ms())}
        last = self._last.get(url)
        if last is None:
            return answer
        return (
            last if not error else last | {"error": error, "status": None, "accountingState": None}
        )

    def _headers_for(self, url: str) -> dict[str, str]:
        """The key that the node at `url` is shown."""
        key = self._keys.get(url, self._key)
        return {} if key is None else {"authorization": f"Bearer {key}"}


class SilentError(Exception):
    """A node has not told what it was asked, and why."""


@dataclass(slots=True, frozen=True)
class Ask:
    """Requests to one node."""

    client: HttpClient
    places: asyncio.Semaphore
    url: str
    headers: Mapping[str, str]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A bounded time for all requests in it.

        Raises:
            SilentError: it was over, or the node cannot be reached, or its answer is not that of a connector.
        """
        try:
            async with self.places, asyncio.timeout(bounds.NETWORK_SECONDS_MAX):
                yield
        except (TimeoutError, HttpTimeoutError):
            raise SilentError(f"no answer within {bounds.NETWORK_SECONDS_MAX:g} s") from None
        except HttpUnreachableError as error:
            raise SilentError(f"cannot be reached: {error}") from None
        except (HttpAnswerError, ValidationError):
            raise SilentError("its answer is not that of a connector") from None

    async def get(self, path: str) -> HttpAnswer:
        """An answer of any status."""
        return await self.client.ask("GET", self.url + path, headers=self.headers)

    async def good(self, path: str) -> HttpAnswer:
        """An answer with status 200.

        Raises:
            SilentError: it is another one.
        """
        answer = await self.get(path)
        if answer.status == 200:
            return answer
        hint = _WRONG_KEY if answer.status in (401, 403) else ""
        raise SilentError(f"it answered {answer.status}{hint}")


async def _ask(node: Ask) -> dict[str, Any]:
    """What a node says of itself, or why it says nothing; no answer makes this raise."""
    try:
        async with node.turn():
            status = await node.good("/api/status")
            answer = await node.good("/api/accounts")
            told = await off_loop(_read_status, status.body)
            shown = await off_loop(_read_accounts, answer.body)
            peers = await node.get("/api/peers")
            links = await off_loop(_read_links, peers.body) if peers.status == 200 else {}
    except SilentError as silent:
        return _silent(node.url, str(silent))
    return {
        "url": node.url,
        "error": "",
        "at": None,
        "nodeId": told.node_id,
        "ilpAddress": told.ilp_address,
        "status": told.status,
        "accountingState": told.accounting.state,
        "accounts": [one | _link_of(links.get(one["peerId"], {})) for one in shown],
    }


# --- valid answers of another node; anything else is shown as its fault

Word = Annotated[str, Field(max_length=100)]
Figure = Annotated[str, Field(pattern=r"^-?[0-9]{1,40}$")]
Count = Annotated[int, Field(ge=0, le=1 << 53)]


class Told(BaseModel):
    """Base of the answers: fields that are not shown are ignored."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel)


class _Accounting(Told):
    state: Word = ""


class _Status(Told):
    node_id: Word
    ilp_address: Annotated[str, Field(max_length=limits.ADDRESS_CHARACTERS_MAX)] = ""
    status: Word = ""
    accounting: _Accounting = _Accounting()


class _Account(Told):
    peer_id: Word
    asset_code: Word
    asset_scale: Annotated[int, Field(ge=0, le=limits.ASSET_SCALE_DIGITS_MAX)]
    debit_balance: Figure
    credit_balance: Figure
    net_balance: Figure
    pending_debits: Figure
    pending_credits: Figure
    credit_limit: Figure
    available_credit: Figure
    settlement_threshold: Figure | None
    settlement_state: Word
    settlements_waiting: Count = 0
    settlements_waiting_amount: Figure = "0"


class _Accounts(Told):
    items: list[_Account]


class _Peer(Told):
    """What is shown of a link; an older node may not say all of it."""

    peer_id: Word
    connected: bool | None = None
    enabled: bool | None = None
    offline_expected: bool | None = None
    packets_in: Count | None = None
    packets_out: Count | None = None


class _Peers(Told):
    items: list[_Peer]


_ACCOUNT_FIELDS: Final = {
    to_camel(name): None if field.is_required() else field.default
    for name, field in _Account.model_fields.items()
}
_LINK_FIELDS: Final = tuple(to_camel(name) for name in _Peer.model_fields if name != "peer_id")


def _link_of(peer: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the link beside an account; None: nothing."""
    return {name: peer.get(name) for name in _LINK_FIELDS}


def _read_status(octets: bytes) -> _Status:
    check_json(octets)
    return _Status.model_validate_json(octets)


def _read_accounts(octets: bytes) -> list[dict[str, Any]]:
    check_json(octets)
    return [one.model_dump(by_alias=True) for one in _Accounts.model_validate_json(octets).items]


def _read_links(octets: bytes) -> dict[str, dict[str, Any]]:
    check_json(octets)
    found = _Peers.model_validate_json(octets).items
    return {one.peer_id: one.model_dump(by_alias=True) for one in found}


def _silent(url: str, reason: str) -> dict[str, Any]:
    return {
        "url": url,
        "error": reason,
        "at": None,
        "nodeId": None,
        "ilpAddress": None,
        "status": None,
        "accountingState": None,
        "accounts": [],
    }


def network_router(neighbourhood: Neighbourhood) -> APIRouter:
    """`/api/network`."""
    router = APIRouter(tags=["read"])

    @router.get(
        "/api/network", response_model=None, responses={200: {"model": models.NetworkShown}}
    )
    async def network() -> Response:
        """This node and those of EXPLORER_NODES: status, accounts and links of each, or why not."""
        nodes = await neighbourhood.nodes()
        # Encoded directly: FastAPI would first copy each of perhaps 100,000 values in Python.
        return JSONResponse({"configured": neighbourhood.configured, "nodes": nodes})

    return router
