"""Messages for values that are not valid: what is wrong, and where the value was written.

pydantic's own messages name types of Python and parsers; an operator reads the name of a variable, or a
file and its key, the value, and what it must be. Values of secrets are never shown, nor what may
hold one: URLs with credentials or a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import SecretStr, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from connector.settings import bounds
from connector.settings.model import PeerSettings, Settings
from connector.settings.types import PEER_VARIABLE, WHOLE_NUMBER

SECRETS: Final = frozenset(
    name
    for model in (Settings, PeerSettings)
    for name, field in model.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
)
"""The fields whose values are shown nowhere."""
_NUMBER: Final = "must be a number such as 0.5"
_TEXT: Final = "must be text: put it in quotes"
_TRUTH: Final = "must be true or false"
_MAPPING: Final = "must be keys with values, such as {{prefix: g.bob, nextHop: bob}}"
# By the type of pydantic's error; its context is filled in.
_WORDS: Final[Mapping[str, str]] = {
    "int_parsing": WHOLE_NUMBER,
    "int_parsing_size": WHOLE_NUMBER,
    "int_type": WHOLE_NUMBER,
    "int_from_float": WHOLE_NUMBER,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_parsing": _TRUTH,
    "bool_type": _TRUTH,
    "string_type": _TEXT,
    "path_type": _TEXT,
    "list_type": "must be a list",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "missing": "is required",
    "extra_forbidden": "is not a setting",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters or less",
    "too_long": "has {actual_length} entries, of {max_length} at most",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}


def in_plain_words(fault: ErrorDetails) -> list[str]:
    """What is wrong, a line for each fault; without the value."""
    kind = fault["type"]
    if fault["input"] is None and kind.endswith("_type"):
        return ["has no value"]
    if kind in _WORDS:
        context = fault.get("ctx", {}).items()
        shown = {key: f"{one:g}" if isinstance(one, float) else one for key, one in context}
        return [_WORDS[kind].format(**shown)]
    message = fault["msg"].removeprefix("Value error, ")
    if message.startswith("Input should be "):
        message = f"must be {message.removeprefix('Input should be ')}"
    return message.split("\n")


def explain(
    error: ValidationError, peer_ids: Sequence[str], sources: Mapping[str, str]
) -> list[str]:
    """The faults of settings that were loaded, a line each.

    Args:
        error: of `Settings`.
        peer_ids: the ids of its peers, in their order.
        sources: `Loaded.sources`.
    """
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        location = [_BY_ALIAS.get(str(part), part) for part in fault["loc"]]
        said = in_plain_words(fault)
        where = _where(location, fault["loc"], peer_ids, sources) if location else ""
        given = _given(location, fault["input"], said)
        lines.extend(f"{where}{given}: {line}" if where else line for line in said)
    return lines


_BY_ALIAS: Final = {
    to_camel(name): name for name in PeerSettings.model_fields | Settings.model_fields
}


def _where(
    location: Sequence[Any],
    written: Sequence[int | str],
    peer_ids: Sequence[str],
    sources: Mapping[str, str],
) -> str:
    """The variable, or the file and its key: `ROUTES[0].nextHop`, `hub.yaml: peers[1].secret`."""
    if location[0] == "peers" and len(location) > 1 and isinstance(location[1], int):
        return _where_of_peer(peer_ids[location[1]], location[2:], written[2:], sources)
    source = sources.get(str(location[0]), "")
    rest = _path(written[1:])
    return f"{source if _is_key(source) else str(location[0]).upper()}{rest}"


def _where_of_peer(
    peer_id: str, location: Sequence[Any], written: Sequence[int | str], sources: Mapping[str, str]
) -> str:
    source = sources.get(f"peers.{peer_id}.{location[0]}", "") if location else ""
    if _is_key(source):
        return f"{source}{_path(written[1:])}"
    whole = sources.get(f"peers.{peer_id}.id", "")
    if not source and _is_key(whole):
        # A key that is missing, or a fault of the peer as a whole.
        return f"{whole.removesuffix('.id')}{_path(written)}"
    name = f"{PEER_VARIABLE}{peer_id.upper().replace('-', '_')}"
    return "_".join([name, *(str(part).upper() for part in location if isinstance(part, str))])


def _is_key(source: str) -> bool:
    """Whether a source is a key of a file, not a variable."""
    return ": " in source


def _path(parts: Iterable[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _given(location: Iterable[Any], value: Any, said: Iterable[str]) -> str:
    """`='the value'`, if it may be shown."""
    # Lists and mappings can be large, and hold anything.
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return ""
    if not SECRETS.isdisjoint(part for part in location if isinstance(part, str)):
        return ""
    text = str(value)
    if (
        "@" in text
        or ("://" in text and "?" in text)
        or len(text) > bounds.VALUE_SHOWN_CHARACTERS_MAX
    ):
        return ""
    shown = repr(value)
    return "" if any(shown in line for line in said) else f"={shown}"
