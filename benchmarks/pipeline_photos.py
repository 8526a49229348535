"""The photos that pipelines are measured with, in folders that ImageFolder and sagelight both read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from sagelight.data.index import index_images

JPEGS = (".jpg", ".jpeg")


@dataclass(frozen=True)
class PhotoSet:
    """The same photos as `root/train/CLASS` and `root/validation/CLASS`."""

    name: str
    root: Path
    files: list[Path]

    @property
    def count(self) -> int:
        return len(self.files)

    @property
    def kilobytes(self) -> float:
        return sum(path.stat().st_size for path in self.files) / self.count / 1000


def usual_photos(root: Path, name: str, count: int) -> PhotoSet:
    """Photos of 500 x 375 pixels, of about 44 kB."""
    rng = np.random.default_rng(0)
    pieces = (piece(rng, (500, 375), 2.5) for _ in range(count))
    return _written(root, name, ((picture, int(rng.integers(85, 93))) for picture in pieces))


def large_photos(root: Path, name: str, count: int) -> PhotoSet:
    """Photos of 4000 x 3000 pixels, of about 1.7 MB: as a lens does, they blur what is smaller than two pixels."""
    rng = np.random.default_rng(1)
    pieces = (piece(rng, (2000, 1500), 2.5).resize((4000, 3000), 3) for _ in range(count))
    return _written(root, name, ((picture, 90) for picture in pieces))


def photos_of(root: Path, name: str, source: Path, count: int) -> PhotoSet:
    """Copies of some of the training JPEGs of a folder, spread over all of them."""
    index = index_images(source)
    samples = [s for s in index.splits["train"] if Path(s.path).suffix.lower() in JPEGS]
    files = []
    for number, sample in enumerate(samples[:: max(1, len(samples) // count)][:count]):
        path = root / "train" / f"{sample.target:04d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(index.root / sample.path, path)
        files.append(path)
    return _doubled(PhotoSet(name, root, files))


def piece(rng: np.random.Generator, size: tuple[int, int], noise: float) -> Image.Image:
    """A random piece of one of scikit-learn's photos, scaled to a size, with noise in every pixel."""
    photos: list[NDArray[np.uint8]] = load_sample_images().images
    photo = Image.fromarray(photos[int(rng.integers(len(photos)))])
    width = int(rng.integers(photo.width // 2, photo.width * 4 // 5))
    height = width * 3 // 4
    left, top = (int(rng.integers(0, n)) for n in (photo.width - width, photo.height - height))
    scaled = photo.crop((left, top, left + width, top + height)).resize(size, 3)
    noisy = np.asarray(scaled) + rng.normal(0, noise, (*size[::-1], 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _written(root: Path, name: str, pictures: Iterable[tuple[Image.Image, int]]) -> PhotoSet:
    files = []
    for number, (picture, quality) in enumerate(pictures):
        path = root / "train" / "ab"[number % 2] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=quality)
        files.append(path)
    return _doubled(PhotoSet(name, root, files))


def _doubled(photos: PhotoSet) -> PhotoSet:
    shutil.copytree(photos.root / "train", photos.root / "validation")
    return photos
