"""Photos in shards: POSIX tar archives in WebDataset's layout, and an index that finds each photo by a single read.

A shard holds KEY.jpg (the photo's bytes, under its own extension) and KEY.cls (the number of its class) side by side, where
KEY is SPLIT/CLASS/NUMBER; so `tar -xf` of all shards gives a folder of photos again, and WebDataset's readers take them as
they are. `index.npz` beside them holds what an archive cannot say at once: splits, labels, places, checksums. No torch.
"""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sagelight.errors import DataError

INDEX = "index.npz"
S3 = "s3://"
_MOST_OPEN = 64
_TURNS = 3


@dataclass(frozen=True)
class Shard:
    """One archive: file name, bytes, and hex SHA-256."""

    name: str
    size: int
    sha256: str


class Room(Protocol):
    """Where archives are copied to before they are read."""

    @property
    def most_open(self) -> int:
        """Archives that a process keeps open: one that is open takes room until it is closed."""

    def path(self, root: str, shard: Shard) -> Path:
        """A local copy of an archive below `root`, made now unless it is there.

        Raises:
            DataError: it cannot be fetched, or arrives damaged.
        """

    def ahead(self, root: str, shards: Sequence[Shard]) -> None:
        """Begin to fetch archives that will be asked for soon."""


@dataclass(frozen=True)
class Shards:
    """The archives of a data set, and where in them each photo lies.

    Attributes:
        root: a folder, or s3://BUCKET/PREFIX.
        paths: what the photos were called below their own root.
        shard, offset, size: number of the archive, first byte and bytes of each photo, in the order of `paths`.
        room: where archives are copied to before they are read; None reads them in place.
    """

    root: str
    archives: tuple[Shard, ...]
    paths: list[str]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    room: Room | None = None

    @cached_property
    def rows(self) -> dict[str, int]:
        """Where in the arrays a photo is."""
        return {path: row for row, path in enumerate(self.paths)}

    def read(self, path: str) -> bytes:
        """The bytes of a photo.

        Raises:
            KeyError: there is none of that name.
            DataError: its archive cannot be fetched or read.
        """
        row = self.rows[path]
        return self.read_at(int(self.shard[row]), int(self.offset[row]), int(self.size[row]))

    def read_at(self, number: int, offset: int, size: int) -> bytes:
        """Bytes of an archive; as `read`, from any thread or forked process."""
        shard = self.archives[number]
        try:
            file = self._files.opened(shard.name, lambda: self._place(shard))
            content = os.pread(file.descriptor, size, offset)
        except OSError as error:
            why = error.strerror
            raise DataError(
                f"data.root={self.root}: {shard.name} cannot be read: {why}."
            ) from error
        if len(content) < size:
            raise DataError(f"data.root={self.root}: {shard.name} ends too soon. Copy it again.")
        return content

    def ahead(self, numbers: Sequence[int]) -> None:
        """Say which archives will be read soon, the soonest first."""
        if self.room is not None:
            self.room.ahead(self.root, [self.archives[number] for number in numbers])

    def place(self, number: int) -> Path:
        """A local file with an archive."""
        return self._place(self.archives[number])

    def moved(self, root: str) -> Shards:
        """The same archives elsewhere."""
        return replace(self, root=root)

    def _place(self, shard: Shard) -> Path:
        return (
            Path(self.root) / shard.name if self.room is None else self.room.path(self.root, shard)
        )

    @cached_property
    def _files(self) -> _OpenFiles:
        return _OpenFiles(_MOST_OPEN if self.room is None else self.room.most_open)

    def __getstate__(self) -> dict[str, object]:
        # Another process has files of its own.
        return {k: v for k, v in self.__dict__.items() if k not in ("rows", "_files")}


class _OpenFile:
    """A descriptor that is closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class _OpenFiles:
    """Files that stay open between reads: a mounted bucket answers an open one sooner, and reads ahead in it.

    One that makes way is closed when its last reader has let go of it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock, self._process = Lock(), os.getpid()

    def opened(self, name: str, place: Callable[[], Path]) -> _OpenFile:
        if self._process != os.getpid():
            # A thread of the parent may have held the lock when this process was forked.
            self._lock, self._process = Lock(), os.getpid()
        with self._lock:
            file = self._files.pop(name, None)
        # Not under the lock: fetching may take long.
        file = file or _open(place)
        with self._lock:
            self._files[name] = file
            while len(self._files) > self._most:
                self._files.popitem(last=False)
        return file


def _open(place: Callable[[], Path]) -> _OpenFile:
    for _ in range(_TURNS - 1):
        try:
            return _OpenFile(place())
        except FileNotFoundError:
            # Another process has made room in between.
            continue
    return _OpenFile(place())


def photo_content(root: Path | Shards, path: str) -> Path | bytes:
    """What a photo below `root` is decoded from: its file, or its bytes.

    Raises:
        DataError: its shard cannot be read.
    """
    return root / path if isinstance(root, Path) else root.read(path)


def pack_arrays(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """An .npz file whose bytes depend on the arrays alone: numpy's own would carry the time of day."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            member = BytesIO()
            np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue())
    return buffer.getvalue()
