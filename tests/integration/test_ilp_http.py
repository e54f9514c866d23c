"""Whole nodes linked over HTTP (RFC 35): packets, books, crashes, and hostile or broken other sides."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from connector import Fulfill, PeerSettings, Prepare, Reject, Relation
from connector.base import limits
from connector.ilp.packet import decode, encode
from connector.ilp_http import bounds
from tests.support.admin import KEY, Operator
from tests.support.certificates import certificate
from tests.support.daemons import CLOCK, Daemon, RunningNodes, secret_of, until
from tests.support.outside_peer import Asked, OutsidePeer, Said, Serve, post
from tests.support.ports import free_port, free_ports

__all__ = ["certificate"]

PREIMAGE = b"p" * 32
FULFILL = encode(Fulfill(fulfillment=PREIMAGE))


class HttpPair(RunningNodes):
    """Two nodes, a and b, with nothing but HTTP between them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ports = dict(zip("ab", free_ports(2), strict=True))
        self._pairs.append(("a", "b"))

    def url(self, of: str, for_: str) -> str:
        return f"http://127.0.0.1:{self.ports[of]}/accounts/{for_}/ilp"

    def peer(self, at: str, other: str, **more: Any) -> PeerSettings:
        return PeerSettings(
            **{
                "id": other,
                "secret": secret_of(at, other),
                "http_url": self.url(other, at),
                "routes": [f"g.{other}"],
                **more,
            }
        )

    async def both(self, **more: Any) -> tuple[Daemon, Daemon]:
        """Start them; `more` are settings that each has for the other."""
        for at, other in ("ab", "ba"):
            await self.add(at, [self.peer(at, other, **more)], ilp_http_port=self.ports[at])
        a, b = self.daemons["a"], self.daemons["b"]
        await reached(a, "b")
        await reached(b, "a")
        return a, b


async def reached(daemon: Daemon, peer_id: str, times: int = 1) -> None:
    await daemon.log.seen("ilp_http_reached", peer_id=peer_id, times=times)


def packet(destination: str, amount: int = 7, *, lives_s: float = 20, data: bytes = b"") -> bytes:
    return encode(
        Prepare(
            amount=amount,
            expires_at_ms=CLOCK.now_ms() + round(lives_s * 1000),
            condition=hashlib.sha256(PREIMAGE).digest(),
            destination=destination,
            data=data,
        )
    )


def held(daemon: Daemon, peer_id: str) -> tuple[int, int, int]:
    books = daemon.connector.accounts.peers[peer_id]
    return books.net_balance, books.peer.debits_pending, books.peer.credits_pending


@contextlib.asynccontextmanager
async def with_outside(
    folder: Path, serve: Serve, **of_bob: Any
) -> AsyncIterator[tuple[RunningNodes, Daemon, OutsidePeer, str]]:
    """A node a, and bob: a program of another kind that the test serves. Also the node's URL for bob."""
    async with OutsidePeer(serve).running() as bob, RunningNodes(folder) as network:
        port = free_port()
        peer = PeerSettings(
            **{
                "id": "bob",
                "secret": "of-bob",
                "http_url": bob.url,
                "routes": ["g.bob"],
                "receive_routes": False,  # what bob is asked is the packets of a test only
                **of_bob,
            }
        )
        carol = PeerSettings(id="carol", secret=SecretStr("of-carol"))
        a = await network.add("a", [peer, carol], ilp_http_port=port)
        await reached(a, "bob")
        yield network, a, bob, f"http://127.0.0.1:{port}/accounts/bob/ilp"


# --- two of ours


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_packets_go_both_ways_and_the_books_match(tmp_path: Path, mode: str) -> None:
    async with HttpPair(tmp_path) as network:
        a, b = await network.both(http_mode=mode)
        for _ in range(3):
            assert isinstance(await a.connector.send("g.b", 100), Fulfill)
        assert isinstance(await b.connector.send("g.a", 50), Fulfill)
        assert a.net("b") == -250
        assert b.net("a") == 250
        (item,) = a.connector.views.peers_view()
        assert (item["connected"], item["direction"], item["resumable"]) == (True, "http", True)
        assert a.connector.views.health()["peersConnected"] == 1
        assert await network.stop() == []


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_many_packets_at_once_are_all_answered_and_booked(tmp_path: Path, mode: str) -> None:
    async with HttpPair(tmp_path) as network:
        a, b = await network.both(http_mode=mode)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(a.connector.send("g.b", 1)) for _ in range(500)]
        assert all(isinstance(task.result(), Fulfill) for task in tasks)
        assert b.net("a") == 500
        assert len(b.connector.core.http.listener) <= (
            bounds.REQUESTS_AT_ONCE_PER_PEER_MAX + bounds.REPLIES_AT_ONCE_PER_PEER_MAX + 1
        )
        assert await network.stop() == []


async def test_https_is_spoken_and_certificates_are_checked(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    async with HttpPair(tmp_path) as network:
        https = network.url("b", "a").replace("http://127.0.0.1", "https://localhost")
        await network.add(
            "b",
            [network.peer("b", "a")],
            ilp_http_port=network.ports["b"],
            ilp_http_tls_cert=cert,
            ilp_http_tls_key=key,
        )
        a = await network.add(
            "a", [network.peer("a", "b", http_url=https)], ilp_http_port=network.ports["a"]
        )
        await a.log.seen("ilp_http_not_reached", peer_id="b")
        (fields,) = (said for _, name, said in a.log.events if name == "ilp_http_not_reached")
        assert "certificate" in fields["reason"].lower()
        await a.stop()
        # As for an operator who trusts a certificate of his own.
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        trusting = await network.add(
            "a", [network.peer("a", "b", http_url=https)], ilp_http_port=network.ports["a"]
        )
        await reached(trusting, "b")
        assert isinstance(await trusting.connector.send("g.b", 5), Fulfill)
        assert network.daemons["b"].net("a") == 5


async def test_the_limits_of_a_peer_hold_over_http_as_well(tmp_path: Path) -> None:
    async with HttpPair(tmp_path) as network:
        a, b = await network.both(credit_limit=100, max_packet_amount=90)
        answer = await a.connector.send("g.b", 91)
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by) == ("F08", "g.b")
        assert isinstance(await a.connector.send("g.b", 90), Fulfill)
        answer = await a.connector.send("g.b", 11)
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by) == ("T04", "g.b")
        assert b.net("a") == 90
        assert await network.stop() == []


async def test_a_child_gets_its_address_over_http(tmp_path: Path) -> None:
    async with HttpPair(tmp_path) as network:
        await network.add(
            "a",
            [network.peer("a", "b", relation=Relation.CHILD, routes=[])],
            ilp_http_port=network.ports["a"],
        )
        b = await network.add(
            "b",
            [network.peer("b", "a", relation=Relation.PARENT)],
            ilp_http_port=network.ports["b"],
            ilp_address=None,
        )
        await b.log.seen("ilp_address_received", ilp_address="g.a.b")
        await reached(network.daemons["a"], "b")
        assert isinstance(await b.connector.send("g.a", 5), Fulfill)
        assert isinstance(await network.daemons["a"].connector.send("g.a.b", 5), Fulfill)


async def test_a_wrong_token_is_no_connection_and_throttled(tmp_path: Path) -> None:
    async with HttpPair(tmp_path) as network:
        await network.add(
            "a",
            [network.peer("a", "b", http_token=SecretStr("wrong"))],
            ilp_http_port=network.ports["a"],
        )
        a = network.daemons["a"]
        await network.add("b", [network.peer("b", "a")], ilp_http_port=network.ports["b"])
        b = network.daemons["b"]
        await a.log.seen(
            "ilp_http_not_reached", peer_id="b", reason="the token is refused (HTTP 401)"
        )
        answer = await a.connector.send("g.b", 5)
        assert isinstance(answer, Reject)
        assert answer.code == "T01"
        await b.log.seen("http_authentication_failed")
        assert not a.connector.views.peers_view()[0]["connected"]
        # The other direction has nothing to do with it.
        await reached(b, "a")
        assert isinstance(await b.connector.send("g.a", 5), Fulfill)


# --- beside BTP


async def test_btp_carries_while_it_is_there_and_http_otherwise(tmp_path: Path) -> None:
    async with HttpPair(tmp_path) as network:
        b = await network.add("b", [network.peer("b", "a")], ilp_http_port=network.ports["b"])
        a = await network.add(
            "a",
            [network.peer("a", "b", url=network.url_of("b"))],
            ilp_http_port=network.ports["a"],
        )
        await a.linked("b")
        await reached(a, "b")
        # Requests about routes may have gone by HTTP before there was a link.
        by_http = a.connector.core.http.get("b")
        assert by_http is not None
        await until(lambda: by_http._working == 0)
        before = dict(b.connector.core.http.listener.answered_ms)
        assert isinstance(await a.connector.send("g.b", 5), Fulfill)
        assert a.connector.views.peers_view()[0]["direction"] == "outbound"
        assert b.connector.core.http.listener.answered_ms == before, "it came by BTP"
        a.connector.links.dialler.stop()
        a.cut("b")
        await until(lambda: "b" not in a.connector.links.live)
        assert a.connector.views.peers_view()[0]["direction"] == "http"
        assert isinstance(await a.connector.send("g.b", 5), Fulfill)
        assert b.connector.core.http.listener.answered_ms.keys() == {"a"}
        assert b.net("a") == 10
        assert await network.stop() == []


async def test_a_packet_changes_over_to_http_when_its_link_is_lost(tmp_path: Path) -> None:
    async with HttpPair(tmp_path) as network:
        b = await network.add("b", [network.peer("b", "a")], ilp_http_port=network.ports["b"])
        a = await network.add(
            "a",
            [network.peer("a", "b", url=network.url_of("b"))],
            ilp_http_port=network.ports["a"],
        )
        await a.linked("b")
        await reached(a, "b")
        may_answer, asked = asyncio.Event(), asyncio.Event()

        async def slow(_prepare: Prepare) -> Fulfill:
            asked.set()
            await may_answer.wait()
            return Fulfill(fulfillment=PREIMAGE)

        b.connector.on_prepare(slow)
        sending = asyncio.ensure_future(a.connector.send("g.b", 5, fulfillment=PREIMAGE))
        await asked.wait()
        a.connector.links.dialler.stop()
        a.cut("b")
        await until(lambda: b.connector.core.peers["a"].counters.resent_in == 1)
        may_answer.set()
        assert isinstance(await sending, Fulfill)
        assert b.net("a") == 5
        assert await network.stop() == []


# --- a program of another kind receives


async def test_the_answer_of_another_program_is_taken(tmp_path: Path) -> None:
    async with with_outside(
        tmp_path,
        lambda _asked: Said(body=FULFILL),
        http_token=SecretStr("shown-to-bob"),
        http_content_type="application/ilp+octet-stream",
    ) as (_, a, bob, _url):
        answer = await a.connector.send("g.bob.shop", 7, fulfillment=PREIMAGE)
        assert isinstance(answer, Fulfill)
        (asked,) = bob.asked
        assert asked.headers["authorization"] == "Bearer shown-to-bob"
        assert asked.headers["content-type"] == "application/ilp+octet-stream"
        assert "ilp-packet-id" not in asked.headers
        prepare = decode(asked.body)
        assert isinstance(prepare, Prepare)
        assert (prepare.amount, prepare.destination) == (7, "g.bob.shop")
        assert a.net("bob") == -7
        assert a.connector.views.peers_view()[0]["resumable"] is False


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (Said(500), "T00"),
        (Said(503), "T00"),
        (Said(404, b"not here"), "T00"),
        (Said(301, headers={"location": "http://127.0.0.1:1/"}), "T00"),
        (Said(200, b""), "T00"),
        (Said(200, b"\x0c" + bytes(40)), "T00"),
        (Said(200, b"<html>hello</html>"), "T00"),
        (Said(200, FULFILL[:-1]), "T00"),
        (Said(200, bytes(bounds.BODY_BYTES_MAX + 1)), "T00"),
        (Said(200, b"x", {"content-encoding": "br"}), "T00"),
        (Said(200, encode(Fulfill(fulfillment=b"q" * 32))), "F05"),
        (Said(200, encode(Reject(code="F99", triggered_by="g.bob", message="no"))), "F99"),
    ],
)  # fmt: skip
async def test_a_broken_answer_is_a_reject_and_moves_nothing(
    tmp_path: Path, said: Said, code: str
) -> None:
    async with with_outside(tmp_path, lambda _asked: said) as (_, a, bob, _url):
        answer = await a.connector.send("g.bob", 7, fulfillment=PREIMAGE)
        assert isinstance(answer, Reject)
        assert answer.code == code
        assert held(a, "bob") == (0, 0, 0)
        assert len(bob.asked) == 1, "never sent again"


@pytest.mark.parametrize(
    "raw",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort", b"\x00\x01\x02 no HTTP\r\n\r\n"],
    ids=["closed", "cut short", "no HTTP"],
)
async def test_a_request_without_an_answer_is_unknown_until_the_deadline(
    tmp_path: Path, raw: bytes
) -> None:
    async with with_outside(tmp_path, lambda _asked: Said(raw=raw)) as (_, a, bob, _url):
        sending = asyncio.ensure_future(
            a.connector.send("g.bob", 7, fulfillment=PREIMAGE, expiry_s=2.5)
        )
        await a.log.seen("ilp_http_no_answer", peer_id="bob")
        assert held(a, "bob") == (0, 0, 7), "it may have been fulfilled"
        answer = await sending
        assert isinstance(answer, Reject)
        assert answer.code == "R00"
        assert held(a, "bob") == (0, 0, 0)
        assert len(bob.asked) == 1
        assert a.connector.core.http.counters()["ilp_http_unknown_outcomes"] == 1


async def test_settings_that_change_end_no_unknown_outcome_and_send_nothing_again(
    tmp_path: Path,
) -> None:
    """To `async`, then off HTTP altogether: the other program may have been paid for already."""

    async def never(_asked: Asked) -> Said:
        await asyncio.Event().wait()
        raise AssertionError

    async with OutsidePeer(never).running() as bob, RunningNodes(tmp_path) as network:
        port = free_port()
        a = await network.add(
            "a",
            [],
            ilp_http_port=port,
            ilp_http_url=f"http://127.0.0.1:{port}",
            admin_api_key=SecretStr(KEY),
        )
        operator = Operator(a)
        peer: dict[str, Any] = {"id": "bob", "secret": "of-bob", "routes": ["g.bob"]}
        by_http = {**peer, "httpUrl": bob.url, "relation": "child"}
        assert (await operator.ask("POST", "/admin/peers", by_http)).status_code == 201
        await reached(a, "bob")
        sending = asyncio.ensure_future(
            a.connector.send("g.bob", 7, fulfillment=PREIMAGE, expiry_s=4)
        )
        await until(lambda: len(bob.asked) == 1)
        changed = {**by_http, "httpMode": "async"}
        assert (await operator.ask("PUT", "/admin/peers/bob", changed)).status_code == 200
        await reached(a, "bob", times=2)
        await until(lambda: a.connector.core.http.counters()["ilp_http_unknown_outcomes"] == 1)
        assert held(a, "bob") == (0, 0, 7)
        without = {**peer, "relation": "child"}
        assert (await operator.ask("PUT", "/admin/peers/bob", without)).status_code == 200
        assert held(a, "bob") == (0, 0, 7)
        assert not sending.done()
        answer = await sending
        assert isinstance(answer, Reject)
        assert answer.code == "R00"
        assert held(a, "bob") == (0, 0, 0)
        assert len(bob.asked) == 1
        assert await network.stop() == []


async def test_a_peer_that_is_away_gets_nothing_and_is_found_again(tmp_path: Path) -> None:
    port = free_port()
    peer = PeerSettings(
        id="bob",
        secret=SecretStr("of-bob"),
        routes=["g.bob"],
        receive_routes=False,
        http_url=f"http://127.0.0.1:{port}/",
    )
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", [peer])
        await a.log.seen("ilp_http_not_reached", peer_id="bob")
        answer = await a.connector.send("g.bob", 7, fulfillment=PREIMAGE)
        assert isinstance(answer, Reject)
        assert answer.code == "T01"
        async with OutsidePeer(lambda _asked: Said(body=FULFILL)).running(port):
            await reached(a, "bob")
            assert isinstance(await a.connector.send("g.bob", 7, fulfillment=PREIMAGE), Fulfill)
        assert a.net("bob") == -7


async def test_a_slow_peer_delays_no_other_and_takes_bounded_connections(tmp_path: Path) -> None:
    may_answer = asyncio.Event()

    async def slow(_asked: Asked) -> Said:
        await may_answer.wait()
        return Said(body=FULFILL)

    async with with_outside(tmp_path, slow) as (_, a, bob, url):
        count = 3 * bounds.REQUESTS_AT_ONCE_PER_PEER_MAX
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(a.connector.send("g.bob", 1, fulfillment=PREIMAGE))
                for _ in range(count)
            ]
            await until(lambda: len(bob.asked) == bounds.REQUESTS_AT_ONCE_PER_PEER_MAX)
            async with asyncio.timeout(5):
                assert isinstance(await a.connector.send("g.a", 5), Fulfill)
                answer = await post(url, packet("g.a"), "of-bob")
                assert answer.status_code == 200
            assert not any(task.done() for task in waiting)
            may_answer.set()
        assert all(isinstance(task.result(), Fulfill) for task in waiting)
        assert bob.open_most <= bounds.REQUESTS_AT_ONCE_PER_PEER_MAX + 1
        assert a.net("bob") == -count


# --- a program of another kind sends


async def test_another_program_pays_through_the_node(tmp_path: Path) -> None:
    async with with_outside(tmp_path, lambda _asked: Said(body=FULFILL)) as (_, a, bob, url):
        for content_type in ("application/octet-stream", "application/ilp+octet-stream"):
            answer = await post(
                url.replace("bob", "carol"),
                packet("g.bob"),
                "of-carol",
                {"content-type": content_type},
            )
            assert (answer.status_code, answer.content) == (200, FULFILL)
            assert answer.headers["content-type"] == content_type
        assert a.net("carol") == 14
        assert a.net("bob") == -14
        assert len(bob.asked) == 2
        # Without a path the token alone tells who it is.
        answer = await post(url.replace("/accounts/bob", ""), packet("g.bob"), "of-carol")
        assert answer.content == FULFILL
        assert a.net("carol") == 21


async def test_the_same_request_id_is_booked_once_also_after_a_restart(tmp_path: Path) -> None:
    async with with_outside(tmp_path, lambda _asked: Said(body=FULFILL)) as (
        network,
        a,
        bob,
        of_bob,
    ):
        url = of_bob.replace("bob", "carol")
        octets, request_id = packet("g.bob"), str(uuid.uuid4())
        for _ in range(3):
            answer = await post(url, octets, "of-carol", {"request-id": request_id})
            assert answer.content == FULFILL
        other = await post(url, packet("g.bob", 8), "of-carol", {"request-id": request_id})
        assert other.status_code == 409
        assert (a.net("carol"), len(bob.asked)) == (7, 1)
        anew = await network.restart("a")
        await reached(anew, "bob")
        answer = await post(url, octets, "of-carol", {"request-id": request_id})
        assert answer.content == FULFILL
        assert (anew.net("carol"), len(bob.asked)) == (7, 1)


async def test_another_program_is_answered_at_its_callback_and_nowhere_else(tmp_path: Path) -> None:
    async with with_outside(tmp_path, lambda _asked: Said(200)) as (_, a, bob, url):
        octets = packet("g.a.nobody")
        request_id = str(uuid.uuid4())
        headers = {"request-id": request_id, "callback-url": bob.url}
        answer = await post(url, octets, "of-bob", headers)
        assert (answer.status_code, answer.content) == (202, b"")
        await until(lambda: len(bob.asked) == 1)
        said = decode(bob.asked[0].body)
        assert isinstance(said, Reject)
        assert said.code == "F06"
        assert bob.asked[0].headers["request-id"] == request_id
        # The same again: the same answer, at the same place.
        assert (await post(url, octets, "of-bob", headers)).status_code == 202
        await until(lambda: len(bob.asked) == 2)
        assert bob.asked[1].body == bob.asked[0].body
        admin = f"http://127.0.0.1:{a.connector.http_port}/admin/peers"
        for callback in (admin, "http://169.254.169.254/", bob.url + "?"):
            headers = {"request-id": str(uuid.uuid4()), "callback-url": callback}
            assert (await post(url, octets, "of-bob", headers)).status_code == 400
        assert a.connector.core.peers["bob"].counters.prepares_in == 1
        assert len(bob.asked) == 2


async def test_nothing_else_is_served_on_the_listener(tmp_path: Path) -> None:
    async with with_outside(tmp_path, lambda _asked: Said(200)) as (_, _a, _bob, url):
        root = url.split("/accounts")[0]
        for path in ("/", "/health", "/metrics", "/api/status", "/admin/peers", "/settlement"):
            assert (await post(root + path, b"", "of-bob")).status_code == 404


async def test_a_huge_body_is_refused_without_being_read(tmp_path: Path) -> None:
    async with with_outside(tmp_path, lambda _asked: Said(200)) as (_, a, _bob, url):
        host, port = "127.0.0.1", int(url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /ilp HTTP/1.1\r\nhost: x\r\nauthorization: Bearer of-bob\r\n"
            b"content-type: application/octet-stream\r\ncontent-length: 99999999999\r\n\r\n"
        )
        assert b" 413 " in await reader.readline()
        writer.close()
        assert a.connector.core.http.listener.refusals == {413: 1}
        answer = await post(url, packet("g.a", data=bytes(limits.PACKET_DATA_BYTES_MAX)), "of-bob")
        assert answer.status_code == 200


# --- while it runs


async def test_a_peer_is_added_changed_and_removed_while_the_node_runs(tmp_path: Path) -> None:
    async with (
        OutsidePeer(lambda _asked: Said(body=FULFILL)).running() as bob,
        RunningNodes(tmp_path) as network,
    ):
        port = free_port()
        a = await network.add("a", [], ilp_http_port=port, admin_api_key=SecretStr(KEY))
        operator = Operator(a)
        new = {"id": "bob", "secret": "of-bob", "httpUrl": bob.url, "routes": ["g.bob"]}
        assert (await operator.ask("POST", "/admin/peers", new)).status_code == 201
        await reached(a, "bob")
        assert isinstance(await a.connector.send("g.bob", 7, fulfillment=PREIMAGE), Fulfill)
        url = f"http://127.0.0.1:{port}/ilp"
        assert (await post(url, packet("g.a"), "of-bob")).status_code == 200
        renewed = {**new, "secret": "renewed"}
        assert (await operator.ask("PUT", "/admin/peers/bob", renewed)).status_code == 200
        await reached(a, "bob", times=2)
        assert (await post(url, packet("g.a"), "of-bob")).status_code == 401
        assert (await post(url, packet("g.a"), "renewed")).status_code == 200
        assert isinstance(await a.connector.send("g.bob", 7, fulfillment=PREIMAGE), Fulfill)
        assert bob.asked[-1].headers["authorization"] == "Bearer renewed"
        without = {key: value for key, value in renewed.items() if key != "httpUrl"}
        assert (await operator.ask("PUT", "/admin/peers/bob", without)).status_code == 200
        answer = await a.connector.send("g.bob", 7, fulfillment=PREIMAGE)
        assert isinstance(answer, Reject)
        assert answer.code == "T01"
        assert (await operator.ask("DELETE", "/admin/peers/bob")).status_code in (200, 204)
        assert (await post(url, packet("g.a"), "renewed")).status_code == 401


async def test_a_packet_that_waits_is_asked_for_when_the_settings_of_its_peer_change(
    tmp_path: Path,
) -> None:
    async with HttpPair(tmp_path) as network:
        a = await network.add("a", [], ilp_http_port=network.ports["a"], admin_api_key=KEY)
        b = await network.add("b", [network.peer("b", "a")], ilp_http_port=network.ports["b"])
        peer = {
            "id": "b",
            "secret": secret_of("a", "b"),
            "httpUrl": network.url("b", "a"),
            "routes": ["g.b"],
        }
        assert (await Operator(a).ask("POST", "/admin/peers", peer)).status_code == 201
        await reached(a, "b")
        may_answer, asked = asyncio.Event(), asyncio.Event()

        async def slow(_prepare: Prepare) -> Fulfill:
            asked.set()
            await may_answer.wait()
            return Fulfill(fulfillment=PREIMAGE)

        b.connector.on_prepare(slow)
        sending = asyncio.ensure_future(a.connector.send("g.b", 5, fulfillment=PREIMAGE))
        await asked.wait()
        changed = {**peer, "httpContentType": "application/ilp+octet-stream"}
        assert (await Operator(a).ask("PUT", "/admin/peers/b", changed)).status_code == 200
        await until(lambda: b.connector.core.peers["a"].counters.resent_in == 1)
        may_answer.set()
        assert isinstance(await sending, Fulfill)
        assert b.net("a") == 5
        assert await network.stop() == []
