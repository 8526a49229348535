"""Lines over one x axis: of a training's steps, or of its time."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from sagelight.reporting.curves import BOTTOM, HEIGHT, LEFT, MOST_DOTS, RIGHT, TOP, WIDTH
from sagelight.reporting.svg import Axes, Scale, drawing, element, path, step_for, ticks

Points = list[tuple[float, float]]
# A line so long is drawn as means of neighbouring points.
MOST_POINTS = 300
# A logarithmic axis serves values that differ by more.
_WIDE = 100.0


@dataclass(frozen=True)
class Line:
    """One line and its key; dots tell their values where there are few."""

    css: str
    name: str
    points: Points


@dataclass(frozen=True)
class Chart:
    """One picture; `note` says what could not be drawn as it is."""

    title: str
    lines: list[Line]
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class Frame:
    """What the charts of one section share: the x axis from `low` to `high`, and what stands behind the lines.

    Attributes:
        word: what x counts, under the axis.
        behind: draws marks of moments on an axis.
    """

    low: float
    high: float
    word: str
    behind: Callable[[Scale], list[ET.Element]] = field(default=lambda scale: [])

    def scale(self) -> Scale:
        pad = 0.5 if self.low == self.high else 0.0
        return Scale(self.low - pad, self.high + pad, LEFT, RIGHT)

    def below(self, axes: Axes, least: float = 0.0) -> list[ET.Element]:
        step = max(least, step_for(axes.x.high - axes.x.low, 6))
        return axes.below(ticks(axes.x.low, axes.x.high, step), self.word)


def line_chart(
    title: str, lines: Sequence[Line], frame: Frame, log: bool = False, percent: bool = False
) -> Chart | None:
    """A chart of lines; None where no line has a finite value.

    Args:
        log: a logarithmic axis; it is also taken where values differ too much for another.
        percent: the axis goes from 0 to 100.
    """
    lines = [line for line in lines if any(math.isfinite(y) for _, y in line.points)]
    values = [y for line in lines for _, y in line.points if math.isfinite(y)]
    if not values:
        return None
    log = log or (min(values) > 0 and max(values) > _WIDE * statistics.median(values))
    if log and not any(value > 0 for value in values):
        return None
    place: Callable[[float], float] = _exponent if log else float
    levels = _decades(values) if log else _levels([0.0, 100.0] if percent else values)
    axes = Axes(frame.scale(), Scale(levels[0], levels[-1], BOTTOM, TOP))
    parts = axes.grid(levels, _power if log else "{:g}".format)
    parts += frame.below(axes) + frame.behind(axes.x)
    for line in lines:
        parts += _drawn(axes, line, place, frame.word)
    ends = ", ".join(f"{line.name} ends at {line.points[-1][1]:.4g}" for line in lines)
    svg = drawing(WIDTH, HEIGHT, title, f"{ends}.", parts)
    return Chart(title, list(lines), svg, _undrawn(lines, frame.word, log))


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most so many points, each the mean of neighbours; what is no number stays none."""
    size = math.ceil(len(points) / most) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(_mean(x for x, _ in group), _mean(y for _, y in group)) for group in groups]


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return sum(kept) / len(kept)


def _drawn(
    axes: Axes, line: Line, place: Callable[[float], float], word: str
) -> Iterable[ET.Element]:
    points = [(axes.x(x), axes.y(place(y))) for x, y in line.points]
    parts = [element("path", class_=f"line {line.css}", d=path(points))]
    if len(points) <= MOST_DOTS:
        for (x, y), (cx, cy) in zip(line.points, points, strict=True):
            if math.isfinite(cy):
                label = element("title", f"{word} {x:g}, {line.name}: {y:.4g}")
                parts.append(
                    element("circle", label, class_=f"dot {line.css}", cx=cx, cy=cy, r=2.2)
                )
    return parts


def _exponent(value: float) -> float:
    return math.log10(value) if value > 0 and math.isfinite(value) else math.nan


def _power(exponent: float) -> str:
    return f"{10**exponent:g}" if -3 <= exponent <= 3 else f"1e{exponent:g}"


def _decades(values: Sequence[float]) -> list[float]:
    places = [_exponent(value) for value in values if value > 0]
    low, high = math.floor(min(places)), math.ceil(max(places))
    step = max(1.0, math.ceil((max(high - low, 1)) / 6))
    return [low + step * count for count in range(math.ceil(max(high - low, 1) / step) + 1)]


def _levels(values: Sequence[float]) -> list[float]:
    low, high = min(0.0, *values), max(0.0, *values)
    step = step_for(high - low or 1.0, 5)
    last = math.ceil(high / step - 1e-9) or 1
    return ticks(step * math.floor(low / step + 1e-9), step * last, step)


def _undrawn(lines: Iterable[Line], word: str, log: bool) -> str:
    notes = []
    for line in lines:
        broken = [x for x, y in line.points if not math.isfinite(y)]
        if broken:
            notes.append(f"{line.name} is no number, first in {word} {broken[0]:g}")
        if log and any(y <= 0 for _, y in line.points):
            notes.append(f"{line.name} is zero where its line is parted")
    return "; ".join(notes)
