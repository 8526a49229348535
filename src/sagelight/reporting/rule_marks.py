"""Vertical marks in a chart where rules found something."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sagelight.reporting.curves import BOTTOM, TOP
from sagelight.reporting.svg import Scale, element
from sagelight.reporting.verdicts import RuleRow

# Marks nearer than this, in units of the drawing, are one.
NEAR = 7.0
_CHARACTER = 6.5
_MOST_LINES = 8
# Two rows of numbers above the plot.
_ROWS = (TOP - 3, TOP - 14)


@dataclass(frozen=True)
class Mark:
    """A finding at a step of the run; `number` is that of its rule in the table."""

    step: int
    number: int
    words: str


def marks_of(rows: Iterable[RuleRow]) -> list[Mark]:
    """One for each finding that has a step, in the order of the steps."""
    marks = [
        Mark(found.step, row.number, f"{found.when}: {row.name}: {found.where}: {found.numbers}")
        for row in rows
        for found in row.findings
        if found.step is not None
    ]
    return sorted(marks, key=lambda mark: (mark.step, mark.number))


def drawn(marks: Sequence[Mark], scale: Scale) -> list[ET.Element]:
    """Lines with the numbers of their rules above them, as far as these have room."""
    parts, free = [], dict.fromkeys(_ROWS, scale.start - 10)
    for x, group in _groups(marks, scale):
        parts.append(_mark(x, group))
        label = _label(group)
        half = _CHARACTER * len(label) / 2
        row = next((row for row in _ROWS if x - half > free[row]), None)
        if row is not None:
            free[row] = x + half + 2
            parts.append(element("text", label, class_="mid fired", x=x, y=row))
    return parts


def _groups(marks: Sequence[Mark], scale: Scale) -> list[tuple[float, list[Mark]]]:
    groups: list[tuple[float, list[Mark]]] = []
    for mark in marks:
        x = scale(mark.step)
        if groups and x - groups[-1][0] < NEAR:
            groups[-1][1].append(mark)
        else:
            groups.append((x, [mark]))
    return groups


def _label(group: Sequence[Mark]) -> str:
    numbers = sorted({mark.number for mark in group})
    return ",".join(map(str, numbers)) if len(numbers) < 4 else f"{numbers[0]}–{numbers[-1]}"


def _mark(x: float, group: Sequence[Mark]) -> ET.Element:
    lines = [mark.words for mark in group[:_MOST_LINES]]
    if len(group) > _MOST_LINES:
        lines.append(f"and {len(group) - _MOST_LINES} more")
    ends = {"x1": x, "x2": x, "y1": TOP, "y2": BOTTOM}
    return element(
        "g",
        element("title", "\n".join(lines)),
        element("line", class_="fired", **ends),
        element("line", class_="touch", **ends),
    )
