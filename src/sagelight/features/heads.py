"""Many heads on the same features, trained in one pass; each as it would be trained alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from sagelight.config.schema import Config
from sagelight.data.augment import class_weights
from sagelight.data.dataset import EpochSampler, derived_seed
from sagelight.data.settings import least_batch
from sagelight.features.stacked import Heads, StackedAverage, StackedOptimizer
from sagelight.models.optimizers import rate_scale

# A trial's number and the figures of its last epoch; True ends the trial.
Watcher = Callable[[int, dict[str, float]], bool]


@dataclass(frozen=True)
class Features:
    """What every head of a batch is trained and judged on.

    Attributes:
        train: float (views, photos, width); `train_targets` int64 (photos,). All tensors are on one device.
        validation: float (photos, width); `validation_targets` int64 (photos,).
        counts: training photos of each class.
    """

    train: Tensor
    train_targets: Tensor
    validation: Tensor
    validation_targets: Tensor
    counts: list[int]


@dataclass
class HeadTrial:
    """One head: its number in the study, its configuration with every `auto` resolved, and where it starts."""

    number: int
    config: Config
    head: nn.Sequential


def train_heads(trials: Sequence[HeadTrial], features: Features, watch: Watcher) -> None:
    """Train heads whose batch size, optimizer, precision and class weights are the same, epoch by epoch.

    Rates, weight decay, dropout, label smoothing, schedule, seed and epochs may differ. A head that has had its
    epochs, or that `watch` ends, leaves the batch; the others go on as if it had never been there.

    Args:
        watch: told the figures of `sagelight.models.classifier.Classifier` after each epoch of each head.
    """
    batch = _Batch(list(trials), features)
    longest = max(trial.config.trainer.max_epochs for trial in trials)
    for epoch in range(longest):
        started = time.monotonic()
        losses, hits, photos = batch.train_epoch(epoch)
        rows = batch.validate()
        seconds = time.monotonic() - started
        leaving = set()
        for place, trial in enumerate(batch.trials):
            row = {
                "epoch": epoch + 1.0,
                "seconds": seconds / len(batch.trials),
                "train/loss": losses[place] / photos,
                "train/accuracy": hits[place] / photos,
                **rows[place],
            }
            ended = watch(trial.number, row)
            if ended or epoch + 1 >= trial.config.trainer.max_epochs:
                leaving.add(trial.number)
        if len(leaving) == len(batch.trials):
            return
        batch.drop(leaving)


class _Batch:
    def __init__(self, trials: list[HeadTrial], features: Features) -> None:
        config = trials[0].config
        self.trials = trials
        self.features = features
        self.device = features.train.device
        self.heads = Heads.of([trial.head for trial in trials], self.device)
        self.optimizer = StackedOptimizer(self.heads, [t.config.optimizer for t in trials])
        decays = [trial.config.callbacks.ema_decay for trial in trials]
        self.average = StackedAverage(self.heads, decays) if any(decays) else None
        self.train = self._normalised(features.train)
        self.validation = self._normalised(features.validation)
        self.weights = (
            class_weights(features.counts).to(self.device)
            if config.loss.class_weights == "balanced"
            else None
        )
        self.steps = _steps(config, len(features.train_targets))
        self.rates = {
            t.number: rate_scale(t.config.schedule, self.steps * t.config.trainer.max_epochs)
            for t in trials
        }
        self.mixed = config.trainer.precision == "bf16-mixed"

    def _normalised(self, values: Tensor) -> Tensor:
        """What a head's LayerNorm computes before its scale and shift is the same for every head."""
        normed = "scale" in self.heads.tensors
        return F.layer_norm(values, values.shape[-1:]) if normed else values

    def drop(self, numbers: set[int]) -> None:
        if not numbers:
            return
        keep = [n for n, trial in enumerate(self.trials) if trial.number not in numbers]
        places = torch.tensor(keep, device=self.device)
        self.trials = [self.trials[n] for n in keep]
        self.heads.keep(places)
        self.optimizer.keep(places)
        if self.average is not None:
            self.average.keep(places)

    def train_epoch(self, epoch: int) -> tuple[list[float], list[float], int]:
        losses = torch.zeros(len(self.trials), device=self.device)
        hits = torch.zeros(len(self.trials), device=self.device)
        photos = 0
        orders = self._orders(epoch)
        for step in range(self.steps):
            inputs, targets = self._draw(orders, step)
            with self._autocast():
                scores = self._scores(inputs, epoch, step).float()
            each = self._losses(scores, targets)
            each.sum().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step(self._rates_at(epoch * self.steps + step))
            if self.average is not None:
                self.average.update()
            count = targets.shape[-1]
            losses += each.detach() * count
            hits += (scores.detach().argmax(-1) == targets).sum(-1)
            photos += count
        return losses.tolist(), hits.tolist(), photos

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        targets = self.features.validation_targets
        with self._autocast():
            judged = self.heads if self.average is None else self.average.heads
            all_scores = judged.shared(self.validation).float()
        return [_figures(scores, targets) for scores in all_scores]

    def _orders(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Positions and views of an epoch's photos, (1, photos) where all heads see the same, else (heads, photos)."""
        seeds = [trial.config.seed for trial in self.trials]
        by_seed = {seed: self._order(seed, epoch) for seed in set(seeds)}
        rows = [by_seed[seed] for seed in (seeds[:1] if len(by_seed) == 1 else seeds)]
        return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])

    def _order(self, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        targets = self.features.train_targets
        weights = None
        if self.trials[0].config.data.sampler == "balanced":
            weights = class_weights(self.features.counts)[targets.cpu()].double()
        sampler = EpochSampler(len(targets), seed, weights)
        sampler.set_epoch(epoch)
        draws, views = list(sampler), len(self.train)
        positions = torch.tensor([draw.position for draw in draws], device=self.device)
        return positions, torch.tensor([draw.seed % views for draw in draws], device=self.device)

    def _draw(self, orders: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """Inputs (B, width) where all heads see the same photos, else (heads, B, width); targets (heads or 1, B)."""
        size = self.trials[0].config.data.batch_size
        photos, end = orders[0].shape[1], (step + 1) * size
        if photos - end < least_batch(1):
            # As in `WholeBatches`: too few for a batch of their own.
            end = photos
        positions, views = (order[:, step * size : end] for order in orders)
        inputs = self.train[views, positions]
        return (inputs[0] if len(inputs) == 1 else inputs), self.features.train_targets[positions]

    def _scores(self, inputs: Tensor, epoch: int, step: int) -> Tensor:
        """(heads, B, classes)."""
        drops = [trial.config.model.dropout for trial in self.trials]
        if inputs.ndim == 2 and not any(drops):
            return self.heads.shared(inputs)
        scaled = self.heads.scaled(inputs)
        if any(drops):
            scaled = torch.stack(
                [self._dropped(n, x, epoch, step) for n, x in enumerate(scaled.unbind())]
            )
        return self.heads.linear(scaled)

    def _dropped(self, place: int, inputs: Tensor, epoch: int, step: int) -> Tensor:
        config = self.trials[place].config
        if not config.model.dropout:
            return inputs
        torch.manual_seed(derived_seed(config.seed, "step", epoch, step))
        return F.dropout(inputs, config.model.dropout)

    def _losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each head with its own label smoothing, (heads,)."""
        each = [trial.config.loss.label_smoothing for trial in self.trials]
        smoothing = torch.tensor(each, device=self.device)
        classes = scores.shape[-1]
        minus_log = -scores.log_softmax(-1)
        targets = targets.expand(len(scores), -1)
        wrong = minus_log.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        if self.weights is None:
            return (1 - smoothing) * wrong.mean(-1) + smoothing * minus_log.mean((-1, -2))
        own = self.weights[targets]
        total = own.sum(-1)
        spread = (minus_log * self.weights).sum((-1, -2)) / total / classes
        return (1 - smoothing) * (wrong * own).sum(-1) / total + smoothing * spread

    def _rates_at(self, step: int) -> Tensor:
        rates = [t.config.optimizer.lr * self.rates[t.number](step) for t in self.trials]
        return torch.tensor(rates, device=self.device)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.mixed else nullcontext()


def _steps(config: Config, photos: int) -> int:
    size, limit = config.data.batch_size, config.trainer.limit_train_batches
    whole, leftover = divmod(photos, size)
    steps = whole + (leftover >= least_batch(1))
    return min(steps, limit) if limit else steps


def _figures(scores: Tensor, targets: Tensor) -> dict[str, float]:
    classes = scores.shape[-1]
    top = min(5, classes)
    found = {
        "val/loss": F.cross_entropy(scores, targets),
        "val/accuracy": multiclass_accuracy(scores, targets, classes, average="micro"),
        "val/top5_accuracy": multiclass_accuracy(
            scores, targets, classes, average="micro", top_k=top
        ),
        "val/macro_f1": multiclass_f1_score(scores, targets, classes, average="macro"),
    }
    return {name: float(value) for name, value in found.items()}
