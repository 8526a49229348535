"""Many heads on the same features, trained in one pass; each as it would be trained alone."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from sagelight.config.schema import Config
from sagelight.data.augment import class_weights
from sagelight.data.dataset import Draw, EpochSampler, derived_seed
from sagelight.data.settings import least_batch
from sagelight.models.optimizers import build_optimizer, head_groups, rate_scale

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


class _Head:
    """The parts of `Network.head`; `norm` is one only where the head normalises."""

    def __init__(self, module: nn.Sequential) -> None:
        self.module = module
        self.norm = cast("nn.LayerNorm", module[0])
        self.linear = cast("nn.Linear", module[2])


class _Batch:
    def __init__(self, trials: list[HeadTrial], features: Features) -> None:
        self.features = features
        self.trials = trials
        config = trials[0].config
        self.device = features.train.device
        self.heads = [_Head(copy.deepcopy(trial.head).to(self.device)) for trial in trials]
        self.normed = config.model.head_norm == "layer"
        self.train = self._normalised(features.train)
        self.validation = self._normalised(features.validation)
        self.weights = (
            class_weights(features.counts).to(self.device)
            if config.loss.class_weights == "balanced"
            else None
        )
        self.steps = _steps(config, len(features.train_targets))
        self.rates = [
            rate_scale(t.config.schedule, self.steps * t.config.trainer.max_epochs) for t in trials
        ]
        groups: list[dict[str, Any]] = []
        self.owners: list[int] = []
        for trial, head in zip(trials, self.heads, strict=True):
            own = head_groups(head.module, trial.config.optimizer)
            if config.optimizer.name == "sgd":
                momentum = trial.config.optimizer.momentum
                own = [{**group, "momentum": momentum, "nesterov": momentum > 0} for group in own]
            groups += own
            self.owners += [trial.number] * len(own)
        self.optimizer = build_optimizer(groups, config.optimizer, foreach=True)
        self.base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.mixed = config.trainer.precision == "bf16-mixed"

    def _normalised(self, values: Tensor) -> Tensor:
        """What a head's LayerNorm computes before its scale and shift is the same for every head."""
        return F.layer_norm(values, values.shape[-1:]) if self.normed else values

    def drop(self, numbers: set[int]) -> None:
        keep = [n for n, trial in enumerate(self.trials) if trial.number not in numbers]
        self.trials = [self.trials[n] for n in keep]
        self.heads = [self.heads[n] for n in keep]
        self.rates = [self.rates[n] for n in keep]
        staying = [n for n, owner in enumerate(self.owners) if owner not in numbers]
        for n, group in enumerate(self.optimizer.param_groups):
            if n not in staying:
                for parameter in group["params"]:
                    self.optimizer.state.pop(parameter, None)
        self.optimizer.param_groups[:] = [self.optimizer.param_groups[n] for n in staying]
        self.base_rates = [self.base_rates[n] for n in staying]
        self.owners = [self.owners[n] for n in staying]

    def train_epoch(self, epoch: int) -> tuple[list[float], list[float], int]:
        losses = torch.zeros(len(self.trials), device=self.device)
        hits = torch.zeros(len(self.trials), device=self.device)
        photos = 0
        orders = [list(self._order(trial.config, epoch)) for trial in self.trials]
        for step, batches in enumerate(zip(*orders, strict=True)):
            inputs, targets = self._draw(batches)
            self._set_rates(epoch * self.steps + step)
            with self._autocast():
                scores = self._scores(inputs, epoch, step).float()
            each = self._losses(scores, targets)
            self.optimizer.zero_grad(set_to_none=True)
            each.sum().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            count = targets.shape[-1]
            losses += each.detach() * count
            hits += (scores.detach().argmax(-1) == targets).sum(-1)
            photos += count
        return losses.tolist(), hits.tolist(), photos

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        targets = self.features.validation_targets
        with self._autocast():
            all_scores = self._shared_scores(self.validation).float()
        return [_figures(scores, targets) for scores in all_scores]

    def _order(self, config: Config, epoch: int) -> Iterator[list[Draw]]:
        targets = self.features.train_targets
        weights = None
        if config.data.sampler == "balanced":
            weights = class_weights(self.features.counts)[targets.cpu()].double()
        sampler = EpochSampler(len(targets), config.seed, weights)
        sampler.set_epoch(epoch)
        size = config.data.batch_size
        drop_last = len(targets) % size < least_batch(1)
        batches: Iterator[list[Draw]] = iter(BatchSampler(sampler, size, drop_last))  # type: ignore[arg-type]
        for _ in range(self.steps):
            yield next(batches)

    def _draw(self, batches: tuple[list[Draw], ...]) -> tuple[Tensor, Tensor]:
        """Inputs (B, width) where all heads see the same photos, else (heads, B, width); targets (heads or 1, B)."""
        views = len(self.train)
        shared = all(batch == batches[0] for batch in batches[1:])
        rows = batches[:1] if shared else batches
        positions = torch.tensor(
            [[draw.position for draw in batch] for batch in rows], device=self.device
        )
        seen = torch.tensor(
            [[draw.seed % views for draw in batch] for batch in rows], device=self.device
        )
        inputs = self.train[seen, positions]
        return (inputs[0] if shared else inputs), self.features.train_targets[positions]

    def _scores(self, inputs: Tensor, epoch: int, step: int) -> Tensor:
        """(heads, B, classes)."""
        drops = [trial.config.model.dropout for trial in self.trials]
        if inputs.ndim == 2 and not any(drops):
            return self._shared_scores(inputs)
        outputs = []
        for place, (trial, head) in enumerate(zip(self.trials, self.heads, strict=True)):
            x = inputs if inputs.ndim == 2 else inputs[place]
            if self.normed:
                x = torch.addcmul(head.norm.bias, x, head.norm.weight)
            if drops[place]:
                torch.manual_seed(derived_seed(trial.config.seed, "step", epoch, step))
                x = F.dropout(x, drops[place])
            outputs.append(head.linear(x))
        return torch.stack(outputs)

    def _shared_scores(self, inputs: Tensor) -> Tensor:
        """The same inputs (B, width) for every head: one matrix product, scale and shift folded into the weights."""
        weight = torch.stack([head.linear.weight for head in self.heads])
        bias = torch.stack([head.linear.bias for head in self.heads])
        if self.normed:
            shift = torch.stack([head.norm.bias for head in self.heads])
            bias = bias + torch.bmm(weight, shift.unsqueeze(-1)).squeeze(-1)
            weight = weight * torch.stack([head.norm.weight for head in self.heads]).unsqueeze(1)
        heads, classes, width = weight.shape
        scores = F.linear(inputs, weight.reshape(heads * classes, width), bias.reshape(-1))
        return scores.view(len(inputs), heads, classes).transpose(0, 1)

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

    def _set_rates(self, step: int) -> None:
        scales = {
            trial.number: rate(step) for trial, rate in zip(self.trials, self.rates, strict=True)
        }
        for group, base, owner in zip(
            self.optimizer.param_groups, self.base_rates, self.owners, strict=True
        ):
            group["lr"] = base * scales[owner]

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
