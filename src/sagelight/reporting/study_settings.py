"""The objective over the settings: all of them at once as parallel coordinates, and one by one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sagelight.reporting.study_axis import (
    SCALE_NAMES,
    ChoiceAxis,
    NumberAxis,
    SettingAxis,
)
from sagelight.reporting.study_marks import cut, dot, words
from sagelight.reporting.study_objective import Levels, Objective, best_of, scored
from sagelight.reporting.svg import Axes, Scale, drawing, element, path
from sagelight.reporting.text import plural
from sagelight.tuning.trials import Trial

WIDTH, HEIGHT = 420.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 394.0, 14.0, 206.0
ROW, LABELS = 24.0, 160.0
MARGIN, TALL = 74.0, 300.0
NARROWEST, WIDEST, PAGE = 128.0, 300.0, 1030.0
MOST_LABELS = 16
SHADES = 10

Scored = Sequence[tuple[Trial, float]]


@dataclass(frozen=True)
class Parallel:
    """The picture and how wide it wants to be, in pixels; a narrow page scrolls it."""

    svg: Markup
    width: int


@dataclass(frozen=True)
class Slice:
    """The objective over one setting; `note` says which trials are not in it, or is empty."""

    name: str
    scale: str
    svg: Markup
    note: str


def parallel(
    trials: Sequence[Trial], axes: Sequence[SettingAxis], objective: Objective, scale: Levels
) -> Parallel | None:
    """A line a trial through its values, shaded by its rank; None without settings or scores."""
    found = scored(trials)
    if not found or not axes:
        return None
    gap = min(WIDEST, max(NARROWEST, (PAGE - 2 * MARGIN) / len(axes)))
    places = [MARGIN + gap * index for index in range(len(axes) + 1)]
    down = Scale(0, 1, TOP + TALL + 34, TOP + 34)
    last = Scale(scale.low, scale.high, down.start, down.end)
    parts = []
    best = best_of(trials, objective)
    for trial, value, shade in _ranked(found, objective, best):
        heights = [axis.place(trial.values.get(axis.name)) for axis in axes]
        points = [None if height is None else down(height) for height in heights]
        d = path(zip(places, [*points, last(scale.clip(value))], strict=True))
        css = "winner" if trial is best else f"c{shade}"
        label = element("title", words(trial, objective))
        parts.append(element("path", label, class_=f"trial {css}", d=d))
    for axis, x in zip(axes, places, strict=False):
        ends = [(down(tick.place), tick.label) for tick in axis.ticks]
        parts += _upright(axis.name, x, down, ends, left=True)
    ends = [(last(level), objective.tick(level)) for level in scale.lines]
    parts += _upright(objective.metric, places[-1], down, ends, left=False)
    width = places[-1] + MARGIN
    title = f"{objective.metric} over all settings"
    description = f"{plural(len(found), 'trial')}, {plural(len(axes), 'setting')}."
    svg = drawing(width, TOP + TALL + 50, title, description, parts)
    return Parallel(svg, round(width))


def _ranked(
    found: Scored, objective: Objective, best: Trial | None
) -> list[tuple[Trial, float, int]]:
    """The trials from worst to best with a shade of 1..10 by their rank; equals share one."""
    order = sorted({objective.goodness(value) for _, value in found})
    steps = max(1, len(order) - 1)
    shades = {rank: 1 + round((SHADES - 1) * at / steps) for at, rank in enumerate(order)}
    shaded = [(trial, value, shades[objective.goodness(value)]) for trial, value in found]
    return sorted(shaded, key=lambda entry: (entry[0] is best, objective.goodness(entry[1])))


def _upright(
    name: str, x: float, down: Scale, marks: list[tuple[float, str]], left: bool
) -> list[ET.Element]:
    """An axis from bottom to top with its name above it, on two lines where it has a dot."""
    group, _, own = name.rpartition(".")
    parts = [
        element("line", class_="axis", x1=x, x2=x, y1=down.start, y2=down.end),
        element("text", cut(own, 20), element("title", name), class_="mid mark", x=x, y=TOP + 14),
    ]
    if group:
        parts.append(element("text", cut(group + ".", 20), class_="mid", x=x, y=TOP))
    css, side = ("tick end", -6) if left else ("tick", 6)
    for y, label in marks[:: -(-len(marks) // MOST_LABELS)]:
        text = element("text", cut(label, 14), class_=f"{css} halo", x=x + side, y=y + 4)
        if len(label) > 14:
            text.append(element("title", label))
        parts.append(text)
        parts.append(element("line", class_="axis", x1=x - 3, x2=x + 3, y1=y, y2=y))
    return parts


def slices(
    trials: Sequence[Trial], axes: Sequence[SettingAxis], objective: Objective, scale: Levels
) -> list[Slice]:
    """The objective over each setting, a chart a setting; empty without any score."""
    found = scored(trials)
    best = best_of(trials, objective)
    # The best is drawn last, so nothing lies on it.
    ordered = sorted(found, key=lambda entry: entry[0] is best)
    return [_slice(ordered, axis, objective, scale, best) for axis in axes if found]


def _slice(
    found: Scored, axis: SettingAxis, objective: Objective, scale: Levels, best: Trial | None
) -> Slice:
    placed = [(t, value) for t, value in found if axis.place(t.values.get(axis.name)) is not None]
    if isinstance(axis, ChoiceAxis):
        height, parts = _rows(placed, axis, objective, scale, best)
    else:
        height, parts = HEIGHT, _scatter(placed, axis, objective, scale, best)
    title = f"{objective.metric} over {axis.name}"
    svg = drawing(WIDTH, height, title, f"{plural(len(placed), 'trial')}.", parts)
    return Slice(axis.name, _scale_name(axis), svg, _unplaced(found, axis))


def _scale_name(axis: SettingAxis) -> str:
    return SCALE_NAMES[axis.scale] if isinstance(axis, NumberAxis) else ""


def _scatter(
    placed: Scored, axis: NumberAxis, objective: Objective, scale: Levels, best: Trial | None
) -> list[ET.Element]:
    frame = Axes(Scale(0, 1, LEFT, RIGHT), Scale(scale.low, scale.high, BOTTOM, TOP))
    parts = frame.grid(scale.lines, objective.tick)
    for tick in axis.ticks:
        x = frame.x(tick.place)
        parts.append(element("line", class_="axis", x1=x, x2=x, y1=BOTTOM, y2=BOTTOM + 4))
        parts.append(element("text", tick.label, class_="tick mid", x=x, y=BOTTOM + 18))
    for trial, value in placed:
        x = frame.x(axis.place(trial.values.get(axis.name)) or 0.0)
        y = frame.y(scale.clip(value))
        parts.append(dot(trial, x, y, words(trial, objective, [axis.name]), trial is best))
    return parts


def _rows(
    placed: Scored, axis: ChoiceAxis, objective: Objective, scale: Levels, best: Trial | None
) -> tuple[float, list[ET.Element]]:
    """The drawing's height and its parts: a row a choice, the objective from left to right."""
    across = Scale(scale.low, scale.high, LABELS, RIGHT)
    bottom = TOP + ROW * len(axis.values)
    parts = []
    for level in scale.lines:
        x = across(level)
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=bottom))
    for level in _thinner(scale):
        text = objective.tick(level)
        parts.append(element("text", text, class_="tick mid", x=across(level), y=bottom + 18))
    middle = (LABELS + RIGHT) / 2
    parts.append(element("text", objective.metric, class_="tick mid", x=middle, y=bottom + 36))
    rows = {text: TOP + ROW * (index + 0.5) for index, text in enumerate(axis.values)}
    for text, y in rows.items():
        label = element("text", cut(text, 18), class_="tick end", x=LABELS - 12, y=y + 4)
        label.append(element("title", text))
        parts.append(element("line", class_="grid", x1=LABELS, x2=RIGHT, y1=y, y2=y))
        parts.append(label)
    for index, (trial, value) in enumerate(placed):
        # A little up and down keeps equal trials apart.
        y = rows[trial.values[axis.name]] + (index % 5 - 2) * 2.4
        label_text = words(trial, objective, [axis.name])
        parts.append(dot(trial, across(scale.clip(value)), y, label_text, trial is best))
    return bottom + 46, parts


def _thinner(scale: Levels) -> list[float]:
    """At most four of the levels, for labels side by side."""
    return scale.lines[:: -(-len(scale.lines) // 4)]


def _unplaced(found: Scored, axis: SettingAxis) -> str:
    texts = [trial.values.get(axis.name) for trial, _ in found]
    lost = [text for text in texts if axis.place(text) is None]
    if not lost:
        return ""
    shown = ", ".join(dict.fromkeys("no value" if text is None else cut(text) for text in lost))
    return f"{plural(len(lost), 'trial')} with no place on this scale: {cut(shown, 120)}."
