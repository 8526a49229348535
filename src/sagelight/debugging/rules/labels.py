"""Rules about labels and predictions.

Names, parameters and defaults are AWS's (Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sagelight.debugging.rules.base import Look, Rule
from sagelight.debugging.rules.reading import EVAL
from sagelight.debugging.trial import Moment, Trial


@dataclass
class ClassImbalance(Rule):
    """After `samples` labels, the most frequent class has more than `threshold_imbalance` times as many as the rarest;
    or, at the end, more than `threshold_misprediction` of a class with less than half its fair share is mispredicted.

    `argmax` says that predictions are scores by class (B, C), not classes (B,).
    """

    threshold_imbalance: float = 10.0
    threshold_misprediction: float = 0.7
    samples: int = 500
    argmax: bool = False
    labels_regex: str = ".*labels"
    predictions_regex: str = ".*predictions"
    _labels: dict[int, int] = field(default_factory=dict, repr=False)
    _seen: dict[int, int] = field(default_factory=dict, repr=False)
    _wrong: dict[int, int] = field(default_factory=dict, repr=False)
    _last: Moment | None = field(default=None, repr=False)

    means: ClassVar[str] = "some classes have so few photos that they are hardly learned"
    advice: ClassVar[str] = (
        "Type loss=balanced, add photos of the rare classes, and judge by val/macro_f1 (hpo.metric)."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        labels = _first(trial, moment, self.labels_regex)
        if labels is None:
            return Look()
        predictions = _classes(_first(trial, moment, self.predictions_regex), self.argmax)
        _count(self._labels, labels)
        self._last = moment
        if predictions is not None and moment.mode == EVAL:
            # What a network mispredicts before it has learned says nothing.
            self._seen, self._wrong = {}, {}
            _count(self._seen, labels)
            _count(self._wrong, labels[predictions[: len(labels)] != labels])
        return Look()

    def last(self, trial: Trial) -> Look:
        found = Look()
        total = sum(self._labels.values())
        if total < self.samples or self._last is None:
            return found
        most, least = max(self._labels.values()), min(self._labels.values())
        rare = min(self._labels, key=lambda each: self._labels[each])
        found.judge(
            most > self.threshold_imbalance * least,
            self._last,
            f"class {rare}",
            f"{least} of {total} labels, the most frequent class has {most}",
        )
        fair = total / len(self._labels)
        for name, seen in self._seen.items():
            share = self._wrong.get(name, 0) / seen
            scarce = self._labels.get(name, 0) < fair / 2
            numbers = f"{100 * share:.0f} % of its {seen} samples mispredicted"
            wrong = scarce and share > self.threshold_misprediction
            found.judge(wrong, self._last, f"class {name}", numbers)
        return found

    def lacks(self, trial: Trial) -> str:
        total = sum(self._labels.values())
        return f"the trial holds {total} labels of the {self.samples} that it needs"


@dataclass
class Confusion(Rule):
    """In the confusion matrix of the last validation, or of all steps where there is none, less than `min_diag` of a
    class is predicted rightly, or more than `max_off_diag` as one other class.

    `category_no` is the number of classes (None: as met). Predictions may be scores by class (B, C) or classes (B,).
    """

    category_no: int | None = None
    labels: str = "labels"
    predictions: str = "predictions"
    labels_collection: str = "labels"
    predictions_collection: str = "predictions"
    min_diag: float = 0.9
    max_off_diag: float = 0.1
    _rows: dict[str, list[NDArray[Any]]] = field(default_factory=dict, repr=False)
    _last: Moment | None = field(default=None, repr=False)

    means: ClassVar[str] = "some classes are taken for others"
    advice: ClassVar[str] = (
        "Look at the mistakes in the report: are the labels right, and can a person tell the classes apart?"
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        labels = _first(trial, moment, f"^{self.labels}$", self.labels_collection)
        predictions = _first(trial, moment, f"^{self.predictions}$", self.predictions_collection)
        if labels is None or predictions is None:
            return Look()
        predictions = _classes(predictions, predictions.ndim > 1)
        assert predictions is not None
        rows = np.stack([labels, predictions[: len(labels)]], axis=1)
        if moment.mode == EVAL:
            self._rows[EVAL] = [rows]
        else:
            self._rows.setdefault(moment.mode, []).append(rows)
        self._last = moment
        return Look()

    def last(self, trial: Trial) -> Look:
        found = Look()
        rows = self._rows.get(EVAL) or next(iter(self._rows.values()), None)
        if not rows or self._last is None:
            return found
        pairs = np.concatenate(rows)
        classes = self.category_no or int(pairs.max()) + 1
        matrix = np.zeros((classes, classes))
        np.add.at(matrix, (pairs[:, 0], pairs[:, 1]), 1)
        for name, row in enumerate(matrix):
            if row.sum():
                self._judge(found, name, row / row.sum())
        return found

    def _judge(self, found: Look, name: int, shares: NDArray[np.float64]) -> None:
        assert self._last is not None
        others = np.delete(shares, name)
        numbers = f"{100 * shares[name]:.0f} % are predicted rightly"
        if others.size and others.max() > 0:
            other = int(np.argmax(np.where(np.arange(shares.size) == name, -1, shares)))
            numbers += f", {100 * others.max():.0f} % as class {other}"
        mixed = bool(others.size) and others.max() > self.max_off_diag
        wrong = shares[name] < self.min_diag or mixed
        found.judge(bool(wrong), self._last, f"class {name}", numbers)

    def lacks(self, trial: Trial) -> str:
        return "the trial holds no labels with predictions"


def _first(
    trial: Trial, moment: Moment, regex: str, collection: str | None = None
) -> NDArray[Any] | None:
    names = trial.names(regex=regex, moment=moment)
    if not names and collection is not None:
        names = trial.names(collection=collection, moment=moment)
    return trial.value(names[0], moment.mode, moment.step) if names else None


def _classes(predictions: NDArray[Any] | None, argmax: bool) -> NDArray[Any] | None:
    if predictions is None or not argmax or predictions.ndim < 2:
        return predictions
    return np.asarray(predictions.argmax(axis=1))


def _count(counts: dict[int, int], labels: NDArray[Any]) -> None:
    for name, number in zip(*np.unique(labels.astype(int), return_counts=True), strict=True):
        counts[int(name)] = counts.get(int(name), 0) + int(number)
