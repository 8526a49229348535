"""How long the steps of a training took, by phase, over its time."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from sagelight.profiling.clock import PHASES
from sagelight.profiling.profile import Step
from sagelight.reporting.curves import BOTTOM, HEIGHT, TOP, WIDTH
from sagelight.reporting.line_chart import Chart, Frame, Line
from sagelight.reporting.svg import Axes, Scale, drawing, element, step_for, ticks
from sagelight.reporting.training_time import TrainingTime

MOST_COLUMNS = 120
NAMES = {
    "data": "waiting for data",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "other": "other",
}
# A column is cut off above so many times the middle one, or a slow first step would flatten all others.
_HIGHEST = 4.0


@dataclass(frozen=True)
class Column:
    """Steps in a row, one or more; `seconds` is their mean by phase."""

    steps: Sequence[Step]

    @cached_property
    def seconds(self) -> dict[str, float]:
        return {
            name: statistics.fmean(getattr(s.times, name) for s in self.steps) for name in PHASES
        }

    @cached_property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def words(self) -> str:
        first, last = self.steps[0], self.steps[-1]
        batches = f"batch {first.batch + 1}"
        if len(self.steps) > 1:
            batches = f"batches {first.batch + 1} to {last.batch + 1}"
        parts = ", ".join(f"{NAMES[name]} {_ms(each)}" for name, each in self.seconds.items())
        return f"epoch {first.epoch + 1}, {batches}: {_ms(self.total)} a step: {parts}"


def step_timeline(steps: Sequence[Step], time: TrainingTime, frame: Frame) -> Chart | None:
    """A column for every few steps, as wide as they took and as high as one of them; None where there are none."""
    columns = [Column(group) for group in _groups(steps)]
    if not columns or max(column.total for column in columns) <= 0:
        return None
    highest = max(column.total for column in columns)
    middle = statistics.median(column.total for column in columns)
    top = min(highest, _HIGHEST * middle) or highest
    factor, unit = (1000.0, "milliseconds") if top < 1 else (1.0, "seconds")
    step = step_for(top * factor, 5)
    levels = ticks(0.0, step * math.ceil(top * factor / step - 1e-9), step)
    axes = Axes(frame.scale(), Scale(0.0, levels[-1], BOTTOM, TOP))
    parts = axes.grid(levels, "{:g}".format) + frame.below(axes)
    places = [(_place(column, time, axes.x), column) for column in columns]
    parts += [_phase(number, places, axes.y, factor) for number in range(len(PHASES))]
    parts += frame.behind(axes.x)
    parts += [_touch(*place, column.words) for place, column in places]
    above = [column for column in columns if column.total * factor > levels[-1]]
    most = f"the slowest with {highest:.3g} s a step"
    note = f"{len(above)} of {len(columns)} columns are cut off, {most}" if above else ""
    keys = [Line(f"box {name}", NAMES[name], []) for name in PHASES]
    title = f"Time of a step, in {unit}"
    svg = drawing(WIDTH, HEIGHT, title, f"{len(steps)} steps; half take {_ms(middle)}.", parts)
    return Chart(title, keys, svg, note)


def _groups(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Neighbours of one epoch and start."""
    size, begin = math.ceil(len(steps) / MOST_COLUMNS) or 1, 0
    apart = len({(step.start, step.epoch) for step in steps}) <= MOST_COLUMNS // 2
    for place in range(1, len(steps) + 1):
        here = steps[begin]
        ends = place == len(steps) or place - begin == size
        if not ends and apart:
            ends = (steps[place].start, steps[place].epoch) != (here.start, here.epoch)
        if ends:
            yield steps[begin:place]
            begin = place


def _place(column: Column, time: TrainingTime, x: Scale) -> tuple[float, float]:
    last = column.steps[-1]
    unit = time.unit[1]
    left, right = time(column.steps[0].t) / unit, time(last.t + last.times.total) / unit
    return x(left), max(x(right), x(left) + 0.4)


def _phase(
    number: int, places: Sequence[tuple[tuple[float, float], Column]], y: Scale, factor: float
) -> ET.Element:
    """One phase of all columns, above those before it."""
    d = ""
    for (left, right), column in places:
        seconds = list(column.seconds.values())
        low, high = sum(seconds[:number]) * factor, sum(seconds[: number + 1]) * factor
        bottom, top = y(min(low, y.high)), y(min(high, y.high))
        if bottom - top > 0.05:
            d += f"M{left:.1f} {bottom:.1f}H{right:.1f}V{top:.1f}H{left:.1f}Z"
    return element("path", class_=f"phase {PHASES[number]}", d=d)


def _touch(left: float, right: float, words: str) -> ET.Element:
    return element(
        "rect",
        element("title", words),
        class_="over",
        x=left,
        y=TOP,
        width=right - left,
        height=BOTTOM - TOP,
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
