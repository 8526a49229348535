"""The photos and weights that go up, known by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sagelight.data.index import SPLITS, ImageIndex
from sagelight.errors import DataError
from sagelight.progress import progress


@dataclass(frozen=True)
class LocalFile:
    """A file to upload: its name below the prefix, where it lies, its bytes."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class Cargo:
    """Files that go up together, once.

    Attributes:
        fingerprint: hex SHA-256 over every name and content: equal cargo has an equal place.
        place: where it lies instead, for files that others have named.
    """

    kind: str
    files: tuple[LocalFile, ...]
    fingerprint: str
    place: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def key(self) -> str:
        """Where it lies below the prefix in the bucket, without a slash at the end."""
        return self.place or f"{self.kind}/{self.fingerprint[:16]}"


def photos(index: ImageIndex) -> Cargo:
    """The photos of an index, and nothing else that lies in their folder.

    Raises:
        DataError: a file that cannot be read.
    """
    names = sorted(sample.path for split in SPLITS for sample in index.splits[split])
    return _cargo("data", {name: index.root / name for name in names})


def loose_photos(root: Path, names: Sequence[str]) -> Cargo:
    """Photos below `root` that lie in the bucket one by one, because batch transform makes a request of each object.

    Raises:
        DataError: a file that cannot be read.
    """
    return _cargo("photos", {name: root / name for name in sorted(names)})


def weights_file(path: Path) -> Cargo:
    """One state dict."""
    return _cargo("weights", {path.name: path})


def _cargo(kind: str, paths: dict[str, Path]) -> Cargo:
    sizes, digest = [], hashlib.sha256()
    for (name, path), (size, content) in zip(paths.items(), _digests(paths.values()), strict=True):
        sizes.append(LocalFile(name, path, size))
        digest.update(f"{name}\0{content}\n".encode(errors="surrogateescape"))
    return Cargo(kind, tuple(sizes), digest.hexdigest())


def _digests(paths: Iterable[Path]) -> Iterator[tuple[int, str]]:
    listed = list(paths)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from progress(pool.map(_digest, listed, chunksize=64), len(listed), "reading files")


def _digest(path: Path) -> tuple[int, str]:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Mend it or take it out of its folder."
        ) from error
