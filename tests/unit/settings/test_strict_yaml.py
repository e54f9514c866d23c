"""Strict YAML: nothing is converted by surprise; size and depth are bounded."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from connector.settings.strict_yaml import YamlFault, read

_TEXT = st.text("abcxyz 019:._-", max_size=12)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_what_a_program_writes_is_read_without_a_fault(value: Any) -> None:
    assert read(yaml.safe_dump(value)) == (value, [])


@given(st.text("ab01:[]{}&*-? \n#|>!'\"x,.", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read(text)
    except YamlFault:
        pass


@pytest.mark.parametrize(
    "number", ["010", "00", "0b11", "0x1F", "1:30", "18:00", "-010", "1:30.5", "190:20:30"]
)
def test_numbers_of_another_base_stay_text_and_are_faults(number: str) -> None:
    value, (fault,) = read(f"a: 1\nb: {number}")
    assert value == {"a": 1, "b": number}
    assert fault.startswith("line 2: a number")
    assert read(f"b: '{number}'") == ({"b": number}, [])


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-7", -7), ("1_000", 1000), ("0.5", 0.5), ("09", "09"), ("0o7", "0o7")]
)  # fmt: skip
def test_decimal_numbers_and_texts_are_read(text: str, value: Any) -> None:
    assert read(text) == (value, [])


def test_a_key_may_override_one_that_is_mixed_in() -> None:
    value, faults = read("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")
    assert value["b"] == {"x": 3, "y": 2}
    assert faults == []


def test_all_keys_that_stand_twice_are_named() -> None:
    assert read("a: 1\na: 2\nb: {c: 1, c: 2}")[1] == [
        "line 2: a stands twice",
        "line 3: c stands twice",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "a: " + "{b: " * 5000,
        "- " * 20_000,
        "\n".join(" " * n + "a:" for n in range(60)),
        "&a {x: *a}",
        "&a [*a]",
    ],
    ids=["brackets", "braces", "dashes", "indentation", "endless mapping", "endless list"],
)
def test_what_is_deep_or_endless_is_refused(text: str) -> None:
    with pytest.raises(YamlFault, match="nested too deep"):
        read(text)


def test_what_aliases_make_large_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(YamlFault, match="too many values"):
        read("\n".join(lines))
