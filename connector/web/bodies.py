"""The bodies of requests to the admin API."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from connector.base import limits
from connector.settings.model import PeerSettings
from connector.settings.types import (
    Amount,
    IlpAddress,
    RateLimit,
    Throughput,
    ThroughputWindow,
)
from connector.web import bounds

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")


def _32_octets(text: str) -> str:
    if not _HEX.fullmatch(text):
        raise ValueError("must be 64 hex digits, for 32 octets")
    return text


Octets32 = Annotated[
    str,
    AfterValidator(_32_octets),
    WithJsonSchema({"type": "string", "pattern": f"^{_HEX.pattern}$"}),
]


class PeerReplacement(PeerSettings):
    """A peer; its id stands in the path, its secrets are given only if they are to be other ones."""

    id: str | None = None  # type: ignore[assignment]
    secret: SecretStr | None = None  # type: ignore[assignment]

    @model_validator(mode="after")
    def _check_whole(self) -> PeerReplacement:
        # Checked later, with the secret that the peer will have (`node.changes`).
        return self


class Limits(BaseModel):
    """What is changed of a peer's limits; what is left out stays, null is the default."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    credit_limit: Amount | None = None
    """What it may owe us. Default: CREDIT_LIMIT."""
    max_payable: Amount | None = None
    """What we may owe it. Default: no bound."""
    max_in_flight_value: Amount | None = None
    """What may be held at a time for packets from it, and for packets to it. Default: no bound."""
    max_packet_amount: Amount | None = None
    """The largest packet taken from it. Default: no bound."""
    rate_limit: RateLimit | None = None
    """Packets per second taken from it. Default: no bound."""
    throughput_in: Throughput | None = None
    """Value taken from it per window. Default: no bound."""
    throughput_out: Throughput | None = None
    """Value sent to it per window. Default: no bound."""
    throughput_window_seconds: ThroughputWindow = 60
    """The window of both."""
    settle_threshold: Amount | None = None
    """When we owe it more than this, settle. Default: never."""
    settle_to: Amount = 0
    """What we go on owing it after a settlement."""
    max_prepaid: Amount | None = None
    """What its settlement engine can make us owe it without an operator. Default: its credit limit."""


class NewSecret(BaseModel):
    """Another secret of a peer."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    secret: SecretStr
    grace_seconds: Annotated[int, Field(ge=0, le=bounds.GRACE_SECONDS_MAX)] = 0
    """For so long the present one serves beside it, and the link stays up. 0: not at all."""


class Packet(BaseModel):
    """A packet to be sent from this node; without `condition` and `fulfillment` a ping."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    destination: IlpAddress
    amount: Amount = 0
    """In units of the node's own asset."""
    data: Annotated[str, Field(max_length=44_000)] = ""
    """For the receiver, in base64; at most 32767 octets."""
    condition: Octets32 | None = None
    """Hex of 32 octets, where the fulfillment is not known here."""
    fulfillment: Octets32 | None = None
    """Hex of 32 octets; the condition is its SHA-256."""
    expiry_seconds: Annotated[float, Field(gt=0, le=limits.HOLD_MS_MAX / 1000)] = 30.0
    """Until the offer runs out."""

    @field_validator("data")
    @classmethod
    def _is_base64(cls, text: str) -> str:
        try:
            octets = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("must be base64") from None
        if len(octets) > limits.PACKET_DATA_BYTES_MAX:
            raise ValueError(f"has at most {limits.PACKET_DATA_BYTES_MAX} octets")
        return text

    @model_validator(mode="after")
    def _check_whole(self) -> Packet:
        if self.condition is not None and self.fulfillment is not None:
            raise ValueError("give either condition or fulfillment")
        return self
