"""Things on disk that are made once: whole or absent, checked when opened, shared by processes and runs."""

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
from typing import Any, BinaryIO, ClassVar

from sagelight.errors import RunError
from sagelight.files import takes_lock, write_json
from sagelight.parsing import DAMAGE, read_json

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Kept:
    """One thing of a store: its key, what it is, its bytes on disk, and when it was last used (seconds)."""

    key: str
    facts: dict[str, Any]
    bytes: int
    used: float


@dataclass(frozen=True)
class Store:
    """A folder of folders, each below the digest of what its content was made from.

    Attributes:
        most_bytes: room for all of them; the ones unused for longest are removed to make room.
        facts: the file in each folder that says what lies beside it; stores of several kinds may share a folder.
        what, remedy: of its refusals: what could not be kept, and what to type then.
        again: how damaged content comes back.
    """

    folder: Path
    most_bytes: float
    facts: ClassVar[str]
    what: ClassVar[str]
    remedy: ClassVar[str]
    again: ClassVar[str] = "computed"

    def entry(
        self,
        made_from: dict[str, Any],
        make: Callable[[Path], dict[str, Any]],
        is_whole: Callable[[Path, dict[str, Any]], bool],
    ) -> tuple[Path, dict[str, Any]]:
        """The folder made from these facts, made unless it is there; other processes wait meanwhile.

        Args:
            made_from: everything that decides the content, as plain JSON.
            make: fills the empty folder given, and returns more facts to keep beside the content. It calls
                `make_room` before it writes much.
            is_whole: whether a folder holds what its facts say; it may raise `sagelight.parsing.DAMAGE` where it does not.

        Returns:
            The folder and the facts.

        Raises:
            RunError: the folder cannot be written, or the disk is full.
        """
        key = digest(made_from)
        with self._written():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sweep()
            with _locked(self.folder / f"{key}.lock"):
                found = self._read(key, is_whole)
                if found is None:
                    self._write(key, made_from, make)
                    found = self._read(key, is_whole)
        assert found is not None
        return found

    def kept(self) -> list[Kept]:
        """What the store holds, the longest unused first."""
        found = []
        for path in self.folder.glob(f"*/{self.facts}"):
            try:
                facts = read_json(path)
                size = sum(each.stat().st_size for each in path.parent.iterdir())
                found.append(Kept(path.parent.name, facts, size, path.stat().st_mtime))
            except (OSError, ValueError):
                # Being removed or replaced by another process.
                continue
        return sorted(found, key=lambda each: each.used)

    def remove(self, key: str) -> bool:
        """Forget something, and tell whether it is gone; readers that have it open keep it."""
        shutil.rmtree(self.folder / key, ignore_errors=True)
        return not (self.folder / key).exists()

    def sweep(self) -> None:
        """Remove what killed processes had half made."""
        for scratch in self.folder.glob(".*.*"):
            with (self.folder / f"{scratch.name.split('.')[1]}.lock").open("w") as file:
                if takes_lock(file):
                    shutil.rmtree(scratch, ignore_errors=True)

    def make_room(self, needed: int) -> None:
        """Remove the longest unused until so many bytes more are within `most_bytes`."""
        kept = self.kept()
        total = sum(each.bytes for each in kept) + needed
        for each in kept:
            if total <= self.most_bytes:
                return
            if self.remove(each.key):
                total -= each.bytes

    def _read(
        self, key: str, is_whole: Callable[[Path, dict[str, Any]], bool]
    ) -> tuple[Path, dict[str, Any]] | None:
        place = self.folder / key
        try:
            facts = read_json(place / self.facts)
            whole = is_whole(place, facts)
        except FileNotFoundError:
            # A removal that was interrupted leaves a part.
            shutil.rmtree(place, ignore_errors=True)
            return None
        except DAMAGE:
            whole = False
        if not whole:
            print(f"{place} is damaged; it is {self.again} again", file=sys.stderr)
            shutil.rmtree(place, ignore_errors=True)
            return None
        os.utime(place / self.facts)
        return place, facts

    def _write(
        self, key: str, made_from: dict[str, Any], make: Callable[[Path], dict[str, Any]]
    ) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=f".{key}.") as name:
            scratch = Path(name) / "made"
            scratch.mkdir()
            write_json(scratch / self.facts, {**made_from, **make(scratch)})
            scratch.rename(self.folder / key)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.what} could not be kept in {self.folder}: {error.strerror}; nothing half-written stays there. "
                f"{self.remedy}"
            ) from error


def unreadable_photos(facts: dict[str, Any]) -> dict[int, str]:
    """Which photos could not be read when a thing was made, by position, and why; damaged facts raise."""
    return {int(position): str(reason) for position, reason in facts["unreadable"].items()}


def cache_folder(folder: str | None, kind: str) -> Path:
    """Where things of a kind are kept: `folder`, or below the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "sagelight" / kind if folder is None else Path(folder)


def take_room(file: BinaryIO, size: int) -> None:
    """Make a file `size` bytes long and take them from the disk: what is written to it later finds it never full.

    Raises:
        OSError: the disk has not so many.
    """
    file.truncate(size)
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


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
