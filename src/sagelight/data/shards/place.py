"""Where shards are written: a folder that appears whole, or a bucket whose index comes last."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sagelight.data.shards.archives import INDEX, S3, Shard
from sagelight.data.shards.index import read_index
from sagelight.data.shards.plan import Planned
from sagelight.data.shards.write import clear_notes
from sagelight.errors import DataError, RunError
from sagelight.files import atomic, sweep, takes_lock, write_text

if TYPE_CHECKING:
    from sagelight.cloud.objects import Objects

_PLAN, _LOCK = "plan", ".lock"


class Place(Protocol):
    """Takes archives one by one, and their index at last."""

    def has_all(self, planned: Sequence[Planned]) -> bool:
        """Whether these very archives are there, with their index.

        Raises:
            DataError: something else is.
        """

    def opened_for(self, planned: Sequence[Planned]) -> AbstractContextManager[Path]:
        """A folder to write archives into, for this process alone; notes of an earlier call of the same plan lie there.

        Raises:
            DataError, RunError: too little room, or another process writes there.
        """

    def keep(self, path: Path) -> None:
        """Take an archive that is whole."""

    def is_kept(self, shard: Shard) -> bool:
        """Whether an archive of an earlier call is still there."""

    def finish(self, index: bytes) -> None:
        """Take the index; from now on the whole can be read."""


class Folder:
    """A folder, written beside its place under a hidden name."""

    def __init__(self, output: Path, plan: str) -> None:
        self._output, self._plan = output, plan
        self._scratch = output.with_name(f".{output.name}.preparing")

    def has_all(self, planned: Sequence[Planned]) -> bool:
        if self._output.is_dir() and not any(self._output.iterdir()):
            return False
        index = self._output / INDEX
        if index.is_file() and _plan_of(index.read_bytes(), self._output) == self._plan:
            return True
        if self._output.exists():
            raise _occupied(str(self._output), "output=DIR")
        return False

    @contextmanager
    def opened_for(self, planned: Sequence[Planned]) -> Iterator[Path]:
        with _scratch(self._scratch, self._plan, str(self._output)):
            there = sum(path.stat().st_size for path in self._scratch.glob("*.tar"))
            _refuse_room(self._scratch, sum(each.room for each in planned) - there)
            yield self._scratch

    def keep(self, path: Path) -> None:
        """It lies in the folder that will take the place."""

    def is_kept(self, shard: Shard) -> bool:
        path = self._scratch / shard.name
        return path.is_file() and path.stat().st_size == shard.size

    def finish(self, index: bytes) -> None:
        with atomic(self._scratch / INDEX) as file:
            file.write(index)
        clear_notes(self._scratch)
        for name in (_PLAN, _LOCK):
            (self._scratch / name).unlink()
        # An empty folder gives way.
        self._scratch.rename(self._output)


class Bucket:
    """A prefix of a bucket; each archive is made in the cache folder, sent, and removed there."""

    def __init__(self, objects: Objects, plan: str) -> None:
        self._objects, self._plan = objects, plan
        digest = hashlib.sha256(f"{objects.uri} {plan}".encode()).hexdigest()[:24]
        self._scratch = cache_folder() / "preparing" / digest
        self._sizes: dict[str, int] = {}

    def has_all(self, planned: Sequence[Planned]) -> bool:
        self._sizes = self._objects.sizes()
        if INDEX in self._sizes:
            if _plan_of(self._objects.read(INDEX) or b"", self._objects.uri) == self._plan:
                return True
            raise _occupied(self._objects.uri, "output=s3://BUCKET/PREFIX")
        ours = {each.name for each in planned} if (self._scratch / _PLAN).is_file() else set()
        if set(self._sizes) - ours:
            raise _occupied(self._objects.uri, "output=s3://BUCKET/PREFIX")
        return False

    @contextmanager
    def opened_for(self, planned: Sequence[Planned]) -> Iterator[Path]:
        with _scratch(self._scratch, self._plan, self._objects.uri):
            _refuse_room(self._scratch, max((each.room for each in planned), default=0))
            yield self._scratch

    def keep(self, path: Path) -> None:
        self._objects.upload(path, path.name)
        path.unlink()

    def is_kept(self, shard: Shard) -> bool:
        return self._sizes.get(shard.name) == shard.size

    def finish(self, index: bytes) -> None:
        self._objects.write(INDEX, index)
        shutil.rmtree(self._scratch)


def place_of(output: str, plan: str) -> Place:
    """The place that `output` names.

    Raises:
        CloudError: the packages of the AWS side are not installed, or the address names no bucket.
    """
    if not output.startswith(S3):
        return Folder(Path(output).expanduser(), plan)
    from sagelight.cloud.objects import Objects

    return Bucket(Objects(output), plan)


def cache_folder() -> Path:
    """Where this program keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sagelight"


@contextmanager
def _scratch(folder: Path, plan: str, output: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as file:
            if not takes_lock(file):
                raise RunError(f"output={output}: another process is writing shards there.")
            sweep(folder)
            if not (folder / _PLAN).is_file() or (folder / _PLAN).read_text() != plan:
                _empty(folder)
                write_text(folder / _PLAN, plan)
            yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} could not be written or read: {error.strerror}. Nothing lies under "
            f"output={output} yet; repeat the same command to go on."
        ) from error


def _empty(folder: Path) -> None:
    """Remove what another plan has left."""
    for path in folder.iterdir():
        if path.name != _LOCK:
            path.unlink()


def _plan_of(content: bytes, where: Path | str) -> str | None:
    try:
        return read_index(content, str(where)).plan
    except DataError:
        return None


def _occupied(output: str, example: str) -> DataError:
    return DataError(
        f"output={output} holds something else, and nothing in it is overwritten. Type {example} of another place, or "
        "remove what is there."
    )


def _refuse_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"the shards take {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free below {folder.parent}. "
            "Make room, type output=DIR on another disk, or resize=PIXELS for smaller photos."
        )
