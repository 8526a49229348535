from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from sagelight.models.figures import MeanOverPhotos, ValidationFigures


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_figures_of_batches_are_those_of_all_photos(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(70, classes, generator=generator)
    # The last class is neither shown nor, mostly, answered.
    scores[:, -1] -= 20 * (classes > 2)
    targets = torch.randint(0, max(2, classes - 1), (70,), generator=generator)
    figures = ValidationFigures(classes)
    for rows in torch.arange(70).split(32):
        figures.update(scores[rows], targets[rows])
    top5 = multiclass_accuracy(scores, targets, classes, average="micro", top_k=min(5, classes))
    assert {name: float(value) for name, value in figures.compute().items()} == pytest.approx(
        {
            "val/loss": float(F.cross_entropy(scores, targets)),
            "val/accuracy": float(multiclass_accuracy(scores, targets, classes, average="micro")),
            "val/top5_accuracy": float(top5),
            "val/macro_f1": float(multiclass_f1_score(scores, targets, classes, average="macro")),
        },
        rel=1e-6,
    )


def test_a_mean_counts_photos_and_hides_no_nan() -> None:
    mean = MeanOverPhotos()
    mean.update(torch.tensor(6.0), 3)
    mean.update(torch.tensor(2.0), 1)
    assert mean.compute() == 2
    mean.update(torch.tensor(torch.nan), 4)
    assert mean.compute().isnan()
    mean.reset()
    mean.update(torch.tensor(3.0), 1)
    assert mean.compute() == 3
