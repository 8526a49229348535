"""Profiles as a training would leave them, with chosen faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sagelight.profiling.clock import StepTimes
from sagelight.profiling.findings import evaluate
from sagelight.profiling.lines import Watching, append
from sagelight.profiling.phases import Start, StepsFile, steps_file
from sagelight.profiling.profile import Profile
from sagelight.profiling.rules.base import Verdict
from sagelight.profiling.rules.catalogue import build_rules
from sagelight.profiling.sampler import metrics_file

MINUTE = 1591160640
INTERVAL = 0.5
START = Start(
    t=MINUTE,
    began=MINUTE - 30,
    node="algo-1",
    rank=0,
    processes=1,
    cores=8,
    workers=8,
    device="cpu",
    batch_size=32,
    image_size=224,
    frozen=False,
    missing=[],
)
# Short enough that a test needs few samples.
PATIENCE = 20
QUICK = {
    name: {"patience": PATIENCE}
    for name in ("CPUBottleneck", "IOBottleneck", "GPUMemoryIncrease", "LoadBalancing")
} | {
    name: {"patience": PATIENCE, "window": PATIENCE} for name in ("LowGPUUtilization", "BatchSize")
}
Metrics = dict[tuple[str, str, str], Sequence[float]]


def leave_metrics(folder: Path, metrics: Metrics, node: str = "algo-1") -> None:
    """Write samples: values by (type, name, dimension), one every half second."""
    lines = [
        json.dumps(
            {
                "Type": type_,
                "Name": name,
                "Dimension": dimension,
                "Value": float(value),
                "NodeId": node,
                "Timestamp": MINUTE + INTERVAL * place,
            }
        )
        for (type_, name, dimension), values in metrics.items()
        for place, value in enumerate(values)
    ]
    append(folder / metrics_file(MINUTE, node), lines)


def gpu_machine(
    count: int = 60,
    cpu: float = 50,
    wait: float = 1,
    gpus: Iterable[float] = (90, 91),
    memory: Callable[[int], float] = lambda place: 80,
) -> Metrics:
    """Samples of a machine with two cores and GPUs of these utilisations, with a little noise."""
    rng = np.random.default_rng(0)

    def about(value: float) -> Sequence[float]:
        return [min(100.0, max(0.0, value + each)) for each in rng.normal(0, 1, count)]

    found: Metrics = {}
    for core in range(2):
        found["cpu", f"cpu{core}", "CPUUtilization"] = about(cpu)
        found["cpu", f"cpu{core}", "I/OWaitPercentage"] = about(wait)
    for number, busy in enumerate(gpus):
        found["gpu", f"gpu{number}", "GPUUtilization"] = about(busy)
        found["gpu", f"gpu{number}", "GPUMemoryUtilization"] = [memory(p) for p in range(count)]
    return found


def leave_steps(
    folder: Path,
    steps: Iterable[StepTimes],
    start: Start = START,
    batches: int = 10,
    watching: Watching | None = None,
) -> Path:
    """Write steps, `batches` an epoch."""
    path = folder / steps_file(start.node, start.rank)
    file = StepsFile(path, watching or Watching())
    file.start(start)
    for number, times in enumerate(steps):
        file.step(number // batches, number % batches, times)
    file.flush()
    return path


def step(data: float = 0.001, scale: float = 1.0) -> StepTimes:
    return StepTimes(data * scale, 0.03 * scale, 0.06 * scale, 0.01 * scale, 0.001 * scale)


def verdicts(folder: Path, *names: str, **parameters: dict[str, Any]) -> dict[str, Verdict]:
    rules = build_rules(names, QUICK | parameters)
    return {verdict.name: verdict for verdict in evaluate(Profile.read(folder), rules)}
