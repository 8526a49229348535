"""The ratios as one picture: a panel a measure, a mark a peer, ours at 1."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

from bench_report import MEASURES, Ratio, Report

from sagelight.files import write_text
from sagelight.reporting.svg import Scale, drawing, element

LEFT, RIGHT, ROW, HEAD, TOP = 190.0, 700.0, 19.0, 40.0, 54.0
# The colours of the reports' pages, in light and in dark.
STYLE = """
svg { background: #fff; font: 13px system-ui, sans-serif; fill: #1d2126; }
.quiet { fill: #5c646e; font-size: 12px; } .title { font-size: 16px; font-weight: 600; } .name { font-weight: 600; }
.end { text-anchor: end; } .mid { text-anchor: middle; }
.grid { stroke: #dfe3e7; } .ours { stroke: #2560a8; stroke-width: 1.5; }
.spread { stroke: #7a838d; stroke-width: 2; } .dot { fill: #b8500f; } .dot.ahead { fill: #2560a8; }
@media (prefers-color-scheme: dark) {
  svg { background: #15181c; fill: #e3e6ea; } .quiet { fill: #9aa3ad; } .grid { stroke: #323840; }
  .ours { stroke: #82b3f0; } .dot { fill: #ee9a61; } .dot.ahead { fill: #82b3f0; }
}
"""


def write_chart(path: Path, found: Report, machine: str, measured: str) -> None:
    """An SVG file: how many times as long as ours each peer takes, on a logarithmic axis."""
    groups = [(name, [r for r in found.ratios if r.measure == name]) for name in MEASURES]
    groups = [(name, ratios) for name, ratios in groups if ratios]
    scale, marks = _scale(found.ratios)
    parts = [
        element("style", STYLE),
        element("text", "How many times as long as sagelight", class_="title", x=20, y=24),
        element("text", f"{machine}; {measured}", class_="quiet", x=20, y=42),
    ]
    top = TOP
    for name, ratios in groups:
        parts += _panel(name, ratios, scale, marks, top)
        top += HEAD + ROW * len(ratios)
    parts += [
        element("text", f"{mark:g}", class_="quiet mid", x=scale(math.log(mark)), y=top + 18)
        for mark in marks
    ]
    said = "; ".join(f"{r.measure}, {r.peer}: {r}" for r in found.ratios)
    svg = drawing(RIGHT + 150, top + 34, "How many times as long as sagelight", said, parts)
    write_text(path, str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def _scale(ratios: list[Ratio]) -> tuple[Scale, list[float]]:
    marks = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128]
    low, high = min(r.low for r in ratios), max(r.high for r in ratios)
    kept = [mark for mark in marks if low / 2 < mark < 2 * high] or [1.0]
    ends = min(low, *kept, 0.9), max(high, *kept, 1.1)
    return Scale(math.log(ends[0]), math.log(ends[1]), LEFT, RIGHT), kept


def _panel(
    name: str, ratios: list[Ratio], scale: Scale, marks: list[float], top: float
) -> list[ET.Element]:
    first, bottom = top + HEAD - 6, top + HEAD + ROW * len(ratios) - 8
    parts = [
        element("text", name, class_="name", x=20, y=top + 22),
        element("text", MEASURES[name], class_="quiet", x=LEFT, y=top + 22),
    ]
    for mark in marks:
        x, css = scale(math.log(mark)), "ours" if mark == 1 else "grid"
        parts.append(element("line", class_=css, x1=x, x2=x, y1=first - 4, y2=bottom + 4))
    for number, ratio in enumerate(ratios):
        parts += _mark(ratio, scale, first + ROW * (number + 0.5))
    return parts


def _mark(ratio: Ratio, scale: Scale, y: float) -> list[ET.Element]:
    low, middle, high = (scale(math.log(v)) for v in (ratio.low, ratio.median, ratio.high))
    css = "dot ahead" if ratio.median >= 1 else "dot"
    return [
        element("text", ratio.peer, class_="quiet end", x=LEFT - 12, y=y + 4),
        element("line", class_="spread", x1=low, x2=high, y1=y, y2=y),
        element("circle", element("title", str(ratio)), class_=css, cx=middle, cy=y, r=4.5),
        element("text", str(ratio), class_="quiet", x=RIGHT + 14, y=y + 4),
    ]
