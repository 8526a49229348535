"""How busy the machines of a training were, over its time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sagelight.profiling.profile import Metric, Profile
from sagelight.profiling.rules.gpu import CPU, GPU, GPU_MEMORY, IO_WAIT
from sagelight.reporting.line_chart import Chart, Frame, Line, Points, line_chart
from sagelight.reporting.training_time import TrainingTime

MOST_POINTS = 240
MOST_NODES = 4
_MEMORY = "MemoryUsedPercent"
_LINES = (
    (GPU, "two", "GPU"),
    (GPU_MEMORY, "two part", "GPU memory"),
    (CPU, "one", "CPU"),
    (IO_WAIT, "four", "waiting for disk"),
    (_MEMORY, "three part", "memory"),
)


def utilisation(profile: Profile, time: TrainingTime, frame: Frame) -> list[Chart]:
    """A chart for each of the first machines: means of its cores and GPUs in percent."""
    nodes = profile.nodes[:MOST_NODES]
    charts = []
    for node in nodes:
        lines = [
            Line(css, name, _mean(_metrics(profile, node, what), profile, time))
            for what, css, name in _LINES
        ]
        where = f" of {node}" if len(profile.nodes) > 1 else ""
        title = f"Utilisation{where}, in percent"
        charts.append(line_chart(title, lines, frame, percent=True))
    return [chart for chart in charts if chart]


def _metrics(profile: Profile, node: str, what: str) -> list[Metric]:
    """By dimension, or, where a line has none that says it, by name."""
    return [
        metric
        for metric in sorted(profile.metrics)
        if metric.node == node and what in (metric.dimension, metric.name)
    ]


def _mean(metrics: Sequence[Metric], profile: Profile, time: TrainingTime) -> Points:
    """Over all cores or GPUs, and over short times where there are more samples than a line needs."""
    width = time.total / MOST_POINTS or 1.0
    found: dict[int, tuple[float, float, int]] = {}
    for metric in metrics:
        series = profile.metrics[metric]
        for t, value in zip(series.times, series.values, strict=True):
            if math.isfinite(value):
                at = time(t)
                place = int(at / width)
                seconds, total, count = found.get(place, (0.0, 0.0, 0))
                found[place] = (seconds + at, total + value, count + 1)
    unit = time.unit[1]
    return [
        (seconds / count / unit, total / count)
        for _, (seconds, total, count) in sorted(found.items())
    ]
