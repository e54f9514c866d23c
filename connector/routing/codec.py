"""The octets of CCP: route control and route update requests (requirements 72 to 75).

A request is a Prepare for nothing to `peer.route.control` or `peer.route.update` under the condition of peer protocols;
its answer is a Fulfill of 32 zero octets without data. These functions read and write the data of the Prepare.
Counts are declared by the sender and are not trusted: nothing is allocated for what is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from connector.base import limits
from connector.base.errors import DecodeError
from connector.ilp.ildcp import PEER_CONDITION
from connector.ilp.packet import Prepare
from connector.oer import read_var_octets, read_var_uint, var_octets, var_uint
from connector.peering.routing import Property
from connector.routing import bounds

CONTROL: Final = "peer.route.control"
UPDATE: Final = "peer.route.update"
DESTINATIONS: Final = "peer.route."
"""How both destinations begin."""
TABLE_ID_BYTES: Final = 16
NO_TABLE: Final = bytes(TABLE_ID_BYTES)
AUTH_BYTES: Final = 32
_PROPERTY_FLAGS: Final = 0xF0

T = TypeVar("T")


class Mode(IntEnum):
    """What a neighbour wants to be told."""

    IDLE = 0
    SYNC = 1


@dataclass(slots=True, frozen=True, kw_only=True)
class RouteControl:
    """What the sender of this request wants to be told, and what it has."""

    mode: Mode
    table_id: bytes
    """16 octets, of the table that it knows; zeros: none."""
    epoch: int
    """The last one that it knows of that table."""
    features: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True, kw_only=True)
class Announcement:
    """A route in an update."""

    prefix: str
    path: tuple[str, ...]
    auth: bytes
    """32 octets."""
    properties: tuple[Property, ...] = ()

    @property
    def size(self) -> int:
        """Octets that it takes, within a few."""
        octets = len(self.prefix) + AUTH_BYTES + 8
        octets += sum(len(hop) + 3 for hop in self.path)
        return octets + sum(len(one.value) + 6 for one in self.properties)


@dataclass(slots=True, frozen=True, kw_only=True)
class RouteUpdate:
    """Changes of the sender's table, from one epoch to another."""

    table_id: bytes
    """16 octets."""
    current_epoch: int
    """The latest epoch of the table."""
    from_epoch: int
    to_epoch: int
    hold_down_ms: int
    """For how long the routes are to be kept without another update."""
    speaker: str
    """The sender's address."""
    new: tuple[Announcement, ...] = ()
    withdrawn: tuple[str, ...] = ()


def request(destination: str, data: bytes, expires_at_ms: int) -> Prepare:
    """The Prepare that carries a request (requirement 72)."""
    return Prepare(
        amount=0,
        expires_at_ms=expires_at_ms,
        condition=PEER_CONDITION,
        destination=destination,
        data=data,
    )


def encode_control(control: RouteControl) -> bytes:
    """The data of a route control request."""
    head = control.mode.to_bytes(1, "big") + control.table_id + control.epoch.to_bytes(4, "big")
    return head + _counted(control.features, _text)


def decode_control(data: bytes) -> RouteControl:
    """Read a route control request; what follows it is ignored (RFC 30, extension).

    Raises:
        DecodeError: cut off, an unknown mode, or a feature that is no text.
    """
    mode, at = _uint(data, 0, 1, "mode")
    if mode not in (Mode.IDLE, Mode.SYNC):
        raise DecodeError("mode", 0, f"{mode} is unknown")
    table_id, at = _fixed(data, at, TABLE_ID_BYTES, "table id")
    epoch, at = _uint(data, at, 4, "epoch")
    features, _ = _read_counted(data, at, "features", _read_feature, bounds.FEATURES_MAX)
    return RouteControl(mode=Mode(mode), table_id=table_id, epoch=epoch, features=features)


def encode_update(update: RouteUpdate) -> bytes:
    """The data of a route update request.

    Raises:
        ValueError: it is larger than the data of a packet may be.
    """
    octets = b"".join(
        (
            update.table_id,
            update.current_epoch.to_bytes(4, "big"),
            update.from_epoch.to_bytes(4, "big"),
            update.to_epoch.to_bytes(4, "big"),
            update.hold_down_ms.to_bytes(4, "big"),
            _text(update.speaker),
            _counted(update.new, _announcement),
            _counted(update.withdrawn, _text),
        )
    )
    if len(octets) > limits.PACKET_DATA_BYTES_MAX:
        raise ValueError(f"an update of {len(octets)} octets")
    return octets


def decode_update(data: bytes) -> RouteUpdate:
    """Read a route update request; what follows it is ignored.

    Prefixes and paths are ASCII of at most 1023 characters; whether they are addresses is for who takes them.

    Raises:
        DecodeError: cut off, not of this form, or more names than addresses have room in it.
    """
    left = bounds.NAMES_PER_REQUEST_MAX

    def read_announcement(octets: bytes, at: int) -> tuple[Announcement, int]:
        nonlocal left
        one, end = _read_announcement(octets, at, min(left, bounds.HOPS_MAX))
        left -= len(one.path)
        return one, end

    table_id, at = _fixed(data, 0, TABLE_ID_BYTES, "table id")
    current_epoch, at = _uint(data, at, 4, "current epoch")
    from_epoch, at = _uint(data, at, 4, "from epoch")
    to_epoch, at = _uint(data, at, 4, "to epoch")
    hold_down_ms, at = _uint(data, at, 4, "hold down")
    speaker, at = _read_name(data, at)
    new, at = _read_counted(data, at, "new routes", read_announcement, left)
    withdrawn, at = _read_counted(data, at, "withdrawn routes", _read_name, left)
    return RouteUpdate(
        table_id=table_id,
        current_epoch=current_epoch,
        from_epoch=from_epoch,
        to_epoch=to_epoch,
        hold_down_ms=hold_down_ms,
        speaker=speaker,
        new=new,
        withdrawn=withdrawn,
    )


def _text(value: str) -> bytes:
    return var_octets(value.encode("utf-8"))


def _counted(items: tuple[T, ...], write: Callable[[T], bytes]) -> bytes:
    return var_uint(len(items)) + b"".join(map(write, items))


def _announcement(route: Announcement) -> bytes:
    return b"".join(
        (
            _text(route.prefix),
            _counted(route.path, _text),
            route.auth,
            _counted(route.properties, _property),
        )
    )


def _property(one: Property) -> bytes:
    return one.flags.to_bytes(1, "big") + one.id.to_bytes(2, "big") + var_octets(one.value)


def _uint(data: bytes, at: int, size: int, field: str) -> tuple[int, int]:
    octets, end = _fixed(data, at, size, field)
    return int.from_bytes(octets, "big"), end


def _fixed(data: bytes, at: int, size: int, field: str) -> tuple[bytes, int]:
    end = at + size
    if end > len(data):
        raise DecodeError(field, at, "cut off")
    return data[at:end], end


def _read_counted(
    data: bytes, at: int, field: str, read: Callable[[bytes, int], tuple[T, int]], most: int
) -> tuple[tuple[T, ...], int]:
    """As many items as are declared, at most `most`; one that is not there ends it with an error."""
    count, at = read_var_uint(data, at, field)
    if count > most:
        raise DecodeError(field, at, f"claims {count} items, at most {most} are read")
    # Each item takes an octet at least.
    if count > len(data) - at:
        raise DecodeError(field, at, f"claims {count} items, {len(data) - at} octets are there")
    items: list[T] = []
    for _ in range(count):
        item, at = read(data, at)
        items.append(item)
    return tuple(items), at


def _read_feature(data: bytes, at: int) -> tuple[str, int]:
    octets, end = read_var_octets(data, at, "feature", size_max=255)
    try:
        return octets.decode("utf-8"), end
    except UnicodeDecodeError:
        raise DecodeError("feature", at, "not UTF-8") from None


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    octets, end = read_var_octets(data, at, "address", size_max=limits.ADDRESS_CHARACTERS_MAX)
    try:
        return octets.decode("ascii"), end
    except UnicodeDecodeError:
        raise DecodeError("address", at, "not ASCII") from None


def _read_announcement(data: bytes, at: int, hops_max: int) -> tuple[Announcement, int]:
    prefix, at = _read_name(data, at)
    path, at = _read_counted(data, at, "path", _read_name, hops_max)
    auth, at = _fixed(data, at, AUTH_BYTES, "auth")
    properties, at = _read_counted(
        data, at, "properties", _read_property, bounds.NAMES_PER_REQUEST_MAX
    )
    return Announcement(prefix=prefix, path=path, auth=auth, properties=properties), at


def _read_property(data: bytes, at: int) -> tuple[Property, int]:
    flags, at = _uint(data, at, 1, "property")
    identity, at = _uint(data, at, 2, "property")
    value, at = read_var_octets(data, at, "property")
    return Property(flags=flags & _PROPERTY_FLAGS, id=identity, value=value), at
