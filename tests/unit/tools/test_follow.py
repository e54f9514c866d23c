"""Messages of a live feed, as commands handle them."""

from __future__ import annotations

import json

import pytest

from connector.base.errors import EnvironmentFault
from connector.tools.follow import _read

FULFILLED = {"type": "PACKET_FULFILLED"}
REJECTED = {"type": "PACKET_REJECTED"}


def test_the_first_message_has_the_last_packets_and_the_others_events() -> None:
    assert _read("u", json.dumps({"seq": 7, "packets": [FULFILLED]})) == (7, [FULFILLED])
    assert _read("u", json.dumps({"seq": 8, "events": [REJECTED]})) == (8, [REJECTED])
    assert _read("u", json.dumps({"seq": 9})) == (9, [])


def test_after_a_gap_what_was_told_before_is_not_told_again() -> None:
    text = json.dumps({"seq": 7, "gap": True, "packets": [FULFILLED], "events": [REJECTED]})
    assert _read("u", text) == (7, [REJECTED])


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[1]", "7", "{}", '{"seq": null}', '{"seq": 1, "events": 5}',
     '{"seq": 1, "events": [5]}', '{"seq": 1, "events": [{}]}', '{"seq": 1e999}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_feed_is_told_in_one_line(text: str) -> None:
    with pytest.raises(EnvironmentFault, match="http://n/ws sends no events: not a connector"):
        _read("http://n", text)
