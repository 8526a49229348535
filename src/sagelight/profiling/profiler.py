"""What a training's loop tells the profiler, and what the profiler makes of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from sagelight.config.schema import Config
from sagelight.cores import usable_cores
from sagelight.errors import first_line
from sagelight.profiling.clock import StepClock
from sagelight.profiling.findings import as_sentences, evaluate, write_findings
from sagelight.profiling.gpu import Gpus, cuda_uuids
from sagelight.profiling.lines import Watching
from sagelight.profiling.phases import Start, StepsFile, steps_file
from sagelight.profiling.proc import OwnTime, process_started
from sagelight.profiling.profile import FOLDER, Profile
from sagelight.profiling.rules.base import ProfilerRule
from sagelight.profiling.rules.catalogue import build_rules
from sagelight.profiling.sampler import Sampler
from sagelight.profiling.trace import Trace

_trained_until: float | None = None


def build_profiler(config: Config, folder: Path) -> list[Callback]:
    """The callbacks that measure a run into its `profiler/`; none where the profiler is off.

    They come after all other callbacks, so that what those do before a step is no part of its phases.

    Raises:
        ConfigError: an unknown rule or parameter.
    """
    settings = config.profiler
    if not settings.enabled:
        return []
    rules = build_rules(settings.rules, settings.parameters)
    folder = folder / FOLDER
    # Before the profiler, or the writing of the trace would count as waiting for the next batch.
    trace = [Trace(folder, settings.trace_steps)] if settings.trace_steps else []
    return [*trace, Profiler(config, folder, rules)]


class Profiler(Callback):
    """Times every step, lets the first process of each machine sample it, and judges both at the end.

    It reads clocks and counters only: no tensor, no random number, no synchronisation with a GPU. On CUDA the phases
    of a step are therefore those of the process, not of the GPU (see `StepClock`).

    Attributes:
        watching: whether it still measures; a full disk ends that, and not the training.
    """

    def __init__(self, config: Config, folder: Path, rules: list[ProfilerRule]) -> None:
        self.watching = Watching()
        self._config, self._folder, self._rules = config, folder, rules
        self._built = time.time()
        self._own: OwnTime | None = None
        self._clock = StepClock()
        self._between = time.perf_counter()
        self._checkpoint: float | None = None
        self._sampler: Sampler | None = None
        self._steps: StepsFile | None = None
        self._hook: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        node = f"algo-{trainer.node_rank + 1}"
        if trainer.local_rank == 0:
            self._sampler = self._sample(node, trainer)
        self._steps = StepsFile(self._folder / steps_file(node, trainer.global_rank), self.watching)
        self._steps.start(self._start(node, trainer))
        self._own = OwnTime()
        self._clock = StepClock(own=self._own)
        self._hook = trainer.optimizers[0].register_step_post_hook(
            lambda *_: self._clock.mark("updated")
        )
        # An epoch that is continued has no other start.
        self._clock.wait()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end_checkpoint(trainer.current_epoch - 1)
        self._clock.wait()

    def on_train_batch_start(self, *_: Any) -> None:
        self._clock.loaded()

    def on_before_zero_grad(self, *_: Any) -> None:
        self._clock.mark("computed")

    def on_before_backward(self, *_: Any) -> None:
        self._clock.mark("backward")

    def on_after_backward(self, *_: Any) -> None:
        self._clock.mark("differentiated")

    def on_before_optimizer_step(self, *_: Any) -> None:
        self._clock.mark("update")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        times = self._clock.end()
        if times is not None and self._steps is not None and not self.watching.stopped:
            self._steps.step(trainer.current_epoch, batch_idx, times)

    def on_validation_start(self, *_: Any) -> None:
        self._between = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._steps is not None and not trainer.sanity_checking:
            seconds = time.perf_counter() - self._between
            self._steps.interval("validation", trainer.current_epoch, seconds)
            self._clock.wait()

    def on_save_checkpoint(self, *_: Any) -> None:
        # Both checkpoints of an epoch are written in a row; their end is whatever comes next.
        if self._checkpoint is None:
            self._checkpoint = time.perf_counter()

    def checkpoint_written(self, trainer: pl.Trainer) -> None:
        """A checkpoint within an epoch is on the disk; its time is no waiting for the next batch."""
        self._end_checkpoint(trainer.current_epoch)
        self._clock.wait()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end_checkpoint(trainer.current_epoch - 1)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._finish(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._finish(trainer)

    def _sample(self, node: str, trainer: pl.Trainer) -> Sampler:
        gpus = None
        if trainer.strategy.root_device.type == "cuda":
            gpus = Gpus(cuda_uuids(trainer.num_devices))
        interval = self._config.profiler.interval_ms / 1000
        sampler = Sampler(self._folder, node, interval, self.watching, gpus)
        sampler.start()
        return sampler

    def _start(self, node: str, trainer: pl.Trainer) -> Start:
        config = self._config
        return Start(
            t=time.time(),
            began=self._began(),
            node=node,
            rank=trainer.global_rank,
            processes=trainer.num_devices,
            cores=usable_cores(),
            workers=getattr(trainer.train_dataloader, "num_workers", 0),
            device=trainer.strategy.root_device.type,
            batch_size=config.data.batch_size / trainer.world_size,
            image_size=config.data.image_size,
            frozen=config.finetune.name == "head",
            missing=self._sampler.missing if self._sampler else [],
        )

    def _began(self) -> float:
        """Since when somebody waits for the first step: not since the notebook was opened."""
        interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
        if _trained_until is None and not interactive:
            return process_started() or self._built
        return max(_trained_until or 0.0, self._built) if interactive else _trained_until or 0.0

    def _end_checkpoint(self, epoch: int) -> None:
        began, self._checkpoint = self._checkpoint, None
        if began is not None and self._steps is not None:
            self._steps.interval("checkpoint", epoch, time.perf_counter() - began)

    def _finish(self, trainer: pl.Trainer) -> None:
        global _trained_until
        steps, self._steps = self._steps, None
        if steps is None:
            return
        _trained_until = time.time()
        if self._hook is not None:
            self._hook.remove()
        if self._own is not None:
            self._own.close()
        steps.flush()
        if self._sampler is not None:
            self._sampler.stop()
        if trainer.is_global_zero:
            self._judge()

    def _judge(self) -> None:
        try:
            profile = Profile.read(self._folder)
            verdicts = evaluate(profile, self._rules)
            for line in as_sentences(verdicts):
                print(line, file=sys.stderr, flush=True)
            missing = self._sampler.missing if self._sampler else []
            write_findings(self._folder, profile, verdicts, self.watching.stopped, missing)
        except Exception as error:  # What was trained is worth more than what was measured.
            why = first_line(error)
            print(f"profiler: findings.json could not be written: {why}", file=sys.stderr)
