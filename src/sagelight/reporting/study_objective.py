"""What a study optimizes: how it is written, which trials have it, and the scale of the charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from sagelight.reporting.curves import percent_tick
from sagelight.reporting.svg import step_for, ticks
from sagelight.reporting.text import NOTHING, percent, plural
from sagelight.tuning.trials import Trial, best_trial

# Tukey's rule for what is far out.
FAR_OUT = 3.0
FEWEST_FOR_OUTLIERS = 5


@dataclass(frozen=True)
class Objective:
    """A metric and whether more of it is better."""

    metric: str
    maximize: bool

    @property
    def is_share(self) -> bool:
        return "accuracy" in self.metric

    @property
    def aim(self) -> str:
        return "highest" if self.maximize else "lowest"

    def goodness(self, value: float) -> float:
        """The value, or its negative where less is better."""
        return value if self.maximize else -value

    def write(self, value: float | None) -> str:
        if value is None:
            return NOTHING
        return percent(value, 2) if self.is_share else f"{value:.4g}"

    def tick(self, level: float) -> str:
        return percent_tick(level) if self.is_share else f"{level:g}"


def score(trial: Trial) -> float | None:
    """The trial's objective; None where it failed or the objective is no finite number."""
    value = trial.objective
    if trial.state == "Failed" or value is None or not math.isfinite(value):
        return None
    return value


def scored(trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
    """The trials that have a score, with it, in their order."""
    found = [(trial, score(trial)) for trial in trials]
    return [(trial, value) for trial, value in found if value is not None]


def best_of(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The completed trial with the best score, the first among equals."""
    return best_trial([trial for trial, _ in scored(trials)], objective.maximize)


@dataclass(frozen=True)
class Levels:
    """The lines of a value axis, lowest first, at least two; what is beyond them stands at its edge.

    Attributes:
        beyond: how many of the values are worse than the axis shows.
    """

    lines: list[float]
    beyond: int = 0

    @property
    def low(self) -> float:
        return self.lines[0]

    @property
    def high(self) -> float:
        return self.lines[-1]

    def clip(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def note(self, one: str, many: str | None = None) -> str:
        """What to say about the values beyond the axis, which `one` names; empty without any."""
        if not self.beyond:
            return ""
        verb = "is" if self.beyond == 1 else "are"
        count = plural(self.beyond, one, many)
        return f"{count} {verb} far worse than the rest and {verb} drawn at the edge of the scale"


def levels(values: Sequence[float], objective: Objective) -> Levels:
    """An axis around all values but those that are worse than the rest by far.

    One diverged trial would otherwise leave no room to tell the good ones apart.
    """
    kept = _without_far_out(values, objective) or [0.0, 1.0]
    low, high = min(kept), max(kept)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        lines = _around(high)
    else:
        step = step_for(high - low, 5)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        lines = ticks(first * step, last * step, step)
    # Rounding lets a scale that just fits stop a hair short of its ends.
    lines = [min(lines[0], low), *lines[1:-1], max(lines[-1], high)]
    return Levels(lines, sum(not lines[0] <= value <= lines[-1] for value in values))


def _around(value: float) -> list[float]:
    """Two or three round levels with `value` among or between them."""
    step = step_for(abs(value) if abs(value) > 1e-6 else 1.0, 5)
    first, last = math.floor(value / step + 1e-9), math.ceil(value / step - 1e-9)
    if first == last:
        first, last = (first - 1, last) if value > 0 else (first, last + 1)
    return ticks(first * step, last * step, step)


def _without_far_out(values: Sequence[float], objective: Objective) -> list[float]:
    if len(values) < FEWEST_FOR_OUTLIERS:
        return list(values)
    goodness = [objective.goodness(value) for value in values]
    first, _, third = quantiles(goodness, n=4, method="inclusive")
    fence = first - FAR_OUT * (third - first)
    if third == first:
        return list(values)
    return [value for value in values if objective.goodness(value) >= fence]
