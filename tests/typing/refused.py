"""What users of the library must not write: every line marked with an error code has that error.

mypy reports a `type: ignore` that nothing needs (`warn_unused_ignores`), so a mistake that type-checks
fails the test as much as an error that is not expected.
"""

# ruff: noqa: B018, I001
from __future__ import annotations

from pydantic import SecretStr

from connector import Connector, Fulfill, PeerSettings, Prepare, Reject, Settings
from connector import NoSuchName  # type: ignore[attr-defined]

Settings(http_port="8080")  # type: ignore[arg-type]
Settings(log_level="loud")  # type: ignore[arg-type]
Settings(node_identity="alice")  # type: ignore[call-arg]
PeerSettings(id="bob")  # type: ignore[call-arg]
PeerSettings(id="bob", secret="a plain text")  # type: ignore[arg-type]
PeerSettings(id="bob", secret=SecretStr("s"), relation="child")  # type: ignore[arg-type]
PeerSettings(id="bob", secret=SecretStr("s"), credit_limit=1.5)  # type: ignore[arg-type]
Fulfill(bytes(32))  # type: ignore[call-arg]
Fulfill(fulfillment="00")  # type: ignore[arg-type]
Reject(message="no code")  # type: ignore[call-arg]
NoSuchName()


def not_async(prepare: Prepare) -> Fulfill:
    """A handler is a coroutine function."""
    return Fulfill(fulfillment=bytes(32))


async def answers_nothing(prepare: Prepare) -> None:
    """A handler answers."""


async def wants_a_number(prepare: Prepare, packet_id: int) -> Fulfill:
    """The packet's id is text."""
    return Fulfill(fulfillment=bytes(32))


async def wants_too_much(prepare: Prepare, packet_id: str, source: str) -> Fulfill:
    """There is no third argument."""
    return Fulfill(fulfillment=bytes(32))


async def misuse(node: Connector, settings: Settings) -> None:
    """Handlers of another form, amounts that are no integers, answers that are not looked at."""
    node.on_prepare(not_async)  # type: ignore[arg-type]
    node.on_prepare(answers_nothing)  # type: ignore[arg-type]
    node.on_prepare(wants_a_number)  # type: ignore[arg-type]
    node.on_prepare(wants_too_much)  # type: ignore[arg-type]
    await node.send("g.bob", 1.5)  # type: ignore[arg-type]
    await node.send("g.bob", "5")  # type: ignore[arg-type]
    answer = await node.send("g.bob", 5)
    answer.fulfillment  # type: ignore[union-attr]
    node.settings = settings  # type: ignore[misc]
    with Connector(settings):  # type: ignore[attr-defined]
        pass
