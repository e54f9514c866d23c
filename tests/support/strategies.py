"""Hypothesis strategies for packets: valid ones of every kind, and damaged ones."""

from __future__ import annotations

import string

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from connector.base import limits
from connector.btp.packet import (
    ERROR_NAMES,
    MESSAGE,
    PACKET_ID,
    RESPONSE,
    TRANSFER,
    BtpError,
    BtpPacket,
    Protocol,
)
from connector.btp.packet import encode as encode_btp
from connector.ilp import ildcp
from connector.ilp.address import SCHEMES
from connector.ilp.packet import Fulfill, Packet, Prepare, Reject
from connector.ilp.packet import encode as encode_ilp

SEGMENT_CHARACTERS = string.ascii_letters + string.digits + "_~-"
YEAR_10000_MS = 253_402_300_800_000
# Where the form of a length changes, on the line and one step over.
_TURNING_SIZES = (0, 1, 126, 127, 128, 129, 255, 256, 257, 1000, 32_766, 32_767)

amounts = st.integers(0, limits.AMOUNT_MAX) | st.integers(0, 1000)
moments_ms = st.integers(0, YEAR_10000_MS - 1)
hashes = st.binary(min_size=32, max_size=32)
payloads = st.binary(max_size=300) | st.sampled_from(_TURNING_SIZES).map(
    lambda size: b"\xa5" * size
)
codes = st.from_regex(r"[A-Z][0-9]{2}", fullmatch=True)
request_ids = st.integers(0, 2**32 - 1)
packet_ids = st.integers(1, 2**128 - 1)

segments = st.text(SEGMENT_CHARACTERS, min_size=1, max_size=8) | st.just("s" * 200)
addresses = st.builds(
    lambda scheme, rest: ".".join((scheme, *rest)),
    st.sampled_from(sorted(SCHEMES)),
    st.lists(segments, min_size=1, max_size=5),
)
texts = st.text(max_size=60)

prepares = st.builds(
    Prepare,
    amount=amounts,
    expires_at_ms=moments_ms,
    condition=hashes,
    destination=addresses,
    data=payloads,
)
fulfills = st.builds(Fulfill, fulfillment=hashes, data=payloads)
rejects = st.builds(
    Reject, code=codes, triggered_by=st.just("") | addresses, message=texts, data=payloads
)
ilp_packets: SearchStrategy[Packet] = prepares | fulfills | rejects
ilp_octets = ilp_packets.map(encode_ilp)
child_configs = st.builds(
    ildcp.ChildConfig,
    address=addresses,
    asset_scale=st.integers(0, 255),
    asset_code=texts,
)

_protocol = st.builds(
    Protocol,
    st.sampled_from(("ilp", "auth", "auth_username", "auth_token", PACKET_ID, ""))
    | st.text(max_size=20),
    st.integers(0, 255),
    st.binary(max_size=40) | st.binary(min_size=16, max_size=16) | ilp_octets,
)
protocols = st.lists(_protocol, max_size=5, unique_by=lambda protocol: protocol.name)
btp_packets = st.builds(
    BtpPacket,
    kind=st.sampled_from((MESSAGE, RESPONSE)),
    request_id=request_ids,
    protocols=protocols,
)
btp_transfers = st.builds(
    BtpPacket, kind=st.just(TRANSFER), request_id=request_ids, protocols=protocols, amount=amounts
)
btp_errors = st.builds(
    BtpError,
    request_id=request_ids,
    code=st.sampled_from(sorted(ERROR_NAMES)) | codes,
    name=texts,
    triggered_at_ms=moments_ms,
    data=st.binary(max_size=300),
    protocols=protocols,
)
any_btp = btp_packets | btp_transfers | btp_errors
btp_octets = any_btp.map(encode_btp)


@st.composite
def damaged(draw: DrawFn, valid: SearchStrategy[bytes]) -> bytes:
    """Octets that were valid before something happened to them."""
    octets = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        # Most of what can go wrong stands at the front: type, lengths, fixed fields.
        last = max(0, len(octets) - 1)
        at = draw(st.integers(0, last) | st.integers(0, min(last, 80)))
        match draw(st.sampled_from(("flip", "cut", "insert", "delete", "lie", "append"))):
            case "flip" if octets:
                octets[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del octets[at:]
            case "insert":
                octets[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del octets[at : at + draw(st.integers(1, 8))]
            case "lie" if octets:
                octets[at : at + 1] = draw(lying_lengths)
            case _:
                octets += draw(st.binary(min_size=1, max_size=8))
    return bytes(octets)


def hostile(valid: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Anything at all, and anything near `valid`."""
    return st.binary(max_size=120) | damaged(valid) | valid


lying_lengths = st.sampled_from(
    (
        b"\x00",
        b"\x7f",
        b"\x80",
        b"\x81\x05",
        b"\x81\xff",
        b"\x82\x00\x05",
        b"\x84\xff\xff\xff\xff",
        b"\x88" + b"\xff" * 8,
        b"\x88" + bytes(7) + b"\x05",
        b"\x89" + bytes(8) + b"\x05",
        b"\xff",
        b"\xff" + bytes(126) + b"\x05",
    )
)
"""Lengths that are too large, not in their shortest form, indefinite, or of absurd size."""
