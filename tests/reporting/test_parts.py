from __future__ import annotations

import numpy as np
import pytest
from markupsafe import Markup

from sagelight.metrics.evaluation import Evaluation, evaluate
from sagelight.reporting.confusion import MOST_CLASSES, confused_pairs, confusion_matrix
from sagelight.reporting.origin import settings
from sagelight.reporting.text import breakable, duration, figure, percent, plural, value


def measured(pairs: list[tuple[int, int]], classes: int) -> Evaluation:
    """An evaluation of photos of class `true` that were predicted as `predicted`, one a pair."""
    chances = np.full((len(pairs), classes), 0.1 / (classes - 1))
    chances[np.arange(len(pairs)), [predicted for _, predicted in pairs]] = 0.9
    labels = [f"c{number:03d}" for number in range(classes)]
    return evaluate(chances, np.array([true for true, _ in pairs]), labels)


def test_shades_are_shares_of_the_row() -> None:
    matrix = confusion_matrix(measured([(0, 0)] * 7 + [(0, 1)] * 3 + [(1, 1)] * 50, 2))
    assert [[(cell.count, cell.css) for cell in row.cells] for row in matrix.rows] == [
        [(7, "c7 t"), (3, "c3")],
        [(0, ""), (50, "c10 t")],
    ]
    assert [row.total for row in matrix.rows] == [10, 50]
    assert matrix.has_counts


def test_a_single_photo_of_many_is_still_visible() -> None:
    matrix = confusion_matrix(measured([(0, 0)] * 99 + [(0, 1)], 2))
    assert matrix.rows[0].cells[1].css == "c1"


def test_of_too_many_classes_the_worst_are_shown_in_order() -> None:
    pairs = [(number, number) for number in range(200)] + [(199, 3), (50, 198)]
    matrix = confusion_matrix(measured(pairs, 200))
    assert len(matrix.labels) == MOST_CLASSES == 200 - matrix.left_out
    assert {"c199", "c003", "c050", "c198"} <= set(matrix.labels)
    assert matrix.labels == sorted(matrix.labels)
    assert {len(row.cells) for row in matrix.rows} == {MOST_CLASSES}
    assert not matrix.has_counts


def test_pairs_are_ordered_by_photos_then_by_share() -> None:
    pairs = [(0, 1)] * 2 + [(0, 0)] * 8 + [(1, 2)] * 2 + [(1, 1)] * 2 + [(2, 0)] * 3
    found = confused_pairs(measured(pairs, 3), 5)
    assert [(pair.label, pair.predicted, pair.count, pair.support) for pair in found] == [
        ("c002", "c000", 3, 3),
        ("c001", "c002", 2, 4),
        ("c000", "c001", 2, 10),
    ]
    assert confused_pairs(measured(pairs, 3), 1) == found[:1]


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0.5, "50.0%"),
        (1, "100.0%"),
        (0.9999, ">99.9%"),
        (0.0001, "<0.1%"),
        (0, "0.0%"),
        (None, "–"),
    ],
)
def test_percent_never_rounds_to_all_or_nothing(share: float | None, written: str) -> None:
    assert percent(share) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(8.44, "8.4 s"), (59.97, "1 min 00 s"), (192, "3 min 12 s"), (3840, "1 h 04 min")],
)
def test_durations(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_words_around_figures() -> None:
    assert figure(float("nan")) == "–"
    assert [plural(1, "photo"), plural(1200, "class", "classes")] == ["1 photo", "1,200 classes"]


def test_names_break_after_marks_and_stay_escaped() -> None:
    assert breakable("a_b<i>/c") == Markup("a_<wbr>b&lt;i&gt;/<wbr>c")


@pytest.mark.parametrize(
    ("entry", "written"),
    [
        (None, "null"),
        (True, "true"),
        (0.00080, "0.0008"),
        ([], "none"),
        ([1, "a"], "1, a"),
        (3, "3"),
    ],
)
def test_settings_read_like_yaml(entry: object, written: str) -> None:
    assert value(entry) == written


def test_settings_are_grouped_and_flattened() -> None:
    groups = settings({"seed": 3, "model": {"name": "x", "deep": {"er": 1}}})
    flat = {name: [(fact.name, fact.value) for fact in facts] for name, facts in groups.items()}
    assert flat == {"run": [("seed", "3")], "model": [("name", "x"), ("deep.er", "1")]}
