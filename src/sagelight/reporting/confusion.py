"""The confusion matrix as a heat map, and the pairs of classes most often confused."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from sagelight.metrics.evaluation import Evaluation

# 150 x 150 cells are about 200 KB of page; a browser lays them out in a blink.
MOST_CLASSES = 150
MOST_CLASSES_WITH_COUNTS = 25
LEVELS = 10


@dataclass(frozen=True)
class Cell:
    """A count and its style: `c0`..`c10` by its share of the row, `t` on the diagonal."""

    count: int
    css: str


@dataclass(frozen=True)
class Row:
    label: str
    total: int
    cells: list[Cell]


@dataclass(frozen=True)
class Matrix:
    """The matrix over `labels`; `left_out` classes with the fewest mistakes are not in it."""

    labels: list[str]
    rows: list[Row]
    left_out: int

    @property
    def has_counts(self) -> bool:
        return len(self.labels) <= MOST_CLASSES_WITH_COUNTS


@dataclass(frozen=True)
class Pair:
    """`count` of the `support` photos of `label` were taken for `predicted`."""

    label: str
    predicted: str
    count: int
    support: int


def confusion_matrix(evaluation: Evaluation) -> Matrix:
    """The heat map's cells; of more than 150 classes, those with the most mistakes."""
    shown = _shown(evaluation.confusion)
    labels = [evaluation.labels[index] for index in shown]
    rows = []
    for index in shown:
        counts, total = evaluation.confusion[index], sum(evaluation.confusion[index])
        cells = [_cell(counts[other], total, index == other) for other in shown]
        rows.append(Row(evaluation.labels[index], total, cells))
    return Matrix(labels, rows, len(evaluation.labels) - len(shown))


def _shown(confusion: list[list[int]]) -> list[int]:
    every = range(len(confusion))
    missed = [sum(row) - row[index] for index, row in enumerate(confusion)]
    claimed = [
        sum(column) - column[index] for index, column in enumerate(zip(*confusion, strict=True))
    ]
    worst = sorted(every, key=lambda index: -missed[index] - claimed[index])
    return sorted(worst[:MOST_CLASSES])


def _cell(count: int, total: int, diagonal: bool) -> Cell:
    if not count:
        return Cell(0, "")
    level = max(1, round(LEVELS * count / total))
    return Cell(count, f"c{level} t" if diagonal else f"c{level}")


def confused_pairs(evaluation: Evaluation, most: int) -> list[Pair]:
    """The pairs with the most photos; of equal ones, the larger share of its class first."""
    pairs = [
        Pair(evaluation.labels[true], evaluation.labels[predicted], count, sum(row))
        for true, row in enumerate(evaluation.confusion)
        for predicted, count in enumerate(row)
        if count and predicted != true
    ]
    pairs.sort(key=attrgetter("label", "predicted"))
    return sorted(pairs, key=lambda pair: (-pair.count, pair.support))[:most]
