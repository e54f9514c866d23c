"""What users of the library may write: type-checked as a program of theirs, never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

from pydantic import SecretStr

from connector import (
    ConfigError,
    Connector,
    ConnectorError,
    Fulfill,
    PeerSettings,
    Prepare,
    Reject,
    Relation,
    Settings,
    __version__,
)

SETTINGS = Settings(
    node_id="alice",
    ilp_address="g.alice",
    data_dir=Path("data"),
    http_port=0,
    log_level="warning",
    peers=[
        PeerSettings(
            id="bob",
            secret=SecretStr("shared"),
            url="ws://127.0.0.1:3000",
            relation=Relation.CHILD,
            credit_limit=1000,
            routes=["g.bob"],
        )
    ],
)


async def shop(prepare: Prepare) -> Fulfill | Reject:
    """A handler reads a Prepare and answers with a Fulfill or a Reject."""
    assert_type(prepare.amount, int)
    assert_type(prepare.condition, bytes)
    assert_type(prepare.destination, str)
    assert_type(prepare.expires_at_ms, int)
    assert_type(prepare.data, bytes)
    if prepare.amount < 5:
        return Reject(code="F99", triggered_by="g.alice", message="too little", data=b"")
    return Fulfill(fulfillment=bytes(32), data=b"thanks")


async def only_fulfills(prepare: Prepare) -> Fulfill:
    """A handler may promise less than it could."""
    return Fulfill(fulfillment=bytes(32))


async def once(prepare: Prepare, packet_id: str) -> Fulfill | Reject:
    """A handler may ask for the packet's id, to know one that is delivered again."""
    return Fulfill(fulfillment=bytes(32), data=packet_id.encode())


async def pay() -> str:
    """The life of a node, and a packet from it."""
    async with Connector(SETTINGS) as node:
        assert_type(node, Connector)
        assert_type(node.settings, Settings)
        node.on_prepare(shop)
        node.on_prepare(only_fulfills)
        node.on_prepare(once)
        answer = await node.send("g.bob", 5)
        assert_type(answer, Fulfill | Reject)
        answer = await node.send(
            "g.bob", 5, data=b"order", fulfillment=bytes(32), condition=None, expiry_s=10.0
        )
        match answer:
            case Fulfill(fulfillment=fulfillment, data=data):
                assert_type(fulfillment, bytes)
                assert_type(data, bytes)
                return data.decode()
            case Reject(code=code, triggered_by=triggered_by, message=message):
                assert_type(code, str)
                assert_type(triggered_by, str)
                assert_type(message, str)
                return f"{code} {message}"


def faults_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Errors have fields, and one base."""
    try:
        Settings(node_id=environment["NODE_ID"])
    except ConfigError as error:
        assert_type(error.faults, tuple[str, ...])
        return error.faults
    except ConnectorError as error:
        return (str(error),)
    return (__version__,)
