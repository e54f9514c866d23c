"""ILDCP (RFC 31): a child asks its parent for its address and asset.

The request is a Prepare to `peer.config` for nothing, under the condition whose fulfillment is 32 zero octets;
the answer is a Fulfill whose data holds the child's address, asset scale and asset code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from connector.base.errors import DecodeError
from connector.ilp import address
from connector.ilp.packet import Fulfill, Prepare
from connector.oer import read_var_octets, var_octets

DESTINATION: Final = "peer.config"
PEER_FULFILLMENT: Final = bytes(32)
PEER_CONDITION: Final = hashlib.sha256(PEER_FULFILLMENT).digest()
_ASSET_CODE_BYTES_MAX: Final = 255


@dataclass(slots=True, frozen=True, kw_only=True)
class ChildConfig:
    """Address and asset that a parent assigns to its child."""

    address: str
    """The child's ILP address."""
    asset_scale: int
    """0 to 255."""
    asset_code: str


def child_address(own_address: str, segment: str) -> str:
    """The address of a child: ours, and its own segment."""
    return f"{own_address}.{segment}"


def request(expires_at_ms: int) -> Prepare:
    """The Prepare that asks a parent."""
    return Prepare(
        amount=0,
        expires_at_ms=expires_at_ms,
        condition=PEER_CONDITION,
        destination=DESTINATION,
    )


def answer(config: ChildConfig) -> Fulfill:
    """The Fulfill with the configuration of a child."""
    data = (
        var_octets(config.address.encode("ascii"))
        + config.asset_scale.to_bytes(1, "big")
        + var_octets(config.asset_code.encode("utf-8"))
    )
    return Fulfill(fulfillment=PEER_FULFILLMENT, data=data)


def read_answer(fulfill: Fulfill) -> ChildConfig:
    """The configuration in a parent's answer.

    Raises:
        DecodeError: the data is malformed or holds no address.
    """
    name, at = read_var_octets(fulfill.data, 0, "address")
    if at >= len(fulfill.data):
        raise DecodeError("asset scale", at, "cut off")
    scale = fulfill.data[at]
    code, _ = read_var_octets(fulfill.data, at + 1, "asset code", size_max=_ASSET_CODE_BYTES_MAX)
    try:
        asset_code = code.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("asset code", at + 1, "not UTF-8") from None
    return ChildConfig(address=address.parse(name), asset_scale=scale, asset_code=asset_code)
