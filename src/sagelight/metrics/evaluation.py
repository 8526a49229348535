"""How good a classifier is, from its probabilities: numpy only, the same for a run and for a bundle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15
BOOTSTRAP_SAMPLES = 1000
# Numbers that are worked on at a time.
AT_ONCE = 500_000
# The 97.5 % quantile of the normal distribution, for intervals of 95 %.
NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True)
class ClassFigures:
    """One class: precision, recall and F1 (0..1; 0 where undefined) and its number of photos."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class CalibrationBin:
    """Photos whose top probability lies in (low, high]: their number, mean confidence and accuracy."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Figures of one split.

    Attributes:
        loss: mean cross-entropy in nats, without label smoothing or class weights.
        accuracy, top5_accuracy: share of photos whose label is first, or among the first five.
        accuracy_low, accuracy_high: 95 % score interval of the accuracy (Wilson 1927), over photos.
        macro_precision, macro_recall, macro_f1: unweighted means over classes that have photos.
        macro_f1_low, macro_f1_high: 95 % percentile bootstrap interval of macro F1, over 1,000 redraws of
            the photos.
        ece: expected calibration error of the top probability in 15 equal bins (Guo et al. 2017, eq. 3).
        confusion: counts, `confusion[true][predicted]`, in the order of `labels`.
    """

    labels: list[str]
    count: int
    loss: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    top5_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    ece: float
    per_class: list[ClassFigures]
    confusion: list[list[int]]
    calibration: list[CalibrationBin]

    def figures(self, split: str) -> dict[str, float]:
        """The scalar figures, named `<split>/<figure>` as in metrics.json."""
        names = (
            "loss accuracy accuracy_low accuracy_high top5_accuracy "
            "macro_precision macro_recall macro_f1 macro_f1_low macro_f1_high ece"
        )
        return {f"{split}/{name}": float(getattr(self, name)) for name in names.split()}

    def to_dict(self) -> dict[str, Any]:
        # asdict would copy each number of a matrix that has a million for a thousand classes.
        return {
            **vars(self),
            "per_class": [asdict(row) for row in self.per_class],
            "calibration": [asdict(row) for row in self.calibration],
        }

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Evaluation:
        return cls(
            **{
                **entries,
                "per_class": [ClassFigures(**row) for row in entries["per_class"]],
                "calibration": [CalibrationBin(**row) for row in entries["calibration"]],
            }
        )


def evaluate(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]], labels: list[str]
) -> Evaluation:
    """Measure predictions against the truth.

    Args:
        probabilities: (N, C), rows sum to 1.
        targets: (N,), class indices 0..C-1.
        labels: the C class names in index order.

    Raises:
        ValueError: no rows, shapes that do not fit, or probabilities that are not finite.
    """
    probabilities = np.asarray(probabilities)
    count, classes = probabilities.shape
    if count == 0 or targets.shape != (count,) or classes != len(labels):
        raise ValueError(
            f"{probabilities.shape} probabilities do not fit {targets.shape} targets and {len(labels)} labels"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("some probabilities are not finite: the network has diverged")
    predicted = probabilities.argmax(axis=1)
    correct = predicted == targets
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    per_class = _per_class(confusion, labels)
    present = [row for row in per_class if row.support > 0]
    low, high = _score_interval(int(correct.sum()), count)
    f1_low, f1_high = _bootstrap_macro_f1(confusion)
    # Of 50,000 photos and 1,000 classes the probabilities are 200 MB, which are neither copied nor sorted as a whole.
    calibration = _calibration(probabilities.max(axis=1).astype(np.float64), correct)
    truth = probabilities[np.arange(count), targets].astype(np.float64)
    return Evaluation(
        labels=list(labels),
        count=count,
        loss=float(-np.log(np.clip(truth, 1e-12, None)).mean()),
        accuracy=float(correct.mean()),
        accuracy_low=low,
        accuracy_high=high,
        top5_accuracy=float(_top_k_correct(probabilities, targets, 5).mean()),
        macro_precision=float(np.mean([row.precision for row in present])),
        macro_recall=float(np.mean([row.recall for row in present])),
        macro_f1=float(np.mean([row.f1 for row in present])),
        macro_f1_low=f1_low,
        macro_f1_high=f1_high,
        ece=sum(b.count * abs(b.confidence - b.accuracy) for b in calibration) / count,
        per_class=per_class,
        confusion=confusion.tolist(),
        calibration=calibration,
    )


def _bootstrap_macro_f1(confusion: NDArray[np.int64]) -> tuple[float, float]:
    """Percentile bootstrap over photos: redrawing N photos redraws the N counts of the matrix."""
    true, predicted = np.nonzero(confusion)
    counts = confusion[true, predicted]
    generator = np.random.default_rng(0)
    scores = []
    # A few at a time: all would be 800 MB for 100,000 photos that are mistaken in as many ways.
    for few in _blocks(BOOTSTRAP_SAMPLES, max(1, AT_ONCE // len(counts))):
        for draw in generator.multinomial(counts.sum(), counts / counts.sum(), few):
            support = np.bincount(true, draw, len(confusion))
            claimed = np.bincount(predicted, draw, len(confusion))
            hits = np.bincount(true, draw * (true == predicted), len(confusion))
            present = support > 0
            scores.append(float((2 * hits[present] / (support + claimed)[present]).mean()))
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def _blocks(count: int, size: int) -> Iterator[int]:
    """`count` in parts of `size`, the last of which may be smaller."""
    for start in range(0, count, size):
        yield min(size, count - start)


def _top_k_correct(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]], k: int
) -> NDArray[np.bool_]:
    hits = np.zeros(len(targets), dtype=np.bool_)
    rows = max(1, AT_ONCE // probabilities.shape[1])
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        best = np.argsort(-probabilities[part], axis=1, kind="stable")[:, :k]
        hits[part] = (best == targets[part, None]).any(axis=1)
    return hits


def _per_class(confusion: NDArray[np.int64], labels: list[str]) -> list[ClassFigures]:
    rows = []
    for index, label in enumerate(labels):
        hits = int(confusion[index, index])
        support, claimed = int(confusion[index].sum()), int(confusion[:, index].sum())
        precision = hits / claimed if claimed else 0.0
        recall = hits / support if support else 0.0
        f1 = 2 * hits / (support + claimed) if support + claimed else 0.0
        rows.append(ClassFigures(label, precision, recall, f1, support))
    return rows


def _score_interval(hits: int, count: int) -> tuple[float, float]:
    # Unlike a bootstrap, it keeps its width where every photo, or none, is right.
    share, square = hits / count, NORMAL_QUANTILE**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    half *= NORMAL_QUANTILE / (1 + square / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def _calibration(
    confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_]
) -> list[CalibrationBin]:
    edges = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
    which = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    bins = []
    for index in range(CALIBRATION_BINS):
        inside = which == index
        count = int(inside.sum())
        bins.append(
            CalibrationBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                count=count,
                confidence=float(confidence[inside].mean()) if count else 0.0,
                accuracy=float(correct[inside].mean()) if count else 0.0,
            )
        )
    return bins
