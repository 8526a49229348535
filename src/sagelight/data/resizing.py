"""Photos decoded once: how much room they need, and the file that holds them at their resized size. No torch here."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from sagelight.bundle.preprocessing import (
    DECODE_ERRORS,
    FORMATS,
    MAX_ASPECT,
    MAX_PIXELS,
    Preprocessing,
    UnreadableImageError,
    decode,
)
from sagelight.config.resolve import PhotoSizes
from sagelight.cores import usable_cores
from sagelight.data.index import ImageIndex, photos_digest
from sagelight.data.inspect_threads import spread
from sagelight.data.resized_store import PIXELS, ROWS, ResizedStore, free_bytes, stamp
from sagelight.data.shards.archives import Shards, photo_content
from sagelight.store import checksum, take_room

# A change of what is stored, or of how it is computed, makes a new one.
FORMAT = 1
LOOKED_AT = 200


def measure_sizes(index: ImageIndex, resize_size: int, store: ResizedStore) -> PhotoSizes:
    """Estimate from the headers of at most 200 photos."""
    paths = all_paths(index)
    some = paths[:: -(-len(paths) // LOOKED_AT)]
    shapes = [
        shape for path in some if (shape := _header(photo_content(index.source, path))) is not None
    ]
    if not shapes:
        return PhotoSizes()
    pixels = sum(width * height for width, height in shapes) / len(shapes)
    each = sum(_resized_bytes(shape, resize_size) for shape in shapes) / len(shapes)
    free = free_bytes(store.folder)
    held = sum(kept.bytes for kept in store.kept()) if free else 0
    return PhotoSizes(pixels, each * len(paths), free + held)


def resize_photos(
    index: ImageIndex, preprocessing: Preprocessing, store: ResizedStore
) -> tuple[Path, dict[str, Any]]:
    """The folder with all photos of an index, resized unless it is there; other processes wait meanwhile.

    Returns:
        The folder, for `ResizedFile`, and its facts.

    Raises:
        RunError: the disk has not enough room, or cannot be written.
    """
    paths = all_paths(index)
    made_from = {
        "format": FORMAT,
        # Another Pillow may decode other pixels, and evaluation is what serving computes now.
        "pillow": PIL.__version__,
        "resize_size": preprocessing.resize_size,
        "photos": photos_digest(index, paths),
        "fingerprint": index.fingerprint,
    }

    def make(folder: Path) -> dict[str, Any]:
        return _resize_all(folder, index, paths, preprocessing, store)

    return store.get(made_from, len(paths), make)


def all_paths(index: ImageIndex) -> list[str]:
    """The photos of all splits by name, so that another split of the same photos needs no other file."""
    return sorted(sample.path for samples in index.splits.values() for sample in samples)


def _resize_all(
    folder: Path,
    index: ImageIndex,
    paths: list[str],
    preprocessing: Preprocessing,
    store: ResizedStore,
) -> dict[str, Any]:
    offsets = _offsets(index.source, paths, preprocessing.resize_size)
    total = offsets[-1]
    store.make_room(total)
    print(
        f"{len(paths):,} photos are resized once to {preprocessing.resize_size} pixels: {total / 1e9:,.2f} GB in "
        f"{store.folder}, where {free_bytes(store.folder) / 1e9:,.1f} GB are free",
        file=sys.stderr,
    )
    with (folder / PIXELS).open("wb") as file:
        take_room(file, total)
        writer = _Writer(index.source, paths, preprocessing, offsets, file.fileno())
        results = spread(writer, range(len(paths)), "Resizing photos", threads=usable_cores())
        rows, unreadable = _rows(results, offsets)
        os.fsync(file.fileno())
    np.save(folder / ROWS, rows)
    return {
        "unreadable": unreadable,
        "root": index.name if index.shards else str(index.root.absolute()),
        "count": len(paths),
        "rows": checksum(folder / ROWS),
        "stamp": stamp(folder / PIXELS),
    }


@dataclass(frozen=True)
class _Writer:
    root: Path | Shards
    paths: list[str]
    preprocessing: Preprocessing
    offsets: list[int]
    file: int

    def __call__(self, row: int) -> tuple[int, int, int] | str:
        """Resize a photo into its place: height, width and CRC-32; or why it cannot be read."""
        try:
            image = self.preprocessing.resize(decode(photo_content(self.root, self.paths[row])))
        except UnreadableImageError as error:
            return str(error)
        pixels = image.tobytes()
        if len(pixels) != self.offsets[row + 1] - self.offsets[row]:
            return "it was changed while it was read"
        place = self.offsets[row]
        while place < self.offsets[row + 1]:
            place += os.pwrite(self.file, pixels[place - self.offsets[row] :], place)
        return image.height, image.width, zlib.crc32(pixels)


def _rows(
    results: Iterable[tuple[int, int, int] | str], offsets: list[int]
) -> tuple[NDArray[np.int64], dict[str, str]]:
    rows = np.zeros((len(offsets) - 1, 4), dtype=np.int64)
    unreadable = {}
    for number, result in enumerate(results):
        if isinstance(result, str):
            unreadable[str(number)] = result
        else:
            rows[number] = (offsets[number], *result)
    return rows, unreadable


def _offsets(root: Path | Shards, paths: Sequence[str], resize_size: int) -> list[int]:
    """Where each photo begins, and where the last one ends."""

    def needed(path: str) -> int:
        shape = _header(photo_content(root, path))
        return 0 if shape is None else _resized_bytes(shape, resize_size)

    offsets = [0]
    for size in spread(needed, paths, "Measuring photos"):
        offsets.append(offsets[-1] + size)
    return offsets


def _header(source: Path | bytes) -> tuple[int, int] | None:
    try:
        file = BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
    except DECODE_ERRORS:
        return None
    too_large = width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height)
    return None if too_large else (width, height)


def _resized_bytes(shape: tuple[int, int], resize_size: int) -> int:
    # An upright photo and a lying one take the same room, so orientation need not be known.
    return 3 * resize_size * int(resize_size * max(shape) / min(shape))
