"""Probabilities of a trained network over a split, in fp32 whatever the precision of training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sagelight.data.dataset import Batch, Unreadable
from sagelight.data.module import Loader
from sagelight.models.network import channels_last
from sagelight.progress import progress


@dataclass
class Predictions:
    """Probabilities (N, C), targets (N,) and positions in the split (N,), in order; and what was left out."""

    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]
    positions: NDArray[np.int64]
    unreadable: list[Unreadable] = field(default_factory=list)


def batches(loader: Loader, limit: int | None, label: str) -> Iterator[Batch]:
    """The loader's batches, at most `limit`, with progress shown."""
    total = len(loader) if limit is None else min(limit, len(loader))
    yield from progress(islice(iter(loader), total), total, label)


@torch.inference_mode()
def probabilities(network: nn.Module, batch: Batch, device: torch.device) -> NDArray[np.float32]:
    """Class probabilities (B, C) of one batch by a network in eval mode."""
    images = channels_last(batch.images.to(device))
    result: NDArray[np.float32] = network(images).float().softmax(dim=1).cpu().numpy()
    return result


def predict_split(
    network: nn.Module, loader: Loader, device: torch.device, limit: int | None, label: str
) -> Predictions:
    """Run a network in eval mode over a split."""
    rows, targets, positions = [], [], []
    unreadable: list[Unreadable] = []
    for batch in batches(loader, limit, label):
        unreadable += batch.unreadable
        if len(batch):
            rows.append(probabilities(network, batch, device))
            targets.append(batch.targets.numpy())
            positions.append(batch.positions.numpy())
    if not rows:
        return Predictions(
            np.empty((0, 0), np.float32), np.empty(0, np.int64), np.empty(0, np.int64), unreadable
        )
    return Predictions(
        np.concatenate(rows), np.concatenate(targets), np.concatenate(positions), unreadable
    )
