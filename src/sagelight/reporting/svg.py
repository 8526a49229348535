"""Charts as inline SVG: elements, scales and axes, coloured by the page's style sheet."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup


def element(tag: str, *children: ET.Element | str, **attributes: str | float) -> ET.Element:
    """An SVG element; `class_` stands for class and `_` for `-`, numbers keep two decimals."""
    node = ET.Element(
        tag,
        {
            name.rstrip("_").replace("_", "-"): entry if isinstance(entry, str) else _short(entry)
            for name, entry in attributes.items()
        },
    )
    for child in children:
        if isinstance(child, str):
            node.text = child
        else:
            node.append(child)
    return node


def drawing(
    width: float, height: float, title: str, description: str, parts: Iterable[ET.Element]
) -> Markup:
    """A picture that scales with its box; title and description are read out, not shown."""
    root = element("svg", role="img", aria_label=f"{title}. {description}")
    root.set("viewBox", f"0 0 {_short(width)} {_short(height)}")
    root.extend(parts)
    return Markup(ET.tostring(root, encoding="unicode"))


def _short(number: float) -> str:
    return f"{round(number, 2):g}"


def path(points: Iterable[tuple[float, float | None]]) -> str:
    """A line through the points, parted where one has no finite height."""
    parts, pen = [], "M"
    for x, y in points:
        if y is None or not math.isfinite(y):
            pen = "M"
            continue
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(parts)


@dataclass(frozen=True)
class Scale:
    """Data from `low` to `high` laid on the line from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def step_for(span: float, about: int) -> float:
    """The smallest 1, 2, 2.5 or 5 times a power of ten that cuts `span` into at most `about`."""
    power = 10.0 ** math.floor(math.log10(span / about))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * about >= span * (1 - 1e-9))


def ticks(low: float, high: float, step: float) -> list[float]:
    """The multiples of `step` from `low` to `high`, both included."""
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Axes:
    """A plot's frame: x from left to right, y upwards, in the units of the drawing."""

    x: Scale
    y: Scale

    def grid(self, levels: Sequence[float], write: Callable[[float], str]) -> list[ET.Element]:
        """Horizontal lines, each with its value on the left."""
        parts = []
        for level in levels:
            y = self.y(level)
            css = "axis" if level == self.y.low else "grid"
            parts.append(element("line", class_=css, x1=self.x.start, x2=self.x.end, y1=y, y2=y))
            parts.append(
                element("text", write(level), class_="tick end", x=self.x.start - 7, y=y + 4)
            )
        return parts

    def below(self, places: Sequence[float], name: str, drop: float = 16) -> list[ET.Element]:
        """Values of x under the plot, and what they count."""
        y = self.y.start + drop
        parts = [
            element("text", f"{place:g}", class_="tick mid", x=self.x(place), y=y)
            for place in places
        ]
        middle = (self.x.start + self.x.end) / 2
        return [*parts, element("text", name, class_="tick mid", x=middle, y=y + 17)]
