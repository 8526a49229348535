"""A bundle against labelled photos: probabilities photo by photo, and figures of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sagelight.data.index import ImageIndex
from sagelight.errors import DataError
from sagelight.metrics.evaluation import Evaluation, evaluate
from sagelight.serving.predictor import Predictor
from sagelight.serving.stream import Answer, answers

WORKERS = 4
Watch = Callable[[Iterable[Answer], int], Iterable[Answer]]


@dataclass(frozen=True)
class PredictionRow:
    """One photo: its path below the root, its class among the bundle's, and probabilities (C,)."""

    path: str
    target: int
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class UnreadablePhoto:
    path: str
    reason: str


@dataclass(frozen=True)
class SplitPredictions:
    """What a bundle says about a split, in its order; photos that cannot be read are apart."""

    rows: list[PredictionRow] = field(default_factory=list)
    unreadable: list[UnreadablePhoto] = field(default_factory=list)

    def evaluation(self, labels: list[str]) -> Evaluation:
        probabilities = np.stack([row.probabilities for row in self.rows])
        return evaluate(probabilities, np.array([row.target for row in self.rows]), labels)


def evaluate_split(
    predictor: Predictor, index: ImageIndex, split: str, batch_size: int
) -> tuple[Evaluation, list[PredictionRow]]:
    """Measure a bundle on a split; unreadable photos have no row and are not counted.

    Raises:
        DataError: classes that the bundle does not know, or no readable photo.
    """
    found = predict_split(predictor, index, split, batch_size)
    return found.evaluation(predictor.labels), found.rows


def predict_split(
    predictor: Predictor,
    index: ImageIndex,
    split: str,
    batch_size: int,
    watch: Watch = lambda stream, total: stream,
) -> SplitPredictions:
    """Predict every photo of a split; `watch` may show the progress.

    Raises:
        DataError: classes that the bundle does not know, or no readable photo.
    """
    positions = _positions(predictor.labels, index)
    samples = index.splits[split]
    paths = [sample.path for sample in samples]
    stream = watch(answers(predictor, index.source, paths, batch_size, WORKERS), len(paths))
    found = SplitPredictions()
    for sample, answer in zip(samples, stream, strict=True):
        if answer.probabilities is None:
            found.unreadable.append(UnreadablePhoto(answer.file, answer.reason))
        else:
            target = positions[sample.target]
            found.rows.append(PredictionRow(answer.file, target, answer.probabilities))
    if not found.rows:
        raise DataError(
            f"data.root={index.name} has no readable photos in its {split} split "
            f"({len(samples)} files). Type split=train, validation or test, or add photos."
        )
    return found


def _positions(labels: list[str], index: ImageIndex) -> list[int]:
    unknown = [label for label in index.labels if label not in labels]
    if unknown:
        raise DataError(
            f"data.root={index.name} has classes that the bundle does not know: "
            f"{', '.join(unknown)}. It knows {', '.join(labels)}. "
            "Rename or remove those folders, or train on them."
        )
    return [labels.index(label) for label in index.labels]
