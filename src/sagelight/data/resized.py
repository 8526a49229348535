"""Photos from the resized cache, in place of their files."""

from __future__ import annotations

import fcntl
import mmap
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagelight.bundle.preprocessing import Preprocessing, UnreadableImageError
from sagelight.data.index import ImageIndex, Sample
from sagelight.data.resized_store import PIXELS, ROWS, resized_store
from sagelight.data.resizing import all_paths, resize_photos
from sagelight.data.settings import DataSettings
from sagelight.parsing import mapped_array
from sagelight.store import unreadable_photos


class ResizedFile:
    """All photos of a cache, mapped from disk; what is sent to another process is where they lie."""

    def __init__(self, folder: Path, unreadable: dict[int, str]) -> None:
        self.folder = folder
        self.unreadable = unreadable
        self._open()

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """A resized photo, (height, width, 3), read-only and on the disk until it is looked at.

        Raises:
            UnreadableImageError: it could not be decoded when the cache was made.
        """
        if row in self.unreadable:
            raise UnreadableImageError(self.unreadable[row])
        offset, height, width, _ = self._rows[row].tolist()
        return np.ndarray((height, width, 3), np.uint8, self._map, offset)

    def _open(self) -> None:
        self._rows = np.asarray(mapped_array(self.folder / ROWS))
        with (self.folder / PIXELS).open("rb") as file:
            # Whoever needs room leaves alone what is read: the mapping keeps the file open, and so the lock.
            fcntl.flock(file, fcntl.LOCK_SH)
            size = file.seek(0, 2)
            self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "unreadable": self.unreadable}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


@dataclass(frozen=True)
class ResizedPhotos:
    """The photos of a split, decoded and resized before.

    Attributes:
        rows: where each lies in the file, by position.
    """

    samples: list[Sample]
    preprocessing: Preprocessing
    file: ResizedFile
    rows: list[int]

    def photo(self, position: int) -> Tensor:
        """The photo with a short side of `resize_size`: what training crops is cut from that, not from the original."""
        photo = self.file.pixels(self.rows[position]).copy()
        return torch.from_numpy(photo).permute(2, 0, 1)

    def served(self, position: int) -> NDArray[np.uint8]:
        photo = self.file.pixels(self.rows[position])
        left, top = self.preprocessing.corner(photo.shape[1], photo.shape[0])
        side = self.preprocessing.image_size
        return photo[top : top + side, left : left + side].copy().transpose(2, 0, 1)


@dataclass(frozen=True)
class ResizedCache:
    """The resized photos of a data set, whichever split they belong to; `paths` are sorted, as the file's rows."""

    file: ResizedFile
    paths: list[str]
    preprocessing: Preprocessing

    def source(self, samples: list[Sample]) -> ResizedPhotos:
        rows = [bisect_left(self.paths, sample.path) for sample in samples]
        return ResizedPhotos(samples, self.preprocessing, self.file, rows)


def open_cache(
    settings: DataSettings, index: ImageIndex, preprocessing: Preprocessing
) -> ResizedCache | None:
    """The resized photos of a data set, made unless they are there; None where `data.cache` is off.

    Raises:
        RunError: the disk has not enough room, or cannot be written.
    """
    if settings.cache != "memmap":
        return None
    folder, facts = resize_photos(index, preprocessing, resized_store(settings))
    return ResizedCache(
        ResizedFile(folder, unreadable_photos(facts)), all_paths(index), preprocessing
    )
