"""What all peers are measured on: the same photos in the same folders, and the same random weights."""

from __future__ import annotations

import random
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png")
CLASSES = 5


def lay_out(root: Path, source: Path | None, photos: int, batch: int) -> Path:
    """Write `root/train`, `root/validation` and `root/test`: links to photos of `source`, or photos made up.

    Training has whole batches, because some peers leave out what is over. A fifth or more of them is for
    validation. The test has a photo a class beside them: only ours looks at it.

    Args:
        source: a folder of photos in class folders, at any depth.

    Raises:
        SystemExit: fewer photos than asked for, or too few for a batch and for a photo of each class.
    """
    order = _made_up(root / "made_up", photos) if source is None else _found(source, photos)
    classes = len({name for name, _ in order})
    train = (photos - photos // 5) // batch * batch
    if train < max(batch, classes) or photos - train < classes:
        raise SystemExit(
            f"error: photos={photos} is too few for {classes} classes and a batch of {batch}."
        )
    # The first are of all classes, and so are those after them.
    test, validation, rest = order[:classes], order[classes : 2 * classes], order[2 * classes :]
    _link(root / "test", test)
    _link(root / "validation", validation + rest[train:])
    _link(root / "train", rest[:train])
    return root


def textured(rng: np.random.Generator, size: tuple[int, int] = (500, 375)) -> Image.Image:
    """A made-up picture that JPEG finds about as hard as a photo: light and texture from coarse to fine."""
    width, height = size
    total = np.zeros((height, width, 3), np.float32)
    for side in (4, 9, 25, 70, 180):
        total += _octave(rng, side, size) * (40 if side < 20 else 160 / side**0.6)
    total += rng.normal(0, 2.2, total.shape)
    return Image.fromarray((total + 128).clip(0, 255).astype(np.uint8))


def save_weights(path: Path) -> Path:
    """Random weights of torchvision's resnet18 beside `path`, as .pth and .safetensors; `path` itself."""
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    state = resnet18().state_dict()
    torch.save(state, path.with_suffix(".pth"))
    save_file(state, path.with_suffix(".safetensors"))
    return path


def _octave(rng: np.random.Generator, side: int, size: tuple[int, int]) -> NDArray[np.float32]:
    channels = rng.normal(0, 1, (3, side, side)) * 0.6 + rng.normal(0, 1, (1, side, side))
    grown = [
        Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
        for channel in channels
    ]
    return np.stack([np.asarray(channel) for channel in grown], axis=2)


def _made_up(folder: Path, photos: int) -> list[tuple[str, Path]]:
    rng, found = np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for number in range(photos + CLASSES):
        path = folder / f"{number:05d}.jpg"
        textured(rng).save(path, quality=90)
        found.append((f"class {number % CLASSES}", path))
    return found


def _found(source: Path, photos: int) -> list[tuple[str, Path]]:
    """Photos of every class in turn, so that the first of them are of all classes."""
    by_class: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            by_class.setdefault(path.parent.name, []).append(path.resolve())
    for paths in by_class.values():
        random.Random(0).shuffle(paths)
    turns = zip_longest(*([(name, path) for path in by_class[name]] for name in by_class))
    order = [entry for turn in turns for entry in turn if entry is not None]
    if len(order) < photos + len(by_class):
        raise SystemExit(
            f"error: {source} has {len(order)} photos: photos={photos} and one more a class are too many."
        )
    return order[: photos + len(by_class)]


def _link(folder: Path, chosen: list[tuple[str, Path]]) -> None:
    for number, (name, path) in enumerate(chosen):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{number:05d}{path.suffix.lower()}").symlink_to(path)
