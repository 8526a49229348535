"""Learning curves: one chart a figure, training and validation, the best epoch marked."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from sagelight.reporting.run import Run
from sagelight.reporting.svg import Axes, Scale, drawing, element, step_for, ticks
from sagelight.reporting.text import percent, plural

WIDTH, HEIGHT = 420.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 410.0, 22.0, 206.0
MOST_DOTS = 60
SPLITS = {"train": "training", "val": "validation"}

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One chart; `lines` are the splits in it, `note` says what could not be drawn."""

    title: str
    lines: list[str]
    svg: Markup
    note: str


def learning_curves(run: Run) -> list[Curve]:
    """Loss and accuracy over the epochs, as far as metrics.csv has them."""
    wanted = {"Loss": "loss", "Accuracy": "accuracy"}
    curves = [_curve(run, title, name) for title, name in wanted.items()]
    return [curve for curve in curves if curve]


def _curve(run: Run, title: str, name: str) -> Curve | None:
    columns = {split: f"{split}/{name}" for split in SPLITS}
    lines: dict[str, Points] = {
        split: [(row["epoch"], row[column]) for row in run.epochs if column in row]
        for split, column in columns.items()
    }
    lines = {split: points for split, points in lines.items() if points}
    finite = [y for points in lines.values() for _, y in points if math.isfinite(y)]
    if not finite:
        return None
    write = percent_tick if name == "accuracy" else "{:g}".format
    axes, levels = _axes(run.epochs, finite, share=name == "accuracy")
    parts = axes.grid(levels, write)
    parts += axes.below(_epoch_ticks(axes.x.low, axes.x.high), "epoch")
    parts += _best(axes, run.best_epoch())
    for split, points in lines.items():
        parts += _line(axes, split, points, title)
    description = f"{len(run.epochs)} epochs; {_last(lines, name)}."
    svg = drawing(WIDTH, HEIGHT, f"{title} over the epochs", description, parts)
    return Curve(title, list(lines), svg, _undrawn(lines, columns))


def percent_tick(level: float) -> str:
    return f"{100 * level:g}%"


def _axes(
    rows: list[dict[str, float]], values: list[float], share: bool
) -> tuple[Axes, list[float]]:
    epochs = [row["epoch"] for row in rows]
    pad = 0.5 if min(epochs) == max(epochs) else 0.0
    low, high = (min(values), min(1.0, max(values))) if share else (0.0, max(values))
    step = step_for(high - low or (0.1 if share else 1.0), 5)
    levels = ticks(step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9), step)
    if len(levels) < 2:
        levels = [levels[0] - step, levels[0]]
    x = Scale(min(epochs) - pad, max(epochs) + pad, LEFT, RIGHT)
    return Axes(x, Scale(levels[0], levels[-1], BOTTOM, TOP)), levels


def _epoch_ticks(low: float, high: float) -> list[float]:
    return ticks(low, high, max(1.0, math.ceil(step_for(high - low, 8))))


def _best(axes: Axes, epoch: int | None) -> list[ET.Element]:
    if epoch is None or not axes.x.low <= epoch <= axes.x.high:
        return []
    x = axes.x(epoch)
    css, shift = ("mark end", -5) if x > (LEFT + RIGHT) / 2 else ("mark", 5)
    return [
        element("line", class_="best", x1=x, x2=x, y1=TOP - 14, y2=BOTTOM),
        element("text", f"best: epoch {epoch}", class_=css, x=x + shift, y=TOP - 6),
    ]


def _line(axes: Axes, split: str, points: Points, title: str) -> list[ET.Element]:
    path, pen = "", "M"
    for epoch, value in points:
        if not math.isfinite(value):
            pen = "M"
            continue
        path += f"{pen}{axes.x(epoch):.1f} {axes.y(value):.1f}"
        pen = "L"
    parts = [element("path", class_=f"line {split}", d=path)]
    drawn = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    if len(drawn) <= MOST_DOTS:
        parts += [_dot(axes, split, epoch, value, title) for epoch, value in drawn]
    return parts


def _dot(axes: Axes, split: str, epoch: float, value: float, title: str) -> ET.Element:
    label = percent(value) if title == "Accuracy" else f"{value:.4g}"
    words = f"epoch {epoch:g}, {SPLITS[split]} {title.lower()}: {label}"
    return element(
        "circle",
        element("title", words),
        class_=f"dot {split}",
        cx=axes.x(epoch),
        cy=axes.y(value),
        r=2.6,
    )


def _last(lines: dict[str, Points], name: str) -> str:
    write: Callable[[float], str] = percent if name == "accuracy" else "{:.4g}".format
    ends = {SPLITS[split]: write(points[-1][1]) for split, points in lines.items()}
    return ", ".join(f"{split} ends at {end}" for split, end in ends.items())


def _undrawn(lines: dict[str, Points], columns: dict[str, str]) -> str:
    notes = []
    for split, points in lines.items():
        broken = [epoch for epoch, value in points if not math.isfinite(value)]
        if broken:
            epochs = plural(len(broken), "epoch")
            notes.append(f"{columns[split]} is no number in {epochs}, first in epoch {broken[0]:g}")
    return "; ".join(notes)
