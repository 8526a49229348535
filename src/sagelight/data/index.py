"""Which photos there are, of which class, in which split: fixed once, before any training."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagelight.data.shards.archives import Room, Shards, photo_content
from sagelight.errors import DataError
from sagelight.progress import progress

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SPLITS = ("train", "validation", "test")
FOLDER_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One photo: its path below the root with `/` separators, and the index of its class."""

    path: str
    target: int


@dataclass(frozen=True)
class ImageIndex:
    """All photos of a data set.

    Attributes:
        root: the folder that sample paths are relative to.
        labels: class names, sorted; the union over all splits, so that a class missing from one
            split never shifts another's index.
        splits: `train`, `validation` and `test`, each a list sorted by path; never overlapping.
        cut: the splits that had no folder and were cut from the training photos.
        fingerprint: hex SHA-256 over every path and file size, in order.
        shards: where the photos lie, when that is not in files of their own.
    """

    root: Path
    labels: list[str]
    splits: dict[str, list[Sample]]
    cut: list[str] = field(default_factory=list)
    fingerprint: str = ""
    shards: Shards | None = None

    @property
    def name(self) -> str:
        """The root as it was typed."""
        return str(self.root) if self.shards is None else self.shards.root

    @property
    def source(self) -> Path | Shards:
        """What the photos are read from, for `photo_content`."""
        return self.root if self.shards is None else self.shards

    def content(self, sample: Sample) -> Path | bytes:
        """What a photo is decoded from: its file, or its bytes.

        Raises:
            DataError: its shard cannot be read.
        """
        return photo_content(self.source, sample.path)

    def moved(self, root: str) -> ImageIndex:
        """The same photos, of which there is a copy at `root`."""
        shards = None if self.shards is None else self.shards.moved(root)
        return replace(self, root=Path(root), shards=shards)

    def in_room(self, room: Room) -> ImageIndex:
        """The same photos, read from copies of their archives."""
        shards = None if self.shards is None else replace(self.shards, room=room)
        return replace(self, shards=shards)

    def counts(self, split: str) -> list[int]:
        """Photos of each class in a split, in the order of `labels`."""
        counted = Counter(sample.target for sample in self.splits[split])
        return [counted[index] for index in range(len(self.labels))]

    def size(self) -> int:
        return sum(len(samples) for samples in self.splits.values())


def index_images(
    root: str | Path,
    *,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_seed: int = 0,
) -> ImageIndex:
    """List an ImageFolder: `root/SPLIT/CLASS/**/photo` or `root/CLASS/**/photo`.

    A split without class folders is cut from the training photos: of each class, the photos whose
    salted hash is smallest, so that the same photos are taken on every machine and few change when
    photos are added. Test photos are taken first: the validation fraction does not move them.

    Raises:
        DataError: no such folder, no classes, fewer than two classes, or no images.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"data.root={root} {what}. Type data.root=DIR with one folder per class.")
    try:
        found, labels, splits = _listed(root)
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be listed: {error.strerror}. "
            "Mend its permissions, or copy it again."
        ) from error
    _refuse_unfit(root, labels, splits)
    cut = _cut_missing(splits, found, validation_fraction, test_fraction, split_seed)
    return ImageIndex(root, labels, splits, cut, _fingerprint(root, splits))


def _listed(root: Path) -> tuple[set[str], list[str], dict[str, list[Sample]]]:
    """The splits that have folders, the labels, and the photos of each split."""
    found = {split: _folders(folder) for split, folder in _split_folders(root).items()}
    labels = sorted({label for classes in found.values() for label in classes})
    targets = {label: target for target, label in enumerate(labels)}
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    folders = [(split, *entry) for split, classes in found.items() for entry in classes.items()]
    for split, label, folder in progress(folders, len(folders), "Listing photos"):
        splits[split] += [
            Sample(path, targets[label])
            for path in image_paths(folder, f"{folder.relative_to(root).as_posix()}/")
        ]
    return set(found), labels, splits


def _refuse_unfit(root: Path, labels: list[str], splits: dict[str, list[Sample]]) -> None:
    if not any(splits.values()):
        raise DataError(
            f"data.root={root} has {len(labels)} class folders but no images in them "
            f"(looked for {', '.join(EXTENSIONS)})."
        )
    if len(labels) < 2:
        raise DataError(
            f"data.root={root} has one class, {labels[0]}: a classifier needs two. "
            "Is data.root one level too deep or too high? It should hold one folder per class."
        )
    if not splits["train"]:
        raise DataError(
            f"data.root={root} has no training images. Put them under {root}/train/CLASS/."
        )


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split that has class folders; the root is `train` where none is named."""
    folders: dict[str, Path] = {}
    for name, folder in _folders(root).items():
        split = FOLDER_NAMES.get(name.lower())
        if split is None:
            continue
        if split in folders:
            raise DataError(
                f"{root} has both {folders[split].name}/ and {name}/. Keep one folder for {split}."
            )
        folders[split] = folder
    if folders and "train" not in folders:
        names = ", ".join(f"{folder.name}/" for folder in folders.values())
        raise DataError(
            f"{root} has {names} but no train/. Put the training photos under {root}/train/."
        )
    train = folders.get("train", root)
    if not _folders(train):
        raise DataError(
            f"data.root={root} holds no class folders{f' in {train.name}/' if folders else ''}. "
            f"Expected {root}/CLASS/photo.jpg or {root}/train/CLASS/photo.jpg."
        )
    return {"train": train} | {split: path for split, path in folders.items() if _folders(path)}


def _folders(folder: Path) -> dict[str, Path]:
    entries = sorted(folder.iterdir())
    return {e.name: e for e in entries if e.is_dir() and not e.name.startswith(".")}


def image_paths(folder: Path, prefix: str = "", parents: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of the images at any depth, after `prefix`; a link back to a parent is not followed.

    Raises:
        OSError: a folder that cannot be listed.
    """
    here = os.path.realpath(folder)
    if here in parents:
        return
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from image_paths(Path(entry.path), f"{prefix}{entry.name}/", (*parents, here))
        elif entry.name.lower().endswith(EXTENSIONS):
            yield f"{prefix}{entry.name}"


def _cut_missing(
    splits: dict[str, list[Sample]],
    found: set[str],
    validation_fraction: float,
    test_fraction: float,
    split_seed: int,
) -> list[str]:
    fractions = {"test": test_fraction, "validation": validation_fraction}
    missing = [split for split in fractions if split not in found]
    by_class: dict[int, list[Sample]] = {}
    for sample in splits["train"]:
        by_class.setdefault(sample.target, []).append(sample)
    for samples in by_class.values():
        total, rest = len(samples), sorted(samples, key=lambda s: _rank(s.path, split_seed))
        for turn, split in enumerate(missing, start=1):
            # One photo is left to train on, and one to each cut still to come.
            spare = len(rest) - 1 - (len(missing) - turn)
            wanted = max(1, round(total * fractions[split]))
            taken = rest[: max(0, min(wanted, spare))]
            splits[split] += taken
            rest = rest[len(taken) :]
        samples[:] = rest
    splits["train"] = [sample for samples in by_class.values() for sample in samples]
    for samples in splits.values():
        samples.sort(key=lambda sample: sample.path)
    return sorted(missing)


def _rank(path: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{path}".encode(errors="surrogateescape")).digest()


def _fingerprint(root: Path, splits: dict[str, list[Sample]]) -> str:
    digest = hashlib.sha256()
    paths = sorted(sample.path for samples in splits.values() for sample in samples)
    for path in progress(paths, len(paths), "Measuring files"):
        line = f"{path}\0{file_size(root / path)}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def photos_digest(index: ImageIndex, paths: Iterable[str]) -> str:
    """Hex SHA-256 over names, sizes and times of change of photos, in order; of shards, over their contents too."""
    found = hashlib.sha256()
    for shard in index.shards.archives if index.shards else ():
        found.update(f"{shard.name}\0{shard.sha256}\n".encode())
    for path in paths:
        line = f"{path}\0{'' if index.shards else _state(index.root / path)}\n"
        found.update(line.encode(errors="surrogateescape"))
    return found.hexdigest()


def _state(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return "nothing to look at"
    return f"{state.st_size}\0{state.st_mtime_ns}"


def file_size(path: Path) -> int:
    """Bytes of a file, or -1 where there is none to look at, as behind a broken link."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
