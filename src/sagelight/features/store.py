"""Arrays on disk that are computed once: whole or absent, checked when read, shared by processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.errors import RunError
from sagelight.files import takes_lock, write_json

ARRAY = "features.npy"
FACTS = "features.json"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Kept:
    """One array of the store: its key, what it is, its bytes on disk, and when it was last used (seconds)."""

    key: str
    facts: dict[str, Any]
    bytes: int
    used: float


@dataclass(frozen=True)
class FeatureStore:
    """A folder of arrays, each below the digest of what it was computed from.

    Attributes:
        most_bytes: room for all arrays; the ones unused for longest are removed to make room.
    """

    folder: Path
    most_bytes: float

    def get(
        self,
        made_from: dict[str, Any],
        shape: tuple[int, ...],
        dtype: str,
        compute: Callable[[NDArray[Any]], dict[str, Any]],
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """The array made from these facts, computed unless it is there; other processes wait meanwhile.

        Args:
            made_from: everything that decides the values, as plain JSON.
            compute: fills the array given, and returns more facts to keep beside it.

        Returns:
            The array, read-only and mapped from disk, and the facts.

        Raises:
            RunError: the folder cannot be written, or the disk is full.
        """
        key = digest(made_from)
        with self._written(key):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sweep()
            with _locked(self.folder / f"{key}.lock"):
                found = self._read(key)
                if found is None:
                    self._make_room(int(np.prod(shape)) * np.dtype(dtype).itemsize, key)
                    self._write(key, made_from, shape, dtype, compute)
                    found = self._read(key)
        assert found is not None
        return found

    def kept(self) -> list[Kept]:
        """What the store holds, the longest unused first."""
        found = []
        for path in self.folder.glob(f"*/{FACTS}"):
            try:
                facts = json.loads(path.read_text(encoding="utf-8"))
                size = sum(each.stat().st_size for each in path.parent.iterdir())
                found.append(Kept(path.parent.name, facts, size, path.stat().st_mtime))
            except (OSError, ValueError):
                # Being removed or replaced by another process.
                continue
        return sorted(found, key=lambda each: each.used)

    def remove(self, key: str) -> None:
        """Forget an array; readers that have it open keep it."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed processes had half computed."""
        for scratch in self.folder.glob(".*.*"):
            with (self.folder / f"{scratch.name.split('.')[1]}.lock").open("w") as file:
                if takes_lock(file):
                    shutil.rmtree(scratch, ignore_errors=True)

    def _read(self, key: str) -> tuple[NDArray[Any], dict[str, Any]] | None:
        place = self.folder / key
        try:
            facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
            whole = checksum(place / ARRAY) == facts["sha256"]
        except FileNotFoundError:
            # A removal that was interrupted leaves a part.
            shutil.rmtree(place, ignore_errors=True)
            return None
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            print(f"{place} is damaged; it is computed again", file=sys.stderr)
            shutil.rmtree(place, ignore_errors=True)
            return None
        os.utime(place / FACTS)
        return np.load(place / ARRAY, mmap_mode="r", allow_pickle=False), facts

    def _write(
        self,
        key: str,
        made_from: dict[str, Any],
        shape: tuple[int, ...],
        dtype: str,
        compute: Callable[[NDArray[Any]], dict[str, Any]],
    ) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=f".{key}.") as name:
            scratch = Path(name) / "made"
            scratch.mkdir()
            array = np.lib.format.open_memmap(scratch / ARRAY, mode="w+", dtype=dtype, shape=shape)
            # Room is taken before the work: writing to a mapped file on a full disk would kill the process.
            if hasattr(os, "posix_fallocate"):
                with (scratch / ARRAY).open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            more = compute(array)
            array.flush()
            del array
            facts = {**made_from, **more, "sha256": checksum(scratch / ARRAY)}
            write_json(scratch / FACTS, facts)
            scratch.rename(self.folder / key)

    def _make_room(self, needed: int, key: str) -> None:
        kept = self.kept()
        total = sum(each.bytes for each in kept) + needed
        for each in kept:
            if total <= self.most_bytes:
                return
            if each.key != key:
                self.remove(each.key)
                total -= each.bytes

    @contextmanager
    def _written(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"features could not be kept in {self.folder}: {error.strerror}; nothing half-written stays there. "
                "Type features.folder=DIR on another disk, features.dtype=float16 for half the room, or "
                "features.cache=off."
            ) from error


def digest(made_from: dict[str, Any]) -> str:
    """Hex digest of 32 characters over the facts, whatever their order."""
    text = json.dumps(made_from, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def checksum(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            found.update(block)
    return found.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
