"""A short run of every fuzz target; `scripts/fuzz` runs them for as long as one likes."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.fuzz.target import Target, as_test, corpus, run
from tests.fuzz.targets import TARGETS

EXAMPLES_MAX = 500
"""Of the slowest targets, which write files, seconds."""
SEED = 20_260_101


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_raises_nothing_but_its_own_error(name: str) -> None:
    """As many inputs on a busy machine as on an idle one: always the same ones."""
    target = TARGETS[name]
    examples = min(settings().max_examples, EXAMPLES_MAX)
    checked = []

    def check(value: object) -> None:
        checked.append(1)
        target.check(value)

    as_test(Target(name, target.inputs, check), examples=examples, number=SEED)()
    assert len(checked) >= examples


def test_a_fault_is_found_and_shown_with_its_input() -> None:
    def fails_from_100(value: int) -> None:
        if value >= 100:
            raise KeyError(value)

    from hypothesis import strategies as st

    with pytest.raises(KeyError) as caught:
        run(Target("made-up", st.integers(0, 10_000), fails_from_100), 5.0, SEED)
    assert caught.value.args == (100,), "shrunk to the smallest"


def test_there_is_a_seed_corpus() -> None:
    assert len(corpus("ilp")) > 50
    assert len(corpus("btp")) > 20
