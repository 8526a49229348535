"""Figures of an epoch, gathered where the network computes: no step waits for a number."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric


class MeanOverPhotos(Metric):
    """The mean of a number over the photos of an epoch, of all processes together; not a number once one of them is."""

    full_state_update = False
    total: Tensor
    photos: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("photos", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, total: Tensor, photos: int) -> None:
        """Take in a batch: the sum over its photos (a scalar), and how many they are."""
        self.total += total
        self.photos += photos

    def compute(self) -> Tensor:
        return self.total / self.photos


class ValidationFigures(Metric):
    """val/loss, val/accuracy, val/top5_accuracy and val/macro_f1 of all photos of all processes.

    The F1 score is the mean over the classes that were shown or answered. Counting by class takes one-hot rows:
    `bincount`, which other implementations take, waits for a GPU to learn how long its answer is.
    """

    full_state_update = False
    loss: Tensor
    photos: Tensor
    top5: Tensor
    hits: Tensor
    shown: Tensor
    answered: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._classes = classes
        self.add_state("loss", torch.tensor(0.0), dist_reduce_fx="sum")
        for name in ("photos", "top5"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        for name in ("hits", "shown", "answered"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Take in a batch: float scores (B, classes) and targets (B,)."""
        shown = F.one_hot(targets, self._classes)
        answered = F.one_hot(scores.argmax(1), self._classes)
        best = scores.topk(min(5, self._classes)).indices
        self.loss += F.cross_entropy(scores, targets, reduction="sum")
        self.photos += len(targets)
        self.top5 += (best == targets.unsqueeze(1)).sum()
        self.hits += (shown * answered).sum(0)
        self.shown += shown.sum(0)
        self.answered += answered.sum(0)

    def compute(self) -> dict[str, Tensor]:
        met = self.shown + self.answered
        scores = 2 * self.hits / met.clamp(min=1)
        return {
            "val/loss": self.loss / self.photos,
            "val/accuracy": self.hits.sum() / self.photos,
            "val/top5_accuracy": self.top5 / self.photos,
            "val/macro_f1": scores.sum() / (met > 0).sum(),
        }
