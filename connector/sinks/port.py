"""The port of a sink: what every place that takes events has to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from connector.base.errors import EnvironmentFault
from connector.base.log import REDACTED
from connector.sinks import bounds


class Record(NamedTuple):
    """An event as it is delivered."""

    seq: int
    """Unique for the node, over all its runs."""
    at_ms: int
    """Milliseconds since the epoch."""
    type: str
    """Such as `PACKET_FULFILLED`."""
    text: str
    """JSON, with the type, node, number and time as well."""


class Refused(NamedTuple):
    """A record that the other side will not take, however often it is asked."""

    record: Record
    reason: str


class SinkError(EnvironmentFault):
    """A batch was not delivered, or it is unknown whether it was; it is tried again.

    `wait_s`: how long the other side asks us to wait, in seconds; 0: it does not.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(" ".join(message.split())[: bounds.FAULT_CHARACTERS_MAX])
        self.wait_s = wait_s


class Sink(Protocol):
    """A place that takes events."""

    name: str
    """`webhook`, `nats` or `postgres`."""
    place: str
    """Where it is, for operators, without credentials."""

    async def deliver(self, records: Sequence[Record]) -> Sequence[Refused]:
        """Deliver a batch, in order; returns once all but the refused ones are kept there.

        A batch may come again, whole or in other parts; then it may be there twice, unless the place
        knows records by their number. Takes a bounded time.

        Raises:
            SinkError: not delivered, as far as is known.
        """

    async def close(self) -> None:
        """Close connections, in a bounded time. It may be used again afterwards."""


def fault_text(text: str, secrets: Iterable[str]) -> str:
    """A text of a library or a server, cut, without what must not be shown."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, REDACTED)
    return " ".join(text.split())[: bounds.FAULT_CHARACTERS_MAX]
