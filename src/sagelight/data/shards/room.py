"""A folder of this machine that archives are copied to ahead of use: within a limit, whole, and once for all processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sagelight.data.shards.archives import S3, Shard
from sagelight.errors import DataError, SagelightError
from sagelight.files import waits_for_lock

if TYPE_CHECKING:
    from sagelight.cloud.objects import Objects

_CHUNK = 1 << 22
_TURNS = 2


@dataclass(frozen=True)
class SharedRoom:
    """Copies of archives below `base`, in a folder for each data set.

    Attributes:
        name: of the data set's folder.
        most_bytes: room for the copies of all data sets; what was opened longest ago makes way.
    """

    base: Path
    name: str
    most_bytes: int
    most_open: int

    def path(self, root: str, shard: Shard) -> Path:
        """A copy of an archive; other processes wait while one of them fetches it.

        Raises:
            DataError: the folder cannot be written, or what arrives is damaged.
            CloudError: the bucket refuses.
        """
        path = self.base / self.name / shard.name
        with suppress(FileNotFoundError):
            os.utime(path)
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with waits_for_lock(path.with_name(f".{shard.name}.lock")):
                if not path.is_file():
                    self._fetch(root, shard, path)
        except OSError as error:
            raise DataError(
                f"{shard.name} of data.root={root} could not be copied to {path.parent}: {error.strerror}. "
                "Type data.shards_folder=DIR on another disk, or a smaller data.shards_gb."
            ) from error
        return path

    def ahead(self, root: str, shards: Sequence[Shard]) -> None:
        """Fetch archives in a thread, one after another; who needs one sooner fetches or waits as without."""
        missing = [each for each in shards if not (self.base / self.name / each.name).is_file()]
        if missing:
            threading.Thread(
                target=self._fetch_all, args=(root, missing), name="shards-ahead", daemon=True
            ).start()

    def _fetch_all(self, root: str, shards: Sequence[Shard]) -> None:
        # What fails here fails again, in words, where the archive is read.
        with suppress(SagelightError):
            for each in shards:
                self.path(root, each)

    def _fetch(self, root: str, shard: Shard, path: Path) -> None:
        for left in path.parent.glob(f".{shard.name}.*.tmp"):
            left.unlink()
        self._make_room(shard.size)
        scratch = path.with_name(f".{shard.name}.{os.getpid()}.tmp")
        try:
            for _ in range(_TURNS):
                if _copied(root, shard.name, scratch) == shard.sha256:
                    scratch.replace(path)
                    return
        finally:
            scratch.unlink(missing_ok=True)
        raise DataError(
            f"{shard.name} of data.root={root} is damaged: its checksum is not that of index.npz. "
            "Type `python launch/local.py prepare` to write the shards again."
        )

    def _make_room(self, needed: int) -> None:
        kept = sorted(_sizes(self.base), key=lambda each: each[1])
        total = sum(size for size, _, _ in kept) + needed
        for size, _, path in kept:
            if total <= self.most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _sizes(base: Path) -> Iterator[tuple[int, float, Path]]:
    """Bytes, time of last use, and path of every copy."""
    for path in base.glob("*/*.tar"):
        with suppress(FileNotFoundError):
            state = path.stat()
            yield state.st_size, state.st_mtime, path


@cache
def _bucket(root: str) -> Objects:
    # Connecting takes longer than many a shard.
    from sagelight.cloud.objects import Objects

    return Objects(root)


def _copied(root: str, name: str, target: Path) -> str:
    """Copy an archive from its beginning to its end; gives the hex SHA-256 of what arrived."""
    if root.startswith(S3):
        _bucket(root).download(name, target)
    else:
        with (Path(root) / name).open("rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
