"""How figures are written on the page."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

NOTHING = "–"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0..1 as a percentage; never 100 % of what is not all, nor 0 % of some."""
    if share is None or share != share:
        return NOTHING
    step = 10.0**-digits
    value = 100 * share
    if 0 < value < step / 2:
        return f"<{step:.{digits}f}%"
    if 100 - step / 2 <= value < 100:
        return f">{100 - step:.{digits}f}%"
    return f"{value:.{digits}f}%"


def figure(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None or value != value else f"{value:.{digits}f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Three digits: `0.12`, `84.6`, `1.2 k`, `33.2 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.3g}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 photo`, `1,200 photos`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`8.4 s`, `3 min 12 s` or `1 h 04 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def value(entry: Any) -> str:
    """A setting as YAML would write it."""
    if entry is None:
        return "null"
    if isinstance(entry, bool):
        return str(entry).lower()
    if isinstance(entry, (list, tuple)):
        return ", ".join(value(item) for item in entry) or "none"
    return f"{entry:g}" if isinstance(entry, float) else str(entry)


def sentence(words: str) -> str:
    """With a capital at its beginning, and an end."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "?", "!")) else ".")


def breakable(name: str) -> Markup:
    """A name that a narrow column may break after `_`, `-`, `.` or `/`, as HTML."""
    html = str(escape(name))
    for mark in "_-./":
        html = html.replace(mark, f"{mark}<wbr>")
    return Markup(html)


FILTERS = {
    "breakable": breakable,
    "sentence": sentence,
    "short": short,
    "percent": percent,
    "figure": figure,
    "whole": whole,
    "plural": plural,
    "duration": duration,
    "value": value,
}
