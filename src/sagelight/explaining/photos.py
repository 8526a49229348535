"""One photo explained: its labels, a map for each of them and each method, and the pictures of these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sagelight.explaining.methods import Method
from sagelight.explaining.occlusion import Heat, Pixels, as_heat
from sagelight.explaining.overlay import overlay, photo
from sagelight.explaining.where import Place, place_of
from sagelight.serving.predictor import Predictor

Top = list[tuple[str, float]]


@dataclass(frozen=True)
class Map:
    """What a label of a photo rests on, by one method.

    Attributes:
        heat: (H, W) in 0..1.
    """

    method: str
    title: str
    label: str
    confidence: float
    heat: Heat
    place: Place


@dataclass(frozen=True)
class Explained:
    """A photo (3, H, W) with its best labels and the maps of those that were asked for."""

    file: str
    pixels: Pixels
    top: Top
    maps: list[Map]


def explain_photo(
    predictor: Predictor, methods: Sequence[Method], file: str, pixels: Pixels, wanted: int | str
) -> Explained:
    """Explain a photo.

    Args:
        file: as it is to be called.
        wanted: how many of the best labels, or the one label.
    """
    row = predictor.probabilities(pixels[np.newaxis])[0]
    order = np.argsort(-row, kind="stable")
    targets = (
        [predictor.labels.index(wanted)]
        if isinstance(wanted, str)
        else [int(index) for index in order[:wanted]]
    )
    evidence = {method.name: method.evidence(pixels, targets) for method in methods}
    maps = [
        _map(method, predictor.labels[target], float(row[target]), evidence[method.name][place])
        for place, target in enumerate(targets)
        for method in methods
    ]
    top = [(predictor.labels[index], float(row[index])) for index in order[:5]]
    return Explained(file, pixels, top, maps)


def _map(method: Method, label: str, confidence: float, evidence: Heat) -> Map:
    heat = as_heat(evidence)
    return Map(method.name, method.title, label, confidence, heat, place_of(heat))


def write_pictures(folder: Path, number: int, found: Explained) -> list[str]:
    """Leave the photo as the network saw it and an overlay for each map, as PNG files.

    Args:
        folder: of all results.
        number: of the photo, which begins the name of its own folder.

    Returns:
        Paths below `folder`: the photo's, then those of the maps in their order.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(found.file).stem).strip("-.")[:60]
    own = Path("photos") / f"{number:04d}-{stem or 'photo'}"
    (folder / own).mkdir(parents=True)
    names = []
    for name, picture in _pictures(found):
        picture.save(folder / own / name)
        names.append((own / name).as_posix())
    return names


def _pictures(found: Explained) -> Iterator[tuple[str, Any]]:
    yield "original.png", photo(found.pixels)
    ranks = {label: rank for rank, (label, _) in enumerate(found.top, 1)}
    for each in found.maps:
        rank = ranks.get(each.label, "other")
        yield f"{each.method}-{rank}.png", overlay(found.pixels, each.heat)


def entry_of(found: Explained, names: Sequence[str]) -> dict[str, Any]:
    """What explain.json says of a photo; `names` as `write_pictures` gives them."""
    label, confidence = found.top[0]
    return {
        "file": found.file,
        "label": label,
        "confidence": confidence,
        "top": [{"label": name, "confidence": share} for name, share in found.top],
        "original": names[0],
        "maps": [
            {
                "method": each.method,
                "label": each.label,
                "confidence": each.confidence,
                "picture": name,
                "centre": each.place.centre,
                "central_share": each.place.central_share,
                "half_area": each.place.half_area,
            }
            for each, name in zip(found.maps, names[1:], strict=True)
        ],
    }
