"""Where resized photos are kept, and whether they are still what was written. No torch here."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.data.inspect_threads import spread
from sagelight.data.settings import DataSettings
from sagelight.errors import RunError
from sagelight.files import takes_lock, write_json
from sagelight.parsing import mapped_array
from sagelight.store import Kept, Store, cache_folder, checksum, unreadable_photos

PIXELS = "photos.u8"
ROWS = "photos.npy"
FACTS = "photos.json"
# The rest of the machine needs a disk that is not full.
LEFT_FREE = 1e9
# Looked at whenever the file is opened: 50 MB of photos at 256 pixels, for some hundredths of a second.
CHECKED = 200


@dataclass(frozen=True)
class ResizedStore(Store):
    """A folder of files of resized photos, each below the digest of the photos, their size and the decoder.

    A file holds the photos one after another, uint8 (height, width, 3) each; beside it lie their places, shapes and
    checksums: int64 (photos, 4), offset, height, width and CRC-32.
    """

    facts = FACTS
    what = "resized photos"
    again = "resized"
    remedy = "Type data.cache_folder=DIR on another disk, or data.cache=off."

    def get(
        self, made_from: dict[str, Any], count: int, make: Callable[[Path], dict[str, Any]]
    ) -> tuple[Path, dict[str, Any]]:
        """As `entry`, for a file of so many photos."""

        def is_whole(place: Path, facts: dict[str, Any]) -> bool:
            return facts["count"] == count and self.is_whole(place, facts)

        return self.entry(made_from, make, is_whole)

    def make_room(self, needed: int) -> None:
        """Remove the longest unused until so many bytes are within `most_bytes`, and free on the disk.

        Raises:
            RunError: they are more than `most_bytes`, or than the disk has, less 1 GB that is left alone.
        """
        self._refuse(needed)
        super().make_room(needed)
        for kept in self.kept():
            if needed <= free_bytes(self.folder) - LEFT_FREE:
                return
            self.remove(kept.key)

    def remove(self, key: str) -> bool:
        """Forget a file, unless a training reads it: its room would not come back before that ends."""
        if self._is_read(key):
            return False
        return super().remove(key)

    def is_whole(self, place: Path, facts: dict[str, Any]) -> bool:
        """Whether the file is what was written.

        Reading all of it at every start would take seconds a gigabyte from a cold disk. So a file of the size and time
        of change that it was left with is looked at in 200 places, and any other in all, once.
        """
        unreadable_photos(facts)
        found = stamp(place / PIXELS)
        if checksum(place / ROWS) != facts["rows"] or found[0] != facts["stamp"][0]:
            return False
        rows = mapped_array(place / ROWS)
        if len(rows) != facts["count"] or not _lie_within(rows, found[0]):
            return False
        untouched = found == facts["stamp"]
        some = rows[:: -(-len(rows) // CHECKED)] if untouched else rows
        if not _are_whole(place / PIXELS, some, threads=1 if untouched else None):
            return False
        if not untouched:
            write_json(place / FACTS, facts | {"stamp": found})
        return True

    def _is_read(self, key: str) -> bool:
        try:
            with (self.folder / key / PIXELS).open("rb") as file:
                return not takes_lock(file)
        except OSError:
            return False

    def _refuse(self, needed: int) -> None:
        held = sum(kept.bytes for kept in self.kept() if not self._is_read(kept.key))
        room = free_bytes(self.folder) + held - LEFT_FREE
        if needed > self.most_bytes:
            raise RunError(
                f"{needed / 1e9:,.2f} GB of resized photos are more than data.cache_max_gb={self.most_bytes / 1e9:g}. "
                f"Type data.cache_max_gb={-(-needed // 10**9)}, or data.cache=off."
            )
        if needed > room:
            raise RunError(
                f"{needed / 1e9:,.2f} GB of resized photos do not fit into {self.folder}: the disk has room for "
                f"{max(room, 0) / 1e9:,.2f} GB, and 1 GB is left free. {self.remedy}"
            )


def resized_store(settings: DataSettings) -> ResizedStore:
    """Where these settings keep resized photos."""
    return ResizedStore(
        cache_folder(settings.cache_folder, "photos"), int(settings.cache_max_gb * 1e9)
    )


def told(kept: Kept) -> str:
    """What a file holds, in a few words."""
    facts = kept.facts
    return f"{facts['count']:,} photos at {facts['resize_size']}, {facts['root']}"


def free_bytes(folder: Path) -> int:
    """Free on the disk that a folder, made or not yet, lies on; 0 where it cannot be written."""
    for there in (folder.absolute(), *folder.absolute().parents):
        try:
            free = shutil.disk_usage(there).free
        except OSError:
            continue
        return free if os.access(there, os.W_OK | os.X_OK) else 0
    return 0


def stamp(path: Path) -> list[int]:
    """Size in bytes and time of change in nanoseconds."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _lie_within(rows: NDArray[Any], size: int) -> bool:
    """Whether these are places of photos in a file of so many bytes."""
    if rows.dtype != np.int64 or rows.ndim != 2 or rows.shape[1] != 4:
        return False
    offset, height, width, _ = rows.T.astype(np.float64)
    ends = offset + 3 * height * width
    return bool((rows[:, :3] >= 0).all() and (ends <= size).all())


def _are_whole(path: Path, rows: NDArray[np.int64], threads: int | None) -> bool:
    def is_right(row: NDArray[np.int64]) -> bool:
        offset, height, width, crc = (int(value) for value in row)
        return zlib.crc32(os.pread(file.fileno(), 3 * height * width, offset)) == crc

    with path.open("rb") as file:
        return all(spread(is_right, list(rows), "Checking resized photos", threads=threads))
