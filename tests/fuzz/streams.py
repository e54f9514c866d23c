"""Fuzz targets: STREAM packets, their receiver, tokens, payment pointers and SPSP answers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import strategies as st

from connector.base.errors import DecodeError, HttpAnswerError
from connector.base.http import read_json
from connector.ilp.packet import Fulfill, Prepare, Reject, encode
from connector.stream import bounds
from connector.stream import packet as stream
from connector.stream import target as spsp
from connector.stream.connection import Arrival
from connector.stream.crypto import Keys
from connector.stream.questions import question, read_decision
from connector.stream.receiver import Receiver
from connector.stream.tokens import NONCE_BYTES, Tokens
from tests.fuzz.target import Target, json_values
from tests.support import strategies as some

OWN = "test.node"


def check_packet(octets: bytes) -> None:
    """A packet that comes back after encoding, or a DecodeError."""
    try:
        value = stream.decode(octets)
    except DecodeError:
        return
    assert stream.decode(stream.encode(value)) == value


def check_receiver(plains: list[tuple[bytes, int, bool]]) -> None:
    """Whatever a payer encrypts is answered, and nothing is fulfilled below its minimum.

    Data is declined in packets of an odd amount.
    """
    one = Receiver(
        key=bytes(32),
        wallets=("w",),
        asset_code="USD",
        asset_scale=9,
        own_address=lambda: OWN,
        takes_data=lambda: True,
    )
    invited = one.invite("w", bytes(NONCE_BYTES))
    assert invited is not None
    destination, secret = invited
    keys = Keys(secret)
    for plain, amount, is_probe in plains:
        data = keys.seal(plain)
        connection = one.find(destination)
        assert connection is not None
        prepare = Prepare(
            amount=amount,
            expires_at_ms=1,
            condition=bytes(32) if is_probe else keys.condition(data),
            destination=destination,
            data=data,
        )
        arrived = one.arrived(connection, prepare, amount)
        answer: Fulfill | Reject
        if isinstance(arrived, Arrival):
            assert not is_probe
            assert stream.decode(plain).amount <= amount
            asked = one.question(arrived)
            if asked is not None:
                json.dumps(question(asked, "")).encode("utf-8")
            if asked is not None and amount % 2:
                answer = one.decline(arrived, "no")
            else:
                answer = one.accepted(arrived) or one.fulfill(arrived)
        else:
            assert arrived.code in ("F06", "F99")
            answer = arrived
        encode(answer)
        if answer.data:
            said = keys.open(answer.data)
            assert said is not None
            assert stream.decode(said).sequence == stream.read_head(plain)[0].sequence


def check_token(text: str) -> None:
    """Nothing but what was made with the key is a token."""
    assert Tokens(b"k" * 32).read(text) is None


def check_pointer(text: str) -> None:
    """A URL, or a ValueError."""
    with contextlib.suppress(ValueError):
        assert spsp.url_of(text).startswith(("http://", "https://"))


def check_decision(octets: bytes) -> None:
    """A decision with a bounded message, or an error that is expected."""
    with contextlib.suppress(ValueError, HttpAnswerError):
        decision = read_decision(read_json(octets))
        assert len(decision.message) <= bounds.DECLINED_MESSAGE_CHARACTERS_MAX
        assert decision.message.isprintable()


def check_answer(body: Any) -> None:
    """An address and a secret, or a ValueError."""
    with contextlib.suppress(ValueError):
        _, secret = spsp.read_answer(body)
        assert len(secret) == 32


_plains = some.hostile(
    st.builds(
        stream.StreamPacket,
        st.integers(0, 2**64 - 1),
        st.just(12) | st.integers(0, 255),
        st.integers(0, 20) | st.integers(0, 2**64 - 1),
        st.lists(
            st.builds(stream.StreamMoney, st.integers(0, 30), st.integers(0, 2**64 - 1))
            | st.builds(stream.StreamClose, st.integers(0, 30), st.integers(0, 255), st.text())
            | st.builds(stream.StreamMoneyBlocked, *[st.integers(0, 2**64 - 1)] * 3)
            | st.builds(stream.ConnectionNewAddress, st.text(max_size=20))
            | st.builds(stream.StreamData, *[st.integers(0, 2**64 - 1)] * 2, st.binary(max_size=9))
            | st.builds(stream.StreamDataBlocked, *[st.integers(0, 2**64 - 1)] * 2)
            | st.builds(stream.ConnectionDataBlocked, st.integers(0, 2**64 - 1))
            | st.builds(stream.ConnectionClose, st.integers(0, 255), st.text(max_size=9)),
            max_size=6,
        ).map(tuple),
    ).map(stream.encode)
)

TARGETS = (
    Target("stream-packet", _plains, check_packet),
    Target(
        "stream-receiver",
        st.lists(st.tuples(_plains, st.integers(0, 30), st.booleans()), max_size=5),
        check_receiver,
    ),
    Target("stream-token", st.text(max_size=200), check_token),
    Target("payment-pointer", st.text() | st.from_regex(r"\$[a-z.]+(/[a-z?#]*)?"), check_pointer),
    Target(
        "payment-decision",
        (
            json_values
            | st.fixed_dictionaries(
                {"accept": st.booleans() | json_values, "message": st.text() | json_values}
            )
        ).map(lambda value: json.dumps(value).encode())
        | st.binary(max_size=99),
        check_decision,
    ),
    Target(
        "spsp-answer",
        json_values
        | st.fixed_dictionaries(
            {"destination_account": st.just("g.a") | json_values, "shared_secret": st.text()}
        ),
        check_answer,
    ),
)
