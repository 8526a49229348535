"""Figures of an epoch, gathered where the network computes: no step waits for a number."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


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


def validation_metrics(classes: int) -> MetricCollection:
    """val/accuracy, val/top5_accuracy and val/macro_f1, from scores (B, classes) and targets (B,)."""
    # Their check of every batch would wait for the device, and the targets come from our own index.
    unchecked = {"validate_args": False}
    return MetricCollection(
        {
            "val/accuracy": MulticlassAccuracy(classes, average="micro", **unchecked),
            "val/top5_accuracy": MulticlassAccuracy(
                classes, average="micro", top_k=min(5, classes), **unchecked
            ),
            "val/macro_f1": MulticlassF1Score(classes, average="macro", **unchecked),
        },
        compute_groups=False,
    )
