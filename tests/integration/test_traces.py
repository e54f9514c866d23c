"""Traces of packets, as a collector on loopback receives them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill, Reject
from connector.switch.receiver import fulfillment_for
from connector.telemetry.traces import Traces
from tests.support.daemons import EventLog, RunningNodes, until
from tests.support.ports import free_port

SECRET = "c0ffee00c0ffee00"


class Collector:
    """Takes OTLP over HTTP, as JSON."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.answer = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                collector.paths.add(self.path)
                if collector.answer == 200:
                    for part in body["resourceSpans"]:
                        names = plain(part["resource"]["attributes"])
                        for scope in part["scopeSpans"]:
                            collector.spans += [
                                {**one, "resource": names} for one in scope["spans"]
                            ]
                self.send_response(collector.answer)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name]


def plain(attributes: list[dict[str, Any]]) -> dict[str, str]:
    return {one["key"]: one["value"]["stringValue"] for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


async def test_the_spans_of_all_nodes_of_a_path_meet_in_one_trace(
    tmp_path: Path, collector: Collector
) -> None:
    traced = {"otlp_endpoint": collector.url, "otlp_sample_ratio": 1.0}
    node = {name: dict(traced) for name in "abc"}
    node["c"]["receiver_secret"] = SECRET
    async with RunningNodes(tmp_path) as network:
        a, _, _ = await network.chain("a", "b", "c", node=node)
        proof = fulfillment_for(bytes.fromhex(SECRET), b"data")
        answer = await a.connector.send("g.c", 100, data=b"data", fulfillment=proof)
        assert isinstance(answer, Fulfill)
        await until(lambda: len(collector.named("packet")) == 3)
        packets = collector.named("packet")
        assert collector.paths == {"/v1/traces"}
        assert len({span["traceId"] for span in collector.spans}) == 1
        assert {span["resource"]["service.instance.id"] for span in packets} == {"a", "b", "c"}
        of_b = [one for one in collector.spans if one["resource"]["service.instance.id"] == "b"]
        (root,) = [span for span in of_b if span["name"] == "packet"]
        assert {span["name"] for span in of_b} == {"packet", "reserve", "next hop", "post"}
        assert len({span["spanId"] for span in collector.spans}) == len(collector.spans)
        for span in of_b:
            assert span is root or span["parentSpanId"] == root["spanId"]
            assert int(root["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
            assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        said = plain(root["attributes"])
        assert (said["ilp.peer"], said["ilp.next_hop"], said["ilp.amount"]) == ("a", "c", "100")
        assert "status" not in root
        refused = await a.connector.send("g.c.nobody", 5, fulfillment=bytes(32))
        assert isinstance(refused, Reject)
        await until(lambda: len(collector.named("packet")) == 6)
        for span in collector.named("packet")[3:]:
            assert span["status"]["code"] == 2
            assert span["status"]["message"].startswith(refused.code)
            assert plain(span["attributes"])["ilp.triggered_by"] == "g.c"


async def test_a_ratio_of_zero_traces_nothing(tmp_path: Path, collector: Collector) -> None:
    nothing = {"otlp_endpoint": collector.url, "otlp_sample_ratio": 0.0}
    async with RunningNodes(tmp_path) as network:
        a, _ = await network.chain("a", "b", node={"a": nothing})
        assert isinstance(await a.connector.send("g.b", 100), Fulfill)
        traces = a.connector._traces
        assert traces is not None
        a.connector.events.flush()
        assert not traces._spans
        assert not traces._begun


async def test_a_collector_that_is_away_is_told_once_and_costs_only_traces(
    tmp_path: Path, collector: Collector
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with RunningNodes(tmp_path) as network:
        settings = {"otlp_endpoint": nowhere, "otlp_sample_ratio": 1.0}
        a, _ = await network.chain("a", "b", node={"a": settings})
        assert isinstance(await a.connector.send("g.b", 100), Fulfill)
        await a.log.seen("traces_failed")
        assert isinstance(await a.connector.send("g.b", 100), Fulfill)
        traces = a.connector._traces
        assert traces is not None
        await until(lambda: traces.dropped >= 2)
        assert a.log.count("traces_failed") == 1


async def test_a_collector_that_refuses_and_comes_round(collector: Collector) -> None:
    log = EventLog()
    traces = Traces(endpoint=collector.url + "/otlp", sample_ratio=1.0, node_id="a", log=log)
    collector.answer = 503
    running = asyncio.ensure_future(traces.run())
    try:
        traces._spans.append({"name": "one"})
        await log.seen("traces_failed", reason="HTTP 503")
        collector.answer = 200
        traces._spans.append({"name": "two"})
        await log.seen("traces_resumed", dropped=1)
        assert [span["name"] for span in collector.spans] == ["two"]
        assert collector.paths == {"/otlp"}
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
