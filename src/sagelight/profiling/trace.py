"""A trace of every operation of a few steps, for Perfetto or chrome://tracing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.profiler import ProfilerActivity, profile, schedule

from sagelight.errors import first_line

WARM_STEPS = 10
TRACE = "trace.json"


class Trace(Callback):
    """Lets torch.profiler watch `steps` steps after `WARM_STEPS` others, in the first process.

    A traced step takes longer. A run that has a trace already makes no other.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._path = folder / TRACE
        self._steps = steps
        self._profile: profile | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or self._path.exists():
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        # The last warm step is watched too, and thrown away: the first one under watch is slow.
        plan = schedule(wait=WARM_STEPS - 1, warmup=1, active=self._steps, repeat=1)
        self._profile = profile(activities=activities, schedule=plan, on_trace_ready=self._write)
        self._do(self._profile.start)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self._profile is not None:
            self._do(self._profile.step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        """A trace that was begun is written with the steps that it has."""
        watched, self._profile = self._profile, None
        if watched is not None and not self._path.exists():
            self._profile = watched
            self._do(watched.stop)
            self._profile = None

    def _do(self, step: Any) -> None:
        try:
            step()
        except Exception as error:  # Tracing is no part of training, which goes on without it.
            self._profile = None
            print(f"profiler: there is no trace: {first_line(error)}", file=sys.stderr)

    def _write(self, watched: profile) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_name(f".{TRACE}.tmp.json")
        try:
            watched.export_chrome_trace(str(scratch))
            scratch.replace(self._path)
        finally:
            scratch.unlink(missing_ok=True)
        self._profile = None
