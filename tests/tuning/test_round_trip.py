"""The golden rule: whatever a tuner hands back parses to the object that the sweep meant."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from sagelight.config.grammar import parse_override
from sagelight.config.hyperparameters import decode, encode
from sagelight.errors import ConfigError
from sagelight.rehearsal.tuning import sample
from sagelight.tuning.ranges import api_ranges
from sagelight.tuning.space import Categorical, Space, read_space, sweep_words

# Hydra's grammar has no text without quotes for these; with quotes every sign may stand.
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
numbers = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | numbers | texts
values = (
    leaves
    | st.lists(leaves, max_size=3)
    | st.dictionaries(st.sampled_from("abc"), leaves, max_size=2)
)


def written(value: Any) -> str:
    """A value as a person would write it in Hydra's grammar, texts in single quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        quoted = value.replace("\\'", "\\\\'") if value.endswith("\\") else value
        return "'" + quoted.replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    return repr(value)


@settings(max_examples=200, deadline=None)
@given(st.lists(values, min_size=2, max_size=4), st.booleans())
def test_choices_come_back_as_the_objects_that_were_meant(chosen: list[Any], wrapped: bool) -> None:
    texts = [written(value) for value in chosen]
    try:
        override = parse_override(f"model.weights={','.join(texts)}")
        meant = [parse_override(f"model.weights={text}").value() for text in texts]
    except ConfigError:
        # A text that Hydra itself cannot read is no sweep.
        reject()
    assume(len({repr(item) for item in meant}) == len(meant))
    (dimension,) = read_space([override]).dimensions
    assert isinstance(dimension, Categorical)
    # A study inside a job is sent the space in the same grammar.
    assert read_space(map(parse_override, sweep_words(Space((dimension,))))) == Space((dimension,))
    came_back = []
    for text in dimension.values:
        sent = json.dumps(text) if wrapped else text
        (again,) = decode({"model.weights": sent})
        came_back.append(parse_override(again).value())
    assert came_back == meant
    assert list(map(type, came_back)) == list(map(type, meant))


@settings(max_examples=200, deadline=None)
@given(
    st.floats(1e-6, 1.0),
    st.floats(1.001, 1e4),
    st.sampled_from(["interval({},{})", "tag(log,interval({},{}))"]),
    st.sampled_from([repr, "{:.17g}".format, "{:E}".format]),
    st.integers(0, 2**32),
)
def test_numbers_of_an_interval_come_back_within_it(
    low: float, factor: float, form: str, as_text: Any, seed: int
) -> None:
    high = low * factor
    space = read_space([parse_override(f"optimizer.lr={form.format(repr(low), repr(high))}")])
    assert read_space(map(parse_override, sweep_words(space))) == space
    drawn = sample(api_ranges(space), random.Random(seed))["optimizer.lr"]
    (override,) = decode({"optimizer.lr": as_text(float(drawn))})
    value = parse_override(override).value()
    assert isinstance(value, float)
    assert (
        low <= value <= high
        or math.isclose(value, low, rel_tol=1e-5)
        or math.isclose(value, high, rel_tol=1e-5)
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 2**32))
def test_numbers_of_a_range_come_back_whole_and_never_reach_its_stop(
    start: int, length: int, seed: int
) -> None:
    stop = start + length + 1
    space = read_space([parse_override(f"trainer.max_epochs=range({start},{stop})")])
    assert read_space(map(parse_override, sweep_words(space))) == space
    drawn = sample(api_ranges(space), random.Random(seed))
    (override,) = decode(drawn)
    value = parse_override(override).value()
    assert isinstance(value, int)
    assert start <= value < stop


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=600), max_size=30))
def test_overrides_survive_the_hyperparameters_however_long(overrides: list[str]) -> None:
    encoded = encode(overrides)
    assert all(
        len(value) <= 2500 and value.isascii() and "\n" not in value for value in encoded.values()
    )
    assert decode(encoded) == overrides
    assert decode({name: json.dumps(value) for name, value in encoded.items()}) == overrides


def test_what_the_service_adds_is_dropped() -> None:
    found = decode(
        {
            "sagemaker_program": "x.py",
            "sagemaker_region": '"us-east-1"',
            "_tuning_objective_metric": "objective",
            "sagelight_run": "run",
            "optimizer.lr": "1e-05",
            "model": '"resnet50"',
        }
    )
    assert found == ["model=resnet50", "optimizer.lr=1e-05"]


def test_sdk_objects_and_our_ranges_say_the_same() -> None:
    pytest.importorskip("sagemaker.core.parameter")
    from sagelight.tuning.ranges import sdk_ranges

    space = read_space(
        [
            parse_override(text)
            for text in (
                "optimizer.lr=tag(log,interval(0.001,0.1))",
                "finetune.decay=tag(reverse_log,interval(.5,.999))",
                "trainer.max_epochs=range(2,11)",
                "model=resnet18,resnet50",
            )
        ]
    )
    ours = api_ranges(space)
    flat = {each["Name"]: each for kind in ours.values() for each in kind}
    theirs = {
        name: parameter.as_tuning_range(name) for name, parameter in sdk_ranges(space).items()
    }
    assert theirs == flat


def test_a_grid_lists_whole_numbers() -> None:
    space = read_space([parse_override("trainer.max_epochs=range(2,5)")])
    assert api_ranges(space, "grid") == {
        "CategoricalParameterRanges": [{"Name": "trainer.max_epochs", "Values": ["2", "3", "4"]}]
    }
    assert api_ranges(Space()) == {}
