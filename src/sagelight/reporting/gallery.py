"""One self-contained page about photos that were explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sagelight import __version__
from sagelight.bundle.spec import BundleSpec
from sagelight.explaining.overlay import RAMP, overlay, photo
from sagelight.explaining.photos import Explained, Top
from sagelight.explaining.where import Place
from sagelight.reporting.pictures import Picture, inline
from sagelight.reporting.rendering import asset, render
from sagelight.reporting.text import percent

if TYPE_CHECKING:
    from sagelight.explaining.sanity import Sanity

# Twice as sharp as it is shown; five of about 7 KB a photo.
SIDE = 192
SHOWN_LABELS = 3


@dataclass(frozen=True)
class ShownMap:
    title: str
    label: str
    confidence: float
    picture: Picture
    where: str


@dataclass(frozen=True)
class Panel:
    """A photo, its best labels, and its maps."""

    file: str
    picture: Picture
    top: Top
    maps: list[ShownMap]


@dataclass(frozen=True)
class Check:
    """A method's sanity: the figures, what is wrong, and the maps of one photo by what was changed."""

    sanity: Sanity
    pictures: dict[str, Picture]


@dataclass(frozen=True)
class Gallery:
    """What the page shows.

    Attributes:
        source: what was asked to be explained.
        methods: names.
        left_out: photos beyond the limit.
    """

    bundle: str
    source: str
    spec: BundleSpec
    methods: list[str]
    panels: list[Panel]
    unreadable: list[dict[str, str]]
    left_out: int
    checks: Sequence[Sanity]


def panel(found: Explained) -> Panel:
    """A photo as the page shows it."""
    maps = [
        ShownMap(
            each.title,
            each.label,
            each.confidence,
            inline(overlay(found.pixels, each.heat), SIDE),
            where(each.place),
        )
        for each in found.maps
    ]
    return Panel(found.file, inline(photo(found.pixels), SIDE), found.top[:SHOWN_LABELS], maps)


def where(place: Place) -> str:
    """How the heat lies, in a few words."""
    if place.half_area is None:
        return "no heat"
    return f"half in {percent(place.half_area, 0)}"


def render_gallery(gallery: Gallery) -> str:
    """The page."""
    widest = max((len(each.maps) for each in gallery.panels), default=1)
    content: dict[str, Any] = {
        "gallery": gallery,
        "version": __version__,
        "style": asset("report.css", "gallery.css"),
        "ramp": ", ".join(f"rgb{colour}" for colour in RAMP),
        "widest": widest,
        "checks": [_check(each) for each in gallery.checks],
    }
    return render("gallery.html.j2", content)


def _check(sanity: Sanity) -> Check:
    pictures = {
        name: inline(overlay(sanity.pixels, heat), SIDE) for name, heat in sanity.examples.items()
    }
    return Check(sanity, pictures)
