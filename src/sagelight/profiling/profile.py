"""Reads what a profiler has left: one of ours, or the system metrics of a SageMaker job."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sagelight.profiling.clock import PHASES, SCHEDULED, StepTimes
from sagelight.profiling.phases import Start
from sagelight.profiling.sampler import SYSTEM

# Where a run keeps what its profiler leaves.
FOLDER = "profiler"
Values = NDArray[np.float64]
# SageMaker's agent measures one moment in several threads, which wake within this.
SAME_MOMENT_SECONDS = 0.1


class Metric(NamedTuple):
    """Which line of the system metrics: of a machine, under SageMaker's names."""

    node: str
    type: str
    name: str
    dimension: str


@dataclass
class Series:
    """Values of a metric in the order of their times, in seconds since 1970."""

    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def sorted(self) -> tuple[Values, Values]:
        times, values = np.array(self.times), np.array(self.values)
        order = np.argsort(times, kind="stable")
        return times[order], values[order]


class Step(NamedTuple):
    """A training step: its place, when it began, and its times; `start` counts the starts of the training."""

    start: int
    epoch: int
    batch: int
    t: float
    times: StepTimes


@dataclass
class Worker:
    """What one process has measured, in the order in which it wrote."""

    starts: list[Start] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    between: dict[str, list[float]] = field(default_factory=dict)

    def judged(self, warm: int) -> list[Step]:
        """Steps but the first `warm` of each start, and the first of each epoch, for which a loader starts."""
        found, met = [], [0] * (len(self.starts) + 1)
        for step in self.steps:
            met[step.start] += 1
            if met[step.start] > warm and step.batch > 0:
                found.append(step)
        return found


@dataclass
class Profile:
    """What was measured of a training.

    Attributes:
        metrics: of the machines.
        workers: by file, what each process has measured.
        damaged: how many lines could not be read, and were left out.
    """

    metrics: dict[Metric, Series] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    damaged: int = 0

    @classmethod
    def read(cls, folder: Path) -> Profile:
        """What is there; an empty one where nothing is."""
        found = cls()
        for path in sorted((folder / SYSTEM).rglob("*.json")):
            found._each(path, found._add_metric)
        for path in sorted(folder.glob("steps.*.jsonl")):
            worker = found.workers.setdefault(path.name, Worker())
            found._each(path, partial(_add_step, worker))
        return found

    @property
    def nodes(self) -> list[str]:
        return sorted({metric.node for metric in self.metrics})

    @property
    def starts(self) -> list[Start]:
        return [start for worker in self.workers.values() for start in worker.starts]

    def of(self, dimension: str, node: str) -> dict[str, Values]:
        """Values by name, `cpu0` or `gpu0`, in the order of time."""
        return {
            metric.name: self.metrics[metric].sorted()[1]
            for metric in sorted(self.metrics)
            if metric.node == node and metric.dimension == dimension
        }

    def table(self, dimensions: tuple[str, ...], node: str) -> dict[str, Values]:
        """By dimension, a row for each name and a column for each moment in which all of them were measured."""
        wanted = [m for m in sorted(self.metrics) if m.node == node and m.dimension in dimensions]
        if not wanted or {m.dimension for m in wanted} != set(dimensions):
            return {}
        series = [self.metrics[metric].sorted() for metric in wanted]
        columns = _common_moments([times for times, _ in series])
        rows = [values[column] for (_, values), column in zip(series, columns, strict=True)]
        return {
            dimension: np.array(
                [row for row, m in zip(rows, wanted, strict=True) if m.dimension == dimension]
            )
            for dimension in dimensions
        }

    def _each(self, path: Path, add: Callable[[dict[str, Any]], None]) -> None:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    add(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    self.damaged += 1

    def _add_metric(self, line: dict[str, Any]) -> None:
        metric = Metric(
            str(line["NodeId"]), str(line["Type"]), str(line["Name"]), str(line["Dimension"] or "")
        )
        time, value = float(line["Timestamp"]), float(line["Value"])
        series = self.metrics.setdefault(metric, Series())
        series.times.append(time)
        series.values.append(value)


def _common_moments(all_times: list[Values]) -> Iterator[NDArray[np.intp]]:
    """For each series, the places that belong to the moments of the first one that every series has."""
    moments = all_times[0]
    places, known = [], np.ones(len(moments), dtype=bool)
    for times in all_times:
        if len(times) == 0:
            return
        right = np.clip(np.searchsorted(times, moments), 1, max(1, len(times) - 1))
        left = right - 1
        right = np.minimum(right, len(times) - 1)
        nearer = np.where(
            np.abs(times[left] - moments) <= np.abs(times[right] - moments), left, right
        )
        known &= np.abs(times[nearer] - moments) <= SAME_MOMENT_SECONDS
        places.append(nearer)
    for nearer in places:
        yield nearer[known]


def _add_step(worker: Worker, line: dict[str, Any]) -> None:
    kind = line.pop("kind")
    if kind == "start":
        worker.starts.append(Start(**line))
    elif kind == "step":
        times = StepTimes(*(float(line[name]) for name in (*PHASES, *SCHEDULED)))
        place = (max(0, len(worker.starts) - 1), int(line["epoch"]), int(line["batch"]))
        worker.steps.append(Step(*place, float(line["t"]), times))
    else:
        worker.between.setdefault(kind, []).append(float(line["seconds"]))
