"""Test vectors, encoded and decoded: of JS libraries in use, and laid out by hand from the RFCs.

`vectors.json` stands beside this file. The full set of reference octets is run too where it is
found: in the directory that CONNECTOR_SHARED_VECTORS names, or in `../shared/vectors`.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import DecodeError
from connector.btp import packet as btp
from connector.btp.packet import BtpError, BtpPacket, Protocol
from connector.ilp import packet as ilp
from connector.ilp.packet import Fulfill, Packet, Prepare, Reject
from connector.peering.routing import Property
from connector.routing import codec as ccp

_HERE = Path(__file__).resolve().parent
_OWN_FILE = json.loads((_HERE / "vectors.json").read_text(encoding="utf-8"))
_REFERENCE: dict[str, Any] = _OWN_FILE["reference"]
_OWN: dict[str, Any] = _OWN_FILE["own"]
_SHARED_FILE = (
    Path(
        os.environ.get("CONNECTOR_SHARED_VECTORS")
        or _HERE.parent.parent.parent / "shared" / "vectors"
    )
    / "reference_js.json"
)
_DECODERS = {"ilp": ilp.decode, "btp": btp.decode}
_ENCODERS = {"ilp": ilp.encode, "btp": btp.encode}


def _ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def ilp_value(vector: dict[str, Any]) -> Packet:
    data = bytes.fromhex(vector["data"])
    match vector["type"]:
        case "prepare":
            return Prepare(
                amount=int(vector["amount"]),
                expires_at_ms=_ms(vector["expiresAt"]),
                condition=bytes.fromhex(vector["executionCondition"]),
                destination=vector["destination"],
                data=data,
            )
        case "fulfill":
            return Fulfill(fulfillment=bytes.fromhex(vector["fulfillment"]), data=data)
        case "reject":
            return Reject(
                code=vector["code"],
                triggered_by=vector["triggeredBy"],
                message=vector["message"],
                data=data,
            )
        case other:
            raise AssertionError(other)


def btp_value(vector: dict[str, Any]) -> BtpPacket | BtpError:
    protocols = [
        Protocol(item["protocolName"], item["contentType"], bytes.fromhex(item["data"]))
        for item in vector.get("protocolData", [])
    ]
    if vector["type"] == btp.ERROR:
        return BtpError(
            request_id=vector["requestId"],
            code=vector["code"],
            name=vector["name"],
            triggered_at_ms=_ms(vector["triggeredAt"]),
            data=bytes.fromhex(vector["data"]),
            protocols=protocols,
        )
    return BtpPacket(
        kind=vector["type"],
        request_id=vector["requestId"],
        protocols=protocols,
        amount=int(vector["amount"]) if "amount" in vector else None,
    )


def check_ilp(vector: dict[str, Any]) -> None:
    octets = bytes.fromhex(vector["hex"])
    value = ilp_value(vector)
    assert ilp.encode(value) == octets
    decoded = ilp.decode(octets)
    assert decoded == value
    assert decoded.wire == octets


def check_btp(vector: dict[str, Any]) -> None:
    octets = bytes.fromhex(vector["hex"])
    value = btp_value(vector)
    assert btp.encode(value) == octets
    assert btp.decode(octets) == value
    short = btp.read_ilp(octets)
    if short is not None and isinstance(value, BtpPacket) and value.amount is None:
        kind, request_id, inner, _ = short
        assert (kind, request_id, inner) == (value.kind, value.request_id, value.protocols[0].data)


def _table_id(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name].replace("-", ""))


def _property(vector: dict[str, Any]) -> Property:
    flags = 0x80 * vector["isOptional"] | 0x40 * vector["isTransitive"]
    flags |= 0x20 * vector["isPartial"] | 0x10 * vector["isUtf8"]
    text = vector["value"]
    value = text.encode() if vector["isUtf8"] else bytes.fromhex(text)
    return Property(flags=flags, id=vector["id"], value=value)


def check_ccp(vector: dict[str, Any]) -> None:
    """Route control and route update, in the Prepares that carry them (requirements 72 to 75)."""
    octets = bytes.fromhex(vector["hex"])
    decoded = ilp.decode(octets)
    assert isinstance(decoded, Prepare)
    assert ilp.encode(decoded) == octets
    if vector["type"] == "route.control":
        control = ccp.RouteControl(
            mode=ccp.Mode[vector["mode"]],
            table_id=_table_id(vector, "lastKnownRoutingTableId"),
            epoch=vector["lastKnownEpoch"],
            features=tuple(vector["features"]),
        )
        assert ccp.decode_control(decoded.data) == control
        destination, data = ccp.CONTROL, ccp.encode_control(control)
    else:
        update = ccp.RouteUpdate(
            table_id=_table_id(vector, "routingTableId"),
            current_epoch=vector["currentEpochIndex"],
            from_epoch=vector["fromEpochIndex"],
            to_epoch=vector["toEpochIndex"],
            hold_down_ms=vector["holdDownTime"],
            speaker=vector["speaker"],
            new=tuple(
                ccp.Announcement(
                    prefix=route["prefix"],
                    path=tuple(route["path"]),
                    auth=bytes.fromhex(route["auth"]),
                    properties=tuple(map(_property, route["props"])),
                )
                for route in vector["newRoutes"]
            ),
            withdrawn=tuple(vector["withdrawnRoutes"]),
        )
        assert ccp.decode_update(decoded.data) == update
        destination, data = ccp.UPDATE, ccp.encode_update(update)
    assert ccp.request(destination, data, decoded.expires_at_ms) == decoded


def _name(vector: dict[str, Any]) -> str:
    return f"{vector['type']}-{len(vector['hex']) // 2}"


def _why(vector: dict[str, Any]) -> str:
    return str(vector["why"])


@pytest.mark.parametrize("vector", _REFERENCE["ilp"], ids=_name)
def test_ilp_octets_of_the_js_library_are_ours(vector: dict[str, Any]) -> None:
    check_ilp(vector)


@pytest.mark.parametrize("vector", _REFERENCE["btp"], ids=_name)
def test_btp_octets_of_the_js_library_are_ours(vector: dict[str, Any]) -> None:
    check_btp(vector)


@pytest.mark.parametrize("vector", _REFERENCE["ccp"], ids=_name)
def test_ccp_octets_of_the_js_library_are_ilp_packets(vector: dict[str, Any]) -> None:
    check_ccp(vector)


@pytest.mark.parametrize("vector", _OWN["ilp"], ids=_why)
def test_ilp_octets_by_hand_are_ours(vector: dict[str, Any]) -> None:
    check_ilp(vector)


@pytest.mark.parametrize("vector", _OWN["btp"], ids=_why)
def test_btp_octets_by_hand_are_ours(vector: dict[str, Any]) -> None:
    check_btp(vector)


@pytest.mark.parametrize("vector", _OWN["accepted"], ids=_why)
def test_another_form_is_read_and_written_in_the_canonical_one(vector: dict[str, Any]) -> None:
    decode, encode = _DECODERS[vector["codec"]], _ENCODERS[vector["codec"]]
    octets, canonical = bytes.fromhex(vector["hex"]), bytes.fromhex(vector["canonical"])
    value = decode(octets)
    assert value == decode(canonical)
    assert encode(value) == canonical
    assert getattr(value, "wire", None) is None


@pytest.mark.parametrize("vector", _OWN["refused"], ids=_why)
def test_what_the_formats_forbid_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as caught:
        _DECODERS[vector["codec"]](bytes.fromhex(vector["hex"]))
    assert caught.value.field == vector["field"]


@pytest.mark.skipif(
    not _SHARED_FILE.is_file(),
    reason="no full set of reference octets: set CONNECTOR_SHARED_VECTORS to its directory",
)
def test_every_octet_of_the_full_reference_set_is_ours() -> None:
    shared = json.loads(_SHARED_FILE.read_text(encoding="utf-8"))
    assert len(shared["ilp"]) >= len(_REFERENCE["ilp"])
    assert len(shared["btp"]) >= len(_REFERENCE["btp"])
    for vector in shared["ilp"]:
        check_ilp(vector)
    for vector in shared["btp"]:
        check_btp(vector)
    for vector in shared["ccp"]:
        check_ccp(vector)
