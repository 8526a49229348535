"""The maps that a run has left of its most confused pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagelight.reporting.pictures import Picture, thumbnail
from sagelight.reporting.run import Run, read_json, readable

KINDS = ("photo", "map_of_predicted", "map_of_label")


@dataclass(frozen=True)
class PairMap:
    """A misclassified photo as the network saw it, and what speaks in it for the two classes."""

    file: str
    photo: Picture
    predicted: Picture
    label: Picture


def pair_maps(run: Run) -> Mapping[tuple[str, str], list[PairMap]]:
    """Maps by (label, predicted); nothing where the run made none.

    Raises:
        RunError: evaluation/confused.json is damaged.
    """
    folder = run.folder / "evaluation"
    found: dict[tuple[str, str], list[PairMap]] = defaultdict(list)
    content = read_json(folder / "confused.json") or {"photos": []}
    with readable(folder / "confused.json"):
        for entry in content["photos"]:
            found[entry["label"], entry["predicted"]].append(_pair_map(folder, entry))
    return found


def _pair_map(folder: Path, entry: dict[str, Any]) -> PairMap:
    return PairMap(entry["file"], *(thumbnail(folder, entry[kind]) for kind in KINDS))
