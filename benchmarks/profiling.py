"""What profiler=default costs a training step, on this machine.

    python benchmarks/profiling.py 40

trains resnet18 on random photos, batch 32, for that many pairs of blocks of steps in one process: within a pair one
block is profiled and the other is not, in turn which comes first. Blocks that lie side by side meet the same machine,
so the ratio of a pair is steadier than either time; printed are the median ratio, its spread, and an interval for
the median. `BLOCK` and `SIDE` in the environment choose the steps of a block and the side of the photos. On a busy machine the
ratio says little; the processor time of the hooks and of the sampler, which is printed first, hardly depends on that.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from sagelight.bundle.provenance import cpu_name
from sagelight.config.compose import compose
from sagelight.profiling.clock import StepClock
from sagelight.profiling.lines import Watching
from sagelight.profiling.phases import StepsFile
from sagelight.profiling.proc import OwnTime
from sagelight.profiling.profiler import Profiler, build_profiler
from sagelight.profiling.sampler import Sampler

BATCH, CLASSES, WARM = 32, 10, 2
INTERVAL, TIMES = 0.5, 5000
MOMENTS = ("computed", "backward", "differentiated", "update", "updated")
BLOCK = int(os.environ.get("BLOCK", "4"))
SIDE = int(os.environ.get("SIDE", "224"))


class Photos(Dataset[tuple[torch.Tensor, int]]):
    """One photo again and again, so that loading costs nothing: the profiler's share is then the largest."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._photo = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return self._photo, place % CLASSES


class Network(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = resnet18(num_classes=CLASSES)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        photos, targets = batch
        return nn.functional.cross_entropy(self.network(photos), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class InTurn(Callback):
    """Hands the loop's hooks to the profiler in every other block, and times both kinds of blocks.

    In a block without, the sampler's thread is stopped too.
    """

    def __init__(self, build: Callable[[], Profiler]) -> None:
        self._build = build
        self._profiler: Profiler | None = None
        self._began = 0.0
        self.seconds: dict[bool, list[float]] = {True: [], False: []}

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any
    ) -> None:
        place = trainer.global_step - WARM
        if place >= 0 and place % BLOCK == 0:
            self._turn(place // BLOCK, trainer, module)
        if self._profiler is not None:
            self._profiler.on_train_batch_start(trainer, module, *_)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, place: int
    ) -> None:
        if self._profiler is not None:
            self._profiler.on_train_batch_end(trainer, module, outputs, batch, place)

    def on_before_zero_grad(self, *given: Any) -> None:
        self._pass("on_before_zero_grad", *given)

    def on_before_backward(self, *given: Any) -> None:
        self._pass("on_before_backward", *given)

    def on_after_backward(self, *given: Any) -> None:
        self._pass("on_after_backward", *given)

    def on_before_optimizer_step(self, *given: Any) -> None:
        self._pass("on_before_optimizer_step", *given)

    def _pass(self, hook: str, *given: Any) -> None:
        if self._profiler is not None:
            getattr(self._profiler, hook)(*given)

    def _turn(self, block: int, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        now = time.perf_counter()
        if block:
            self.seconds[_watched(block - 1)].append(now - self._began)
        if self._profiler is not None:
            self._profiler.teardown(trainer, module, "fit")
            self._profiler = None
        if _watched(block):
            self._profiler = self._build()
            self._profiler.on_train_start(trainer, module)
            self._profiler.on_train_epoch_start(trainer, module)
        # Starting and judging happen once a training, and are no part of a step.
        self._began = time.perf_counter()


def main() -> None:
    pairs = int(sys.argv[1])
    hooks, sample = _processor_time()
    print(
        f"processor time: {1e6 * hooks:.0f} us a step, and {1e3 * sample:.2f} ms a sample, "
        f"{100 * sample / INTERVAL:.2f} % of a core at one in {INTERVAL} s",
        flush=True,
    )
    if pairs == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        config = compose(["experiment=resnet18", "data.root=photos", "profiler=default"])
        built = iter(range(10**6))

        def build() -> Profiler:
            (found,) = build_profiler(config, Path(folder) / str(next(built)))
            assert isinstance(found, Profiler)
            return found

        timer = InTurn(build)
        _train(timer, WARM + 2 * pairs * BLOCK + 1)
    off, on = timer.seconds[False], timer.seconds[True]
    ratios = sorted(watched / plain for watched, plain in zip(on, off, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    spread = 1.25 * statistics.stdev(ratios) / len(ratios) ** 0.5
    middle = statistics.median(ratios)
    print(
        f"a step: {1000 * statistics.median(off) / BLOCK:.1f} ms without, "
        f"{1000 * statistics.median(on) / BLOCK:.1f} ms with profiler=default\n"
        f"{pairs} pairs of {BLOCK} steps: median ratio {middle:.4f}, half of them from {low:.4f} to "
        f"{high:.4f}; the median is within {2 * spread:.4f} of that, {os.cpu_count()} cores, {cpu_name()}"
    )


def _processor_time() -> tuple[float, float]:
    """Seconds of a core that the marks and the line of a step take, and a sample with its share of a write."""
    with tempfile.TemporaryDirectory() as folder:
        watching, own = Watching(), OwnTime()
        clock = StepClock(own=own)
        file = StepsFile(Path(folder) / "steps.jsonl", watching)
        began = time.thread_time()
        for place in range(TIMES):
            clock.loaded()
            for moment in MOMENTS:
                clock.mark(moment)
            if (times := clock.end()) is not None:
                file.step(0, place, times)
        own.close()
        hooks = (time.thread_time() - began) / TIMES
        sampler = Sampler(Path(folder), "algo-1", INTERVAL, watching)
        began = time.thread_time()
        for place in range(TIMES // 10):
            sampler.sample()
            if place % 20 == 0:
                sampler.flush()
        return hooks, (time.thread_time() - began) / (TIMES // 10)


def _train(timer: InTurn, steps: int) -> None:
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=[timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Network(), DataLoader(Photos(BATCH * steps), BATCH))


def _watched(block: int) -> bool:
    """Off and on, on and off: neither always comes second."""
    pair, place = divmod(block, 2)
    return (pair + place) % 2 == 1


if __name__ == "__main__":
    main()
