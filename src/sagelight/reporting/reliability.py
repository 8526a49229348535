"""The reliability diagram: what the model claims, what comes true, and how often it claims it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from markupsafe import Markup

from sagelight.metrics.evaluation import CalibrationBin, Evaluation
from sagelight.reporting.curves import percent_tick
from sagelight.reporting.svg import Axes, Scale, drawing, element, ticks
from sagelight.reporting.text import percent, plural, whole

WIDTH, HEIGHT = 420.0, 442.0
LEFT, RIGHT = 48.0, 400.0
TOP, MIDDLE = 12.0, 312.0
BARS_TOP, BARS_BOTTOM = 352.0, 402.0
GAP = 1.5


@dataclass(frozen=True)
class Reliability:
    """The diagram, its filled bins, and the sentence that reads it."""

    svg: Markup
    bins: list[CalibrationBin]
    reading: str


def reliability(evaluation: Evaluation) -> Reliability:
    """The calibration of one split's predictions."""
    filled = [entry for entry in evaluation.calibration if entry.count]
    reading = _reading(evaluation, filled)
    axes = Axes(Scale(0, 1, LEFT, RIGHT), Scale(0, 1, MIDDLE, TOP))
    parts = axes.grid(ticks(0, 1, 0.2), percent_tick)
    for entry in filled:
        parts += _bar(axes, entry)
    parts.append(
        element("line", class_="diagonal", x1=axes.x(0), y1=axes.y(0), x2=axes.x(1), y2=axes.y(1))
    )
    parts += _histogram(axes, evaluation.calibration)
    svg = drawing(WIDTH, HEIGHT, "Reliability diagram", reading, parts)
    return Reliability(svg, filled, reading)


def _reading(evaluation: Evaluation, filled: list[CalibrationBin]) -> str:
    claimed = sum(entry.count * entry.confidence for entry in filled) / evaluation.count
    gap = claimed - evaluation.accuracy
    verdict = "about as sure as it may be"
    if abs(gap) >= 0.01:
        verdict = "too sure of itself" if gap > 0 else "less sure than it could be"
    return (
        f"On average it claims {percent(claimed)} and is right in {percent(evaluation.accuracy)}: "
        f"{verdict}."
    )


def _bar(axes: Axes, entry: CalibrationBin) -> list[ET.Element]:
    words = (
        f"{percent_range(entry)}: {plural(entry.count, 'photo')}, "
        f"claimed {percent(entry.confidence)}, right {percent(entry.accuracy)}"
    )
    bottom, top = sorted((entry.accuracy, entry.confidence))
    css = "over" if entry.confidence > entry.accuracy else "under"
    return [
        element(
            "g",
            element("title", words),
            _rect(axes, entry, 0, bottom, "right"),
            _rect(axes, entry, bottom, top, f"gap {css}"),
        )
    ]


def _rect(axes: Axes, entry: CalibrationBin, bottom: float, top: float, css: str) -> ET.Element:
    left, right = axes.x(entry.low) + GAP, axes.x(entry.high) - GAP
    return element(
        "rect",
        class_=css,
        x=left,
        y=axes.y(top),
        width=right - left,
        height=axes.y(bottom) - axes.y(top),
    )


def percent_range(entry: CalibrationBin) -> str:
    return f"{100 * entry.low:.0f}–{100 * entry.high:.0f}%"


def _histogram(axes: Axes, bins: list[CalibrationBin]) -> list[ET.Element]:
    most = max(entry.count for entry in bins)
    counts = Axes(axes.x, Scale(0, most, BARS_BOTTOM, BARS_TOP))
    parts = [_rect(counts, entry, 0, entry.count, "count") for entry in bins if entry.count]
    parts += [
        element(
            "text",
            _brief(entry.count),
            class_="tick small mid",
            x=axes.x((entry.low + entry.high) / 2),
            y=counts.y(entry.count) - 4,
        )
        for entry in bins
        if entry.count
    ]
    parts.append(element("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BARS_BOTTOM, y2=BARS_BOTTOM))
    parts += [
        element("text", percent_tick(place), class_="tick mid", x=axes.x(place), y=BARS_BOTTOM + 16)
        for place in ticks(0, 1, 0.2)
    ]
    parts.append(
        element(
            "text",
            "probability of the predicted class",
            class_="tick mid",
            x=(LEFT + RIGHT) / 2,
            y=BARS_BOTTOM + 34,
        )
    )
    parts.append(element("text", "photos in each range", class_="tick", x=LEFT, y=BARS_TOP - 20))
    return parts


def _brief(count: int) -> str:
    return whole(count) if count < 1000 else f"{count / 1000:.3g}k"
