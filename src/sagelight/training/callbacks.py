"""What watches the training loop: the table of epochs, unfreezing, unreadable photos."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, RichProgressBar, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sagelight.config.schema import Config
from sagelight.data.dataset import Batch, Unreadable
from sagelight.errors import DataError, RunError
from sagelight.files import write_csv
from sagelight.models.classifier import Classifier
from sagelight.training.checkpoints import checkpoint_callbacks
from sagelight.training.metric_line import COLUMNS, format_line
from sagelight.training.within_epoch import Continued, within_epoch
from sagelight.tuning.settings import HpoSettings

# Told the figures of an epoch, as in metrics.csv; True ends the training.
Watcher = Callable[[dict[str, float]], bool]


def build_callbacks(config: Config, folder: Path) -> list[Callback]:
    """All callbacks of a run, by its configuration."""
    callbacks: list[Callback] = [
        Continued(),
        UnreadablePhotos(config.check),
        EpochTable(folder / "metrics.csv", config.hpo),
        *checkpoint_callbacks(folder / "checkpoints", config.hpo),
        *within_epoch(folder / "checkpoints", config.trainer),
    ]
    if config.finetune.name == "gradual":
        callbacks.append(GradualUnfreezing(config.finetune.epochs_per_stage))
    if config.callbacks.early_stopping_patience > 0:
        callbacks.append(_early_stopping(config))
    if config.callbacks.ema_decay > 0:
        # Lightning's own EMA lets what is constant, as the normalisation, drift by rounding, and no checkpoint has that.
        average = get_ema_multi_avg_fn(config.callbacks.ema_decay)  # type: ignore[no-untyped-call]
        callbacks.append(WeightAveraging(use_buffers=True, multi_avg_fn=average))
    if sys.stdout.isatty():
        callbacks.append(EpochProgressBar())
    return callbacks


def _early_stopping(config: Config) -> EarlyStopping:
    return EarlyStopping(
        monitor=config.hpo.metric,
        mode=config.hpo.mode,
        patience=config.callbacks.early_stopping_patience,
        check_on_train_epoch_end=True,
    )


class EpochTable(Callback):
    """One row an epoch in metrics.csv, and one line: for machines on stdout, for a person above the bar."""

    def __init__(self, path: Path, hpo: HpoSettings) -> None:
        self.path = path
        self.hpo = hpo
        self.rows: list[dict[str, float]] = []
        self._started: float | None = None
        self._before = 0.0
        self._photos = 0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self._before = float(state_dict.get("seconds", 0.0))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A copy of the folder may hold an older table than the checkpoint, or half of one, and no epoch may be left.
        if trainer.is_global_zero and self.rows:
            self._write()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # An epoch that is continued has no other start.
        self._started, self._photos = time.monotonic(), 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._before, self._photos = time.monotonic(), 0.0, 0

    def _seconds(self) -> float:
        """Of this epoch so far; 0 between epochs."""
        return 0.0 if self._started is None else self._before + time.monotonic() - self._started

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._photos += len(batch)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The rate is that of the photos that this process has trained on, after a continuation too.
        self._training_seconds = self._seconds() - self._before

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        row = self._row(trainer)
        if not math.isfinite(row["train/loss"]):
            raise RunError(
                f"the training loss is {row['train/loss']} in epoch {row['epoch']:g}: training diverged. "
                "Type a smaller optimizer.lr, or trainer.gradient_clip_val=1."
            )
        self.rows.append(row)
        self._started = None
        if trainer.is_global_zero:
            self._show(trainer, row)

    def _show(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        self._write()
        bar = trainer.progress_bar_callback
        if isinstance(bar, EpochProgressBar):
            bar.say(epoch_summary(row, trainer.max_epochs or 0))
        else:
            print(format_line(int(row["epoch"]), row), flush=True)

    def _write(self) -> None:
        columns = ("epoch", "seconds", "images_per_second", "lr", *COLUMNS)
        write_csv(self.path, columns, [[_cell(each.get(c)) for c in columns] for each in self.rows])

    def _row(self, trainer: pl.Trainer) -> dict[str, float]:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        photos = float(trainer.strategy.reduce(torch.tensor(self._photos), reduce_op="sum"))
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        row = {
            "epoch": trainer.current_epoch + 1,
            "seconds": self._seconds(),
            "images_per_second": photos / max(self._training_seconds, 1e-9),
            "lr": max(rates),
            **{name: metrics[name] for name in COLUMNS if name in metrics},
        }
        past = [each["objective"] for each in self.rows if "objective" in each]
        best = min if self.hpo.mode == "min" else max
        current = metrics.get(self.hpo.metric, math.nan)
        known = [value for value in (*past, current) if math.isfinite(value)]
        if known:
            row["objective"] = best(known)
        return row


class Watch(Callback):
    """Tells somebody else each epoch's figures, those of a continued training's past too, and ends it when told to."""

    def __init__(self, watch: Watcher) -> None:
        self._watch = watch
        self._told = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tell(trainer)

    def tell(self, trainer: pl.Trainer) -> None:
        """Tell what has not been told yet; a training that was continued after its last epoch has no other."""
        (table,) = (each for each in trainer.callbacks if isinstance(each, EpochTable))  # type: ignore[attr-defined]
        stop = False
        for row in table.rows[self._told :]:
            # Of several processes the first one asks, and all of them stop.
            stop = (trainer.is_global_zero and self._watch(row)) or stop
        trainer.should_stop = trainer.strategy.broadcast(stop) or trainer.should_stop
        self._told = len(table.rows)


class EpochProgressBar(RichProgressBar):
    """Lightning's bar, with epochs counted from 1 and what each came to left standing above it."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self.progress is not None:
            self.progress.console.print(line, highlight=False)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"


class GradualUnfreezing(Callback):
    """The head alone first; then, every `epochs_per_stage` epochs, one more stage from the top."""

    def __init__(self, epochs_per_stage: int) -> None:
        self.epochs_per_stage = epochs_per_stage

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # An epoch that is continued has no other start.
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        stages = len(pl_module.network.stages)
        thawed = trainer.current_epoch // self.epochs_per_stage
        pl_module.network.freeze(max(0, stages - thawed))


class UnreadablePhotos(Callback):
    """A photo that breaks in mid-training ends the run with its name, or is left out and named."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.found: dict[str, str] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.meet(batch.unreadable)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.meet(batch.unreadable)

    def meet(self, photos: tuple[Unreadable, ...]) -> None:
        for photo in photos:
            if photo.path in self.found:
                continue
            self.found[photo.path] = photo.reason
            if self.policy == "strict":
                raise DataError(
                    f"{photo.path} cannot be read ({photo.reason}). Mend or remove it, or type check=warn "
                    "to leave such photos out. The epochs so far are saved."
                )
            print(f"left out: {photo.path} cannot be read ({photo.reason})", file=sys.stderr)


def epoch_summary(row: dict[str, float], epochs: int) -> str:
    """An epoch for a person: `epoch 2/8  train/loss 0.804  val/accuracy 0.948  best 0.948  9 s`."""
    shown = [n for n in ("train/loss", "val/loss", "val/accuracy", "val/macro_f1") if n in row]
    figures = [f"{name} {row[name]:.3f}" for name in shown]
    best = [f"best {row['objective']:.3f}"] if "objective" in row else []
    return "  ".join(
        [f"epoch {row['epoch']:g}/{epochs}", *figures, *best, f"{row['seconds']:.0f} s"]
    )


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"
