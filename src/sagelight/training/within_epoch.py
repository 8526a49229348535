"""Checkpoints within an epoch: what is killed goes on there, and ends where it would have ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor
from torchmetrics import Metric

from sagelight.data.continuing import EpochLoader
from sagelight.models.classifier import Classifier
from sagelight.profiling.profiler import Profiler
from sagelight.training.settings import TrainerSettings

FIGURES = "figures_within_epoch"


def within_epoch(folder: Path, settings: TrainerSettings) -> list[Checkpoint]:
    """What writes last.ckpt into `folder` within epochs; nothing where neither minutes nor steps ask for it."""
    if not settings.checkpoint_minutes and not settings.checkpoint_steps:
        return []
    return [WithinEpoch(folder / "last.ckpt", settings)]


class Continued(Callback):
    """Lets a continued training draw the batches of its place.

    The schedule asks for the number of steps before Lightning has read where training goes on; by then the loader has
    begun the first epoch, and its processes have drawn from it.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loop = trainer.fit_loop
        if not trainer.global_step or loop._data_fetcher is None:
            return
        loader = trainer.train_dataloader
        assert isinstance(loader, EpochLoader)
        loader.batch_sampler.sampler.set_epoch(trainer.current_epoch)
        loop._load_combined_loader_states()
        iter(loop._data_fetcher)


class WithinEpoch(Checkpoint):
    """Writes last.ckpt every so many minutes or batches, with the figures of the epoch as they stand.

    Lightning calls checkpoint callbacks after all others, so what these count includes the batch that has just ended.
    """

    def __init__(self, path: Path, settings: TrainerSettings) -> None:
        self._path = path
        self._steps = settings.checkpoint_steps
        self._due = Due(settings.checkpoint_minutes * 60)
        self._waiting = self._saving = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._due.restart()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The end of an epoch writes its own.
        self._due.restart()
        self._waiting = False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._steps:
            self._waiting |= (batch_idx + 1) % self._steps == 0
        else:
            self._waiting |= self._due.now(trainer)
        # The training ends after this batch.
        self._waiting |= trainer.received_sigterm
        loop = trainer.fit_loop.epoch_loop
        # Gradients that wait for more batches are in no checkpoint, and the last batch is followed by that of its epoch.
        if (
            self._waiting
            and not loop._should_accumulate()
            and not loop._num_ready_batches_reached()
        ):
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._saving:
            checkpoint[FIGURES] = _gathered(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if FIGURES in checkpoint:
            # Of other processes than those that wrote it, each takes several, or none.
            own = checkpoint[FIGURES][trainer.global_rank :: trainer.world_size].sum(dim=0)
            _fill(pl_module, own)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saving = True
        try:
            trainer.save_checkpoint(self._path)
        finally:
            self._saving = False
        self._waiting = False
        self._due.restart()
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(each, Profiler):
                each.checkpoint_written(trainer)


class Due:
    """Whether some seconds have passed: the first process looks at its clock, and all learn it in the same batch.

    They ask each other seldom: when half of the batches that the time is worth are behind them, then half of the rest.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Count from now."""
        self._since = time.monotonic()
        self._batches, self._ask = 0, 1

    def now(self, trainer: pl.Trainer) -> bool:
        """Whether the time is over after one more batch; the same in every process."""
        self._batches += 1
        if self._batches < self._ask:
            return False
        left = self._seconds - (time.monotonic() - self._since)
        a_batch = max((self._seconds - left) / self._batches, 1e-6)
        answer = (left <= 0, self._batches + max(1, int(left / a_batch / 2)))
        over, self._ask = trainer.strategy.broadcast(answer)
        return bool(over)


def _states(model: pl.LightningModule) -> list[tuple[Metric, str]]:
    """The sums behind the training figures."""
    assert isinstance(model, Classifier)
    metrics: list[Metric] = [model.train_loss, model.train_accuracy]
    return [(metric, name) for metric in metrics for name in sorted(metric.metric_state)]


def _gathered(trainer: pl.Trainer, model: pl.LightningModule) -> Tensor:
    """The sums of every process, float64 (processes, sums)."""
    values = [float(getattr(metric, name)) for metric, name in _states(model)]
    # They are float32, or counts far below 2**53: no digit is lost.
    own = torch.tensor(values, dtype=torch.float64)
    if trainer.world_size == 1:
        return own.unsqueeze(0)
    gathered: Any = trainer.strategy.all_gather(own.to(trainer.strategy.root_device))
    return gathered.cpu().reshape(trainer.world_size, -1)  # type: ignore[no-any-return]


def _fill(model: pl.LightningModule, sums: Tensor) -> None:
    for (metric, name), value in zip(_states(model), sums.tolist(), strict=True):
        state = getattr(metric, name)
        setattr(metric, name, torch.full_like(state, value))
        metric._update_count = 1
