"""Rows of the load table about 100,000 photos of 1,000 classes: tiny, so that what is measured is ours."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from load_measure import Figures, Row, measured, watch
from PIL import Image

from sagelight.config.compose import compose
from sagelight.data.check import inspect_data
from sagelight.data.index import index_images
from sagelight.files import replace_folder

PHOTOS, A_CLASS, SIDE = 100_000, 100, 16
WORDS = [
    "experiment=squeezenet", "model.backbone=squeezenet1_1", "model.weights=none", "data.image_size=32",
    "data.batch_size=32", "data.num_workers=0", "trainer.precision=32-true", "data.cache=memmap",
]  # fmt: skip
LISTING = b"Listing photos"


def photos(folder: Path, count: int, classes: int) -> Path:
    """A folder of photos that differ in a comment alone, so that each may be a copy by its size and tail."""
    root = folder / f"photos-{count}-{classes}"
    if not root.is_dir():
        scratch = folder / f".{root.name}"
        for number in range(classes):
            _write_class(scratch / f"class {number:04d}", number, range(number, count, classes))
        replace_folder(scratch, root)
    return root


def _write_class(folder: Path, seed: int, numbers: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    start, rest = file.getvalue()[:2], file.getvalue()[2:]
    for number in numbers:
        comment = b"\xff\xfe\x00\x0a%08d" % number
        (folder / f"{number:06d}.jpg").write_bytes(start + comment + rest)


def scaled(folder: Path, size: float) -> Path:
    count = max(40, round(PHOTOS * size))
    return photos(folder, count, max(2, count // A_CLASS))


def make(folder: Path, size: float) -> None:
    scaled(folder, size)


def listed(folder: Path, size: float) -> Figures:
    root = scaled(folder, size)
    with measured() as figures:
        index = index_images(root)
    return {**figures, "photos": index.size()}


def checked(folder: Path, size: float, full: bool = False) -> Figures:
    index = index_images(scaled(folder, size))
    with measured() as figures:
        report = inspect_data(index, full=full)
    return {**figures, "errors": len(report.errors)}


def checked_in_full(folder: Path, size: float) -> Figures:
    return checked(folder, size, full=True)


def started(folder: Path, size: float) -> Figures:
    """From a configuration to the first batch of training, as `fit` goes; the second time finds the resized photos."""
    from sagelight.processes import Processes
    from sagelight.training.fit import build
    from sagelight.training.prepare import prepare

    places = [f"data.root={scaled(folder, size)}", f"data.cache_folder={folder / 'resized'}"]
    config = compose([*WORDS, *places, f"run_dir={folder / 'never'}"])
    processes = Processes.here()
    with measured() as figures:
        prepared = prepare(config, processes)
        _, data = build(config, prepared.index, processes)
        batch = next(iter(data.train_dataloader()))
    return {**figures, "photos_of_the_batch": len(batch)}


def live(folder: Path, size: float) -> Figures:
    """The longest time without a movement at a terminal, from the first one on."""
    program = (
        "from sagelight.data.check import *; from sagelight.data.index import *; "
        f"inspect_data(index_images({str(scaled(folder, size))!r}), full=False)"
    )
    seen = watch([sys.executable, "-c", program], since=LISTING if size == 1 else b"")
    assert seen.status == 0, seen.said.decode()
    return {"seconds_without_movement": seen.gap, "seconds": seen.seconds}


ROWS = [
    Row("index: 100,000 photos listed, split, fingerprinted", listed, {"processor_seconds": 15, "megabytes_more": 150}, make),
    Row("index: their headers and tails checked", checked, {"processor_seconds": 60, "megabytes_more": 250, "errors": 0}, make),
    Row("index: every byte checked", checked_in_full, {"processor_seconds": 120, "megabytes_more": 300, "errors": 0}, make),
    Row("index: start to the first batch, resized once", started, {"processor_seconds": 180, "megabytes": 1500}, make),
    Row("index: second start to the first batch", started, {"processor_seconds": 90, "megabytes": 1500}, make),
    Row("index: listed and checked at a terminal", live, {"seconds_without_movement": 1.5}, make),
]  # fmt: skip
