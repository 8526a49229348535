"""A setting's values laid on a line from 0 to 1: numbers on their scale, choices side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sagelight.reporting.svg import step_for, ticks
from sagelight.tuning.space import Categorical, Continuous, Dimension, Integer, Scale, Space
from sagelight.tuning.trials import Trial

MOST_TICKS = 6
SCALE_NAMES = {"auto": "", "log": "logarithmic scale", "reverse_log": "reversed logarithmic scale"}


@dataclass(frozen=True)
class Tick:
    """A label at a place of 0..1."""

    place: float
    label: str


@dataclass(frozen=True)
class NumberAxis:
    """A numeric setting; `low` and `high` are its ends on the scale, so logarithms on a log one."""

    name: str
    scale: Scale
    low: float
    high: float
    ticks: tuple[Tick, ...]

    def place(self, text: str | None) -> float | None:
        """Where a value stands in 0..1; None where it is no number, or none that the scale has."""
        position = _position(self.scale, number(text))
        return None if position is None else (position - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class ChoiceAxis:
    """A setting with some values, first to last."""

    name: str
    values: tuple[str, ...]

    @property
    def ticks(self) -> tuple[Tick, ...]:
        return tuple(Tick(self._at(index), text) for index, text in enumerate(self.values))

    def place(self, text: str | None) -> float | None:
        """Where a value stands in 0..1; None where the trial has none."""
        return self._at(self.values.index(text)) if text in self.values else None

    def _at(self, index: int) -> float:
        return index / (len(self.values) - 1) if len(self.values) > 1 else 0.5


SettingAxis = NumberAxis | ChoiceAxis


def setting_axes(space: Space, trials: Sequence[Trial]) -> list[SettingAxis]:
    """An axis for each setting of the space, wide enough for every value that a trial had."""
    return [
        _axis(dimension, [t.values[dimension.name] for t in trials if dimension.name in t.values])
        for dimension in space.dimensions
    ]


def number(text: str | None) -> float | None:
    """The finite number that a Hydra text writes, or None."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _axis(dimension: Dimension, seen: Iterable[str]) -> SettingAxis:
    if isinstance(dimension, Categorical):
        return ChoiceAxis(dimension.name, tuple(dict.fromkeys([*dimension.values, *seen])))
    values = [float(dimension.low), float(dimension.high)]
    values += [value for value in map(number, seen) if value is not None]
    return _number_axis(dimension, values)


def _number_axis(dimension: Continuous | Integer, values: list[float]) -> NumberAxis:
    scale = dimension.scale
    placed = [value for value in values if _position(scale, value) is not None] or [0.5]
    least, most = min(placed), max(placed)
    low, high = _position(scale, least) or 0.0, _position(scale, most) or 0.0
    if low == high:
        low, high = low - 0.5, high + 0.5
    marks = _marks(scale, least, most, whole=isinstance(dimension, Integer))
    positions = [(_position(scale, mark), f"{mark:.10g}") for mark in marks]
    labels = [Tick((at - low) / (high - low), label) for at, label in positions if at is not None]
    return NumberAxis(dimension.name, scale, low, high, tuple(labels))


def _position(scale: Scale, value: float | None) -> float | None:
    if value is None:
        return None
    if scale == "log":
        return math.log10(value) if value > 0 else None
    if scale == "reverse_log":
        return -math.log10(1 - value) if value < 1 else None
    return value


def _marks(scale: Scale, low: float, high: float, whole: bool) -> list[float]:
    """Round values from `low` to `high`, at most six or so; the ends where there are none."""
    if low == high:
        return [low]
    if scale == "log":
        marks = _decades(low, high)
    elif scale == "reverse_log":
        marks = [round(1 - rest, 12) for rest in reversed(_decades(1 - high, 1 - low))]
    else:
        step = step_for(high - low, 5)
        marks = ticks(low, high, max(1.0, math.ceil(step)) if whole else step)
    return marks if len(marks) > 1 else [low, high]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, every second or so of many; with 2 and 5 times of few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1,), (1, 3), (1, 2, 5)):
        marks = [
            step * 10.0**power
            for power in range(first, last + 1)
            for step in steps
            if low * (1 - 1e-9) <= step * 10.0**power <= high * (1 + 1e-9)
        ]
        if len(marks) > 2:
            break
    return marks[:: math.ceil(len(marks) / MOST_TICKS)] if marks else []
