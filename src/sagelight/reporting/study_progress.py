"""How a study went: the objective of one trial after the other, and every trial's learning curve."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from sagelight.reporting.study_marks import Chart, called, cross, dot, words
from sagelight.reporting.study_objective import (
    Levels,
    Objective,
    best_of,
    levels,
    score,
    scored,
)
from sagelight.reporting.svg import Axes, Scale, drawing, element, path, step_for, ticks
from sagelight.reporting.text import plural
from sagelight.tuning.trials import Trial

WIDTH, HEIGHT = 420.0, 262.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 410.0, 14.0, 206.0
# Where trials without a score stand, below the plot.
STRIP = 13.0
MOST_POINTS = 100


def best_so_far(trials: Sequence[Trial], objective: Objective) -> list[float | None]:
    """After each trial, the best score of the completed ones up to it; None before the first."""
    best: float | None = None
    found = []
    for trial in trials:
        value = score(trial) if trial.state == "Completed" else None
        if value is not None and (
            best is None or objective.goodness(value) > objective.goodness(best)
        ):
            best = value
        found.append(best)
    return found


def history(
    trials: Sequence[Trial],
    objective: Objective,
    scale: Levels,
    drawn: Sequence[Trial] | None = None,
) -> Chart | None:
    """The objective of each trial in order and the best so far; None without any score.

    Args:
        drawn: the trials that get a mark; None for all.
    """
    if not scored(trials):
        return None
    best = best_of(trials, objective)
    numbers, counting = _numbers(trials)
    axes = _axes(numbers[0], numbers[-1], scale)
    strip = STRIP if any(score(trial) is None for trial in trials) else 0.0
    parts = axes.grid(scale.lines, objective.tick)
    parts += axes.below(_whole_ticks(axes.x), counting, drop=16 + strip)
    parts.append(
        element(
            "path", class_="line sofar", d=_steps(axes, numbers, best_so_far(trials, objective))
        )
    )
    order_of = {id(trial): order for order, trial in zip(numbers, trials, strict=True)}
    for trial in trials if drawn is None else drawn:
        order, value, label = order_of[id(trial)], score(trial), words(trial, objective)
        if value is None:
            parts.append(cross(trial, axes.x(order), BOTTOM + STRIP, label))
        elif trial is not best:
            parts.append(dot(trial, axes.x(order), axes.y(scale.clip(value)), label, best=False))
    if best:
        y = axes.y(best.objective or 0.0)
        parts.append(dot(best, axes.x(order_of[id(best)]), y, words(best, objective), best=True))
    title = f"{objective.metric} of each trial"
    return Chart(title, drawing(WIDTH, HEIGHT, title, _read(trials, objective), parts), "")


def _numbers(trials: Sequence[Trial]) -> tuple[list[int], str]:
    """The trials' own numbers where they count up, otherwise 1, 2 and so on; and what that counts."""
    names = [trial.name for trial in trials]
    start = int(names[0]) if names[0].isdecimal() else 1
    own = list(range(start, start + len(names)))
    if names == [str(entry) for entry in own]:
        return own, "trial"
    return list(range(1, len(names) + 1)), "trials, in order"


def _read(trials: Sequence[Trial], objective: Objective) -> str:
    best = best_of(trials, objective)
    if best is None:
        return f"{plural(len(trials), 'trial')}, none of them completed."
    return (
        f"{plural(len(trials), 'trial')}, best {objective.write(best.objective)} in {called(best)}."
    )


def _steps(axes: Axes, numbers: list[int], bests: list[float | None]) -> str:
    points: list[tuple[float, float | None]] = []
    last: float | None = None
    for order, value in zip(numbers, bests, strict=True):
        if value is None:
            continue
        if last is not None and value != last:
            points.append((axes.x(order), axes.y(last)))
        if value != last or order == numbers[-1]:
            points.append((axes.x(order), axes.y(value)))
        last = value
    return path(points)


def trial_curves(trials: Sequence[Trial], objective: Objective) -> Chart | None:
    """The objective after each epoch, a line a trial, the best on top; None where no curve is known."""
    known = [trial for trial in trials if any(map(math.isfinite, trial.curve))]
    if not known:
        return None
    best = best_of(trials, objective)
    values = [value for trial in known for value in trial.curve if math.isfinite(value)]
    scale = levels(values, objective)
    axes = _axes(1, max(len(trial.curve) for trial in known), scale)
    parts = axes.grid(scale.lines, objective.tick)
    parts += axes.below(_whole_ticks(axes.x), "epoch")
    for trial in sorted(known, key=lambda trial: trial is best):
        parts += _curve(axes, scale, trial, trial is best, words(trial, objective))
    title = f"{objective.metric} after each epoch"
    missing = len(trials) - len(known)
    description = plural(len(known), "trial") + (
        f", {missing} without a curve." if missing else "."
    )
    note = scale.note("point of a curve", "points of curves")
    return Chart(title, drawing(WIDTH, HEIGHT, title, description, parts), note)


def _curve(axes: Axes, scale: Levels, trial: Trial, best: bool, label: str) -> list[ET.Element]:
    points = [
        (axes.x(epoch), axes.y(scale.clip(value)) if math.isfinite(value) else None)
        for epoch, value in _thinned(trial.curve)
    ]
    css = "winner" if best else "early" if trial.state != "Completed" else "done"
    title = element("title", label)
    parts = [element("path", title, class_=f"line curve {css}", d=path(points))]
    if len(points) == 1 and points[0][1] is not None:
        parts.append(dot(trial, points[0][0], points[0][1], label, best))
    return parts


def _thinned(curve: Sequence[float]) -> list[tuple[int, float]]:
    """At most about 100 epochs with their values, the last one among them."""
    points = list(enumerate(curve, start=1))
    stride = math.ceil(len(points) / MOST_POINTS)
    return [*points[:-1:stride], points[-1]]


def _axes(first: float, last: float, scale: Levels) -> Axes:
    pad = 0.5 if first == last else 0.0
    return Axes(
        Scale(first - pad, last + pad, LEFT, RIGHT), Scale(scale.low, scale.high, BOTTOM, TOP)
    )


def _whole_ticks(scale: Scale) -> list[float]:
    """Whole numbers on an axis of trials or epochs."""
    return ticks(scale.low, scale.high, max(1.0, math.ceil(step_for(scale.high - scale.low, 8))))
