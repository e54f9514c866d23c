"""Strict YAML: constructs of YAML 1.1 with a surprising meaning are faults.

A duplicate key would silently drop one of its values; `010` is eight and `18:00` is 1080 in YAML
1.1. Aliases may repeat values, but the expanded size is bounded.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from connector.settings import bounds

# Octal, sexagesimal, hexadecimal and binary numbers of YAML 1.1.
_OTHER_BASE: Final = re.compile(
    r"[-+]?(?:0[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)"
)


class YamlFault(Exception):  # noqa: N818 - one line of many, not an error that ends something
    """The text is not acceptable YAML; the message may begin with the line."""


def read(text: str) -> tuple[Any, list[str]]:
    """The value of a YAML text, and the faults in it that do not prevent reading it.

    Raises:
        YamlFault: it is not YAML, or beyond YAML_VALUES_MAX or YAML_DEPTH_MAX.
    """
    _check_depth(text)
    loader = _Loader(text)
    try:
        value = loader.get_single_data()
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise YamlFault(f"{line}: {getattr(error, 'problem', None) or error}") from None
    except (
        RecursionError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
    ) as error:
        # A date such as 2001-99-99, an anchor within itself, a list as a key.
        raise YamlFault(f": {' '.join(str(error).split())[:200]}") from None
    finally:
        loader.dispose()
    _check_size(value)
    return value, loader.faults


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, in C if available, which also records faults."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.faults: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """See `SafeConstructor`; duplicate keys are recorded as faults."""
        seen: set[str] = set()
        # Before keys of `<<` are mixed in: those may be overridden.
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                self.faults.append(f"line {key.start_mark.line + 1}: {key.value} stands twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """A number; one of another base than ten is recorded as a fault, and kept as text."""
        if _OTHER_BASE.fullmatch(node.value):
            # Without the value: it may be a secret.
            self.faults.append(
                f"line {node.start_mark.line + 1}: a number as 010, 0x1f or 1:30, which YAML does "
                "not read as it is written: write a decimal number, or quote it if it is text"
            )
            return node.value
        if node.tag == "tag:yaml.org,2002:int":
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _check_depth(text: str) -> None:
    """Refuse texts nested too deep, before the parser, which is recursive, sees them.

    Only brackets nest deep in few octets; nesting by indentation needs ever longer lines.
    """
    depth = 0
    for bracket in re.finditer(r"[\[{]+|[\]}]+", text):
        run = bracket.group()
        depth = depth + len(run) if run[0] in "[{" else max(0, depth - len(run))
        # Brackets in texts and comments are counted as well, and may not be closed there.
        if depth > 100 * bounds.YAML_DEPTH_MAX:
            raise YamlFault(": it is nested too deep")
    for line in text.splitlines():
        if len(line) - len(line.lstrip(" -?")) > 100 * bounds.YAML_DEPTH_MAX:
            raise YamlFault(": it is nested too deep")


def _check_size(value: Any) -> None:
    """Refuse a value that aliases make too large, too deep or cyclic; every repetition counts."""
    count = 0
    level = [value]
    for _ in range(bounds.YAML_DEPTH_MAX):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list | tuple | set):
                below += one
            count += 1
        if count + len(below) > bounds.YAML_VALUES_MAX:
            raise YamlFault(": it has too many values")
        if not below:
            return
        level = below
    raise YamlFault(": it is nested too deep")
