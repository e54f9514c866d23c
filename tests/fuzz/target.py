"""What a fuzz target is, the seed corpus, and the loop that runs a target for a time.

A target feeds one parser with anything at all, with damaged valid input and with valid input, and
fails on every exception that is not the parser's own error. The same function runs under
hypothesis everywhere, and under atheris (coverage-guided) where that is installed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.support import strategies as some

VECTORS = Path(__file__).parents[1] / "conformance" / "vectors.json"
_EXAMPLES_PER_ROUND = (20, 200)
"""Few at first: a short run ends in time; then enough for hypothesis to vary what it has found."""


@dataclass(frozen=True)
class Target:
    """One parser and its input."""

    name: str
    inputs: SearchStrategy[Any]
    check: Callable[[Any], None]
    """Calls the parser; catches the parser's own errors and nothing else."""


@cache
def corpus(codec: str) -> tuple[bytes, ...]:
    """The published and own vectors of `codec` (`ilp`, `btp` or `ccp`), accepted or refused."""
    vectors = json.loads(VECTORS.read_text("utf-8"))
    own = vectors["own"]
    found = [*vectors["reference"].get(codec, ()), *own.get(codec, ())]
    found += [one for one in (*own["accepted"], *own["refused"]) if one["codec"] == codec]
    return tuple(sorted({bytes.fromhex(one["hex"]) for one in found}))


def near(codec: str, valid: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Anything, damaged vectors and damaged made-up values, and both as they are."""
    seeds = st.sampled_from(corpus(codec))
    return some.hostile(seeds | valid) | seeds


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-5, 5)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("", "0", "-1", "1e400", "x" * 300, "\x00", "\ud800", "g.a", "9" * 101)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
"""What `json.loads` can return; not only what JSON allows: `Infinity`, `NaN`, lone surrogates."""


def json_octets(values: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """The values as JSON, damaged JSON, deep nesting, and anything at all."""
    written = values.map(lambda value: json.dumps(value).encode())
    deep = st.integers(1, 100_000).map(lambda depth: b"[" * depth)
    numbers = st.integers(1, 6000).map(lambda digits: b"9" * digits)
    return some.hostile(written) | deep | numbers


def near_object(fields: dict[str, SearchStrategy[Any]]) -> SearchStrategy[dict[str, Any]]:
    """Objects with these fields, some left out, some of another type, some unknown."""
    return st.builds(
        lambda known, unknown: {**unknown, **known},
        st.fixed_dictionaries(
            {}, optional={name: value | json_values for name, value in fields.items()}
        ),
        st.dictionaries(st.text(max_size=6), json_values, max_size=2),
    )


def as_test(target: Target, *, examples: int, number: int | None) -> Callable[[], None]:
    """The target as a hypothesis test; `number` seeds it, None: the examples are always the same."""

    def body(value: Any) -> None:
        target.check(value)

    body.__name__ = body.__qualname__ = f"fuzz_{target.name.replace('-', '_')}"
    test = given(target.inputs)(body)
    if number is not None:
        test = seed(number)(test)
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=number is None,
        print_blob=True,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )(test)


def run(target: Target, seconds: float, number: int) -> int:
    """Fuzz one parser for a time; the number of inputs that it was given.

    Raises:
        Exception: what the parser raised that is not its own error, with the input in the notes.
    """
    count = 0
    began_s = time.perf_counter()

    def counted(value: Any) -> None:
        nonlocal count
        count += 1
        target.check(value)

    one = Target(target.name, target.inputs, counted)
    examples, later = _EXAMPLES_PER_ROUND
    while time.perf_counter() - began_s < seconds:
        as_test(one, examples=examples, number=number)()
        number += 1
        examples = later
    return count
