"""Some dozens of changed inputs for every target; `make fuzz` gives them a million, and is guided by coverage."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzing.changes import change_bytes
from fuzzing.every import SHARES, every
from fuzzing.target import Target

TARGETS = every()
OFTEN, SELDOM = 25, 3


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Valid inputs after one to three changes, and noise."""
    numbers = st.lists(st.integers(0, 2**32), min_size=1, max_size=3)
    changed = st.builds(_changed, st.just(target), st.sampled_from(target.seeds()), numbers)
    return changed | st.binary(max_size=60)


def _changed(target: Target, data: bytes, numbers: list[int]) -> bytes:
    for number in numbers:
        blind = target.change is None or number % 3 == 0
        data = (change_bytes if blind else target.change)(Random(number), data)
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_answers_or_refuses_in_words(name: str) -> None:
    target = TARGETS[name]
    examples = OFTEN if SHARES[name] > 2 else SELDOM

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
    @given(inputs(target))
    def execute(data: bytes) -> None:
        target.execute(data)

    execute()


@pytest.mark.parametrize("name", [name for name in TARGETS if SHARES[name] > 1])
def test_its_seeds_are_what_our_own_writers_write(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].execute(seed)


def test_every_target_has_its_share() -> None:
    assert list(TARGETS) == list(SHARES)


def test_what_is_no_documented_refusal_is_a_crash() -> None:
    def run(data: bytes) -> None:
        raise {b"known": ValueError("why"), b"silent": ValueError(), b"other": KeyError()}[data]

    target = Target(run, list, refusals=(ValueError,))
    target.execute(b"known")
    with pytest.raises(AssertionError):
        target.execute(b"silent")
    with pytest.raises(KeyError):
        target.execute(b"other")
