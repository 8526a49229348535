from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagelight.training.metric_line import COLUMNS, format_line, metric_definitions


def read(line: str) -> dict[str, float]:
    found = {}
    for definition in metric_definitions():
        match = re.search(definition["Regex"], line)
        if match:
            found[definition["Name"]] = float(match.group(1))
    return found


@given(
    st.dictionaries(st.sampled_from(COLUMNS), st.floats(allow_nan=True, allow_infinity=True)),
    st.integers(1, 10_000),
)
def test_every_finite_figure_is_read_back(values: dict[str, float], epoch: int) -> None:
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    assert read(format_line(epoch, values)) == pytest.approx(finite, rel=1e-5)


def test_the_line_as_documented() -> None:
    values = {"train/loss": 0.41, "val/loss": 9.5e-05, "val/accuracy": 0.87, "objective": 0.87}
    assert (
        format_line(3, values)
        == "sagelight-metrics epoch=3 train/loss=0.41 val/loss=9.5e-05 val/accuracy=0.87 objective=0.87"
    )


def test_other_lines_and_other_names_are_not_read() -> None:
    assert read("val/accuracy=0.5 objective=0.5") == {}
    assert read("sagelight-metrics epoch=1 best_val/accuracy_x=0.5") == {}


def test_the_regexes_fit_sagemakers_limits() -> None:
    for definition in metric_definitions():
        assert len(definition["Regex"]) <= 500
        assert re.fullmatch(r".{1,255}", definition["Name"])
