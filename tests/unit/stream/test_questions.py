"""Questions about data of payments: their ids, their JSON, and the answers that are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.stream import bounds
from connector.stream.packet import StreamData, StreamMoney
from connector.stream.questions import (
    DataPiece,
    Decision,
    PaymentData,
    payment_id_of,
    pieces_of,
    question,
    question_id_of,
    read_decision,
)

ASKED = PaymentData(
    question_id="1" * 32,
    payment_id="2" * 32,
    wallet="alice",
    asset_code="USD",
    asset_scale=9,
    amount=2**64 - 1,
    pieces=(DataPiece(1, 0, "für Miete".encode()), DataPiece(3, 2**64 - 1, b"\xff")),
)


def test_a_question_has_amounts_and_offsets_as_strings_and_text_where_it_is_text() -> None:
    assert question(ASKED, "2026-01-01T00:00:00.000Z") == {
        "id": "1" * 32,
        "paymentId": "2" * 32,
        "wallet": "alice",
        "assetCode": "USD",
        "assetScale": 9,
        "amount": "18446744073709551615",
        "expiresAt": "2026-01-01T00:00:00.000Z",
        "data": [
            {"streamId": "1", "offset": "0", "base64": "ZsO8ciBNaWV0ZQ==", "text": "für Miete"},
            {"streamId": "3", "offset": "18446744073709551615", "base64": "/w==", "text": None},
        ],
    }


def test_only_frames_with_data_are_asked_about() -> None:
    frames = (StreamMoney(1, 1), StreamData(1, 0, b""), StreamData(1, 5, b"x"))
    assert pieces_of(frames) == (DataPiece(1, 5, b"x"),)


def test_ids_follow_from_what_they_are_of() -> None:
    assert question_id_of(b"a") == question_id_of(b"a") != question_id_of(b"b")
    assert payment_id_of("a") != question_id_of(b"a")
    assert len(payment_id_of("token")) == len(question_id_of(b"")) == 32


@pytest.mark.parametrize(
    ("body", "decision"),
    [
        ({"accept": True}, Decision(True)),
        ({"accept": True, "message": None, "more": 1}, Decision(True)),
        ({"accept": False}, Decision(False)),
        ({"accept": False, "message": "no\n thanks\x00"}, Decision(False, "no  thanks")),
        (
            {"accept": False, "message": "x" * 5000},
            Decision(False, "x" * bounds.DECLINED_MESSAGE_CHARACTERS_MAX),
        ),
    ],
)
def test_answers_that_are_read(body: Any, decision: Decision) -> None:
    assert read_decision(body) == decision


@pytest.mark.parametrize(
    "body",
    [None, [], "yes", True, {}, {"accept": 1}, {"accept": "true"}, {"accept": False, "message": 5}],
)
def test_answers_that_say_nothing_are_refused(body: Any) -> None:
    with pytest.raises(ValueError, match="the "):
        read_decision(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("accept"), inner),
)


@given(_JSON)
def test_any_json_is_a_decision_or_refused(body: Any) -> None:
    try:
        decision = read_decision(json.loads(json.dumps(body)))
    except ValueError:
        return
    assert decision.accept is body["accept"]
    assert len(decision.message) <= bounds.DECLINED_MESSAGE_CHARACTERS_MAX
