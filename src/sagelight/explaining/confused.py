"""What the most confused pairs of a run were confused by: maps of the wrong class and of the right one.

By occlusion, which asks model.onnx alone: importing captum would take longer than the maps of a small network.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sagelight.bundle.preprocessing import UnreadableImageError
from sagelight.data.shards.archives import Shards, photo_content
from sagelight.explaining.occlusion import Pixels, as_heat, occlusion_evidence
from sagelight.explaining.overlay import overlay, photo
from sagelight.files import atomic, write_json
from sagelight.progress import progress
from sagelight.reporting.confusion import confused_pairs
from sagelight.reporting.mistakes import wrong_photos
from sagelight.reporting.run import Photo, read_run
from sagelight.serving.predictor import Predictor

# 8 photos are 400 answers of the network: as many as the proof of model.onnx asks of 400 validation photos.
PAIRS = 4
PHOTOS_A_PAIR = 2
FOLDER, INDEX = "confused", "confused.json"
_QUALITY = 85


def explain_confused(run_dir: Path, data_root: Path | Shards) -> int:
    """Leave evaluation/confused.json and the pictures that it names in a run's directory.

    Args:
        run_dir: with evaluation/ and bundle/.
        data_root: where the photos of evaluation/test.csv are; one that cannot be read is passed over.

    Returns:
        How many photos were explained.

    Raises:
        RunError: a file of the run is damaged.
        BundleError: the bundle is missing or damaged.
    """
    predictor = Predictor.load(run_dir / "bundle")
    chosen = confused_photos(run_dir)
    folder = run_dir / "evaluation" / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    for each in progress(chosen, len(chosen), "explaining confusions"):
        try:
            pixels = predictor.spec.preprocessing(photo_content(data_root, each.file))
        except UnreadableImageError:
            continue
        names = _write(folder, len(entries) + 1, _pictures(predictor, pixels, each))
        entries.append(
            {"file": each.file, "label": each.label, "predicted": each.predicted, **names}
        )
    write_json(run_dir / "evaluation" / INDEX, {"method": "occlusion", "photos": entries})
    return len(entries)


def confused_photos(run_dir: Path) -> list[Photo]:
    """Of the most confused pairs of the test split, the surest mistakes."""
    run = read_run(run_dir)
    if run.test is None:
        return []
    wrong = wrong_photos(run)
    return [
        each
        for pair in confused_pairs(run.test, PAIRS)
        for each in _of_pair(wrong, pair.label, pair.predicted)[:PHOTOS_A_PAIR]
    ]


def _of_pair(photos: Sequence[Photo], label: str, predicted: str) -> list[Photo]:
    return [each for each in photos if (each.label, each.predicted) == (label, predicted)]


def _pictures(predictor: Predictor, pixels: Pixels, wrong: Photo) -> Iterator[tuple[str, Any]]:
    classes = [predictor.labels.index(name) for name in (wrong.predicted, wrong.label)]
    of_predicted, of_label = occlusion_evidence(predictor, pixels, classes)
    yield "photo", photo(pixels)
    yield "map_of_predicted", overlay(pixels, as_heat(of_predicted))
    yield "map_of_label", overlay(pixels, as_heat(of_label))


def _write(folder: Path, number: int, pictures: Iterator[tuple[str, Any]]) -> dict[str, str]:
    names = {}
    for kind, picture in pictures:
        path = folder / f"{number}-{kind.replace('_', '-')}.jpg"
        with atomic(path) as file:
            picture.save(file, "JPEG", quality=_QUALITY)
        names[kind] = f"{FOLDER}/{path.name}"
    return names
