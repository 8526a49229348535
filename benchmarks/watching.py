"""What debugger=default costs: time as a share of an epoch, and disk.

    python benchmarks/watching.py 224

trains resnet18, batch 32, on one epoch of the digits at that size, and times everything that the debugger does inside
it, step by step. From the steps that kept a loss and those that kept everything it works out an epoch of 209 batches,
the seeds' 6,680 photos, and 1,000 steps.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest import mock

from sagelight.bundle.provenance import cpu_name
from sagelight.config.compose import compose
from sagelight.debugging import bridge, capture, replay, watch
from sagelight.debugging.hook_config import default_hook_config
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.writer import TrialWriter
from sagelight.training import fit as fitting

EPOCH, BATCH = 209, 32
STEP_HOOKS = (
    "on_train_batch_start", "on_before_backward", "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip
TIMED: list[tuple[type, tuple[str, ...]]] = [
    (bridge.Bridge, STEP_HOOKS),
    (watch.RuleWatch, STEP_HOOKS),
    (replay.KeepForReplay, STEP_HOOKS),
    (capture.Captured, ("keep",)),
    (capture.Attached, ("_root", "_images")),
]


class Clock:
    """Seconds inside the debugger, by training step; calls within calls count once."""

    def __init__(self) -> None:
        self.step = 0
        self.inside: dict[int, float] = defaultdict(float)
        self.kinds: dict[int, str] = {}
        self.bytes: dict[int, int] = {}
        self._depth = 0

    def timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            self._depth += 1
            began = time.perf_counter()
            try:
                return method(*given, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.inside[self.step] += time.perf_counter() - began

        return run

    def written(self, method: Callable[..., int]) -> Callable[..., int]:
        def run(writer: TrialWriter, place: Any, tensors: Any) -> int:
            found = method(writer, place, tensors)
            if place.mode == "TRAIN":
                full = any("gradient/" in name for name in tensors)
                self.kinds[place.mode_step] = "full" if full else "loss"
                self.bytes[place.mode_step] = found
            return found

        return run


def main() -> None:
    side = sys.argv[1]
    clock, steps = Clock(), _Steps()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _train(clock, steps, side)
        os.chdir("/")
    _print(clock, steps.seconds)


def _train(clock: Clock, steps: _Steps, side: str) -> None:
    words = [
        f"data.image_size={side}", f"data.resize_size={side}", f"data.batch_size={BATCH}", "trainer.max_epochs=1",
        "trainer.limit_val_batches=1", "run_dir=run", "profiler=off", "check=off",
    ]  # fmt: skip
    config = compose(["experiment=digits", *words])
    build = fitting.build_trainer

    def with_steps(*given: Any) -> Any:
        trainer = build(*given)
        trainer.callbacks.insert(0, steps)
        steps.clock = clock
        return trainer

    patches = [
        mock.patch.object(kind, name, clock.timed(getattr(kind, name)))
        for kind, names in TIMED
        for name in names
        if name in kind.__dict__
    ]
    patches += [
        mock.patch.object(TrialWriter, "write", clock.written(TrialWriter.write)),
        mock.patch.object(fitting, "build_trainer", with_steps),
        mock.patch.object(fitting, "finish", return_value={}),
    ]
    for patch in patches:
        patch.start()
    fitting.fit(config)
    for patch in patches:
        patch.stop()


class _Steps(fitting.Callback):
    """Seconds of each training step, the debugger's included."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}
        self.clock: Clock | None = None
        self._began = 0.0

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        assert self.clock is not None
        self.clock.step = trainer.global_step
        now = time.perf_counter()
        if self._began:
            self.seconds[trainer.global_step - 1] = now - self._began
        self._began = now


def _print(clock: Clock, seconds: dict[int, float]) -> None:
    plain = statistics.median(seconds[s] - clock.inside[s] for s in seconds)
    cost = {
        kind: statistics.median(
            clock.inside[s] for s in seconds if clock.kinds.get(s) == kind and s
        )
        for kind in ("loss", "full")
    }
    size = {
        kind: statistics.median(clock.bytes[s] for s in seconds if clock.kinds.get(s) == kind)
        for kind in cost
    }
    print(
        f"a step {1000 * plain:.0f} ms; the debugger in one that keeps a loss {1000 * cost['loss']:.1f} ms and "
        f"{size['loss']:.0f} bytes, in one that keeps everything {1000 * cost['full']:.0f} ms and {size['full'] / 1000:.0f} kB"
    )
    config = default_hook_config(DebuggerSettings(), EPOCH)
    due = [config.due("TRAIN", step) for step in range(1000)]
    kinds = ["full" if any(c.name == "gradients" for c in d) else "loss" if d else "" for d in due]
    for name, chosen in (
        ("the first epoch", kinds[:EPOCH]),
        ("a later one", kinds[2 * EPOCH : 3 * EPOCH]),
    ):
        all_of_it = sum(cost[kind] for kind in chosen if kind)
        losses = sum(cost["loss"] for kind in chosen if kind)
        print(
            f"{name} of {EPOCH} batches: {100 * all_of_it / (plain * EPOCH):.2f} % of its time, "
            f"with losses alone {100 * losses / (plain * EPOCH):.2f} %"
        )
    print(
        f"the first 1,000 steps: {sum(size[kind] for kind in kinds if kind) / 1e6:.2f} MB; "
        f"{os.cpu_count()} cores, {cpu_name()}"
    )


if __name__ == "__main__":
    main()
