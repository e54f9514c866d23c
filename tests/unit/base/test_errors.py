"""The tree of exceptions."""

from __future__ import annotations

import re

import pytest

from connector.base import errors
from connector.base.errors import ConfigError, ConnectorError, DecodeError, LedgerRefusedError

_BRANCH = re.compile(r"^(?P<indent>[│ ]*)[├└]── (?P<name>\w+)", re.MULTILINE)


def drawn_tree() -> dict[str, str]:
    """Child to parent, as the docstring of the module draws it."""
    assert errors.__doc__ is not None
    path = ["ConnectorError"]
    tree = {"ConnectorError": "Exception"}
    for found in _BRANCH.finditer(errors.__doc__):
        depth = len(found["indent"]) // 4 + 1
        path[depth:] = [found["name"]]
        tree[found["name"]] = path[depth - 1]
    return tree


def test_the_tree_is_as_it_is_drawn() -> None:
    real = {
        name: value.__base__.__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, ConnectorError)
    }
    assert real == drawn_tree()


def test_a_decode_error_says_which_field_where_and_what() -> None:
    error = DecodeError("expiry", 9, "not 17 digits")
    assert str(error) == "expiry at octet 9: not 17 digits"
    assert (error.field, error.offset, error.reason) == ("expiry", 9, "not 17 digits")


def test_a_config_error_holds_every_fault_and_shows_a_line_each() -> None:
    error = ConfigError(["one", "two"])
    assert error.faults == ("one", "two")
    assert str(error) == "one\ntwo"


def test_a_refusal_of_the_ledger_has_a_fixed_word_and_shows_its_message() -> None:
    error = LedgerRefusedError("wrong_cluster", "that is cluster 7, not 0")
    assert error.reason == "wrong_cluster"
    assert str(error) == error.message == "that is cluster 7, not 0"


def test_no_error_on_purpose_is_mistaken_for_a_bug_of_ours() -> None:
    assert not issubclass(ConnectorError, AssertionError)
    with pytest.raises(ConnectorError):
        raise DecodeError("f", 0, "r")
