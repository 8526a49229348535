"""Tiny photo folders for tests: each class has its own colour and stripes, under noise."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image


def make_folder(
    root: Path,
    splits: dict[str, dict[str, int]],
    size: tuple[int, int] = (40, 32),
    seed: int = 0,
) -> Path:
    """Write `root/SPLIT/CLASS/NNNN.jpg|png` and return `root`.

    Args:
        splits: number of photos of each class in each split; the split "" means no split folder.
        size: width and height in pixels.
    """
    rng = np.random.default_rng(seed)
    labels = sorted({label for classes in splits.values() for label in classes})
    for split, classes in splits.items():
        for label, count in classes.items():
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                photo = make_photo(labels.index(label), len(labels), size, rng)
                if number % 2:
                    photo.save(folder / f"{number:04d}.png")
                else:
                    photo.save(folder / f"{number:04d}.jpg", quality=92)
    return root


def make_photo(
    target: int, classes: int, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A photo of class `target` of `classes`: its hue, in stripes as wide as its number, and noise."""
    width, height = size
    colour = np.array(colorsys.hsv_to_rgb(target / classes, 0.8, 0.9)) * 255
    stripes = (np.arange(width) // (target % 5 + 2)) % 2 * 0.3 + 0.7
    clean = np.broadcast_to(stripes[None, :, None] * colour, (height, width, 3))
    noisy = clean + rng.normal(0, 12, clean.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
