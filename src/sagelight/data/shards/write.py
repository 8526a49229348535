"""Writes planned shards: each whole or not at all, and none twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from sagelight.data.index import SPLITS, ImageIndex, Sample
from sagelight.data.inspect_threads import in_threads
from sagelight.data.shards.archives import Shard, Shards
from sagelight.data.shards.plan import Planned, member, padding, read_photo, stored
from sagelight.files import atomic, write_json
from sagelight.progress import progress


@dataclass(frozen=True)
class Written:
    """An archive that is there, and where its photos begin and how long they are, in their order."""

    shard: Shard
    offsets: list[int]
    sizes: list[int]


def write_shards(
    index: ImageIndex,
    planned: list[Planned],
    resize: int | None,
    folder: Path,
    keep: Callable[[Path], None],
    is_kept: Callable[[Shard], bool],
) -> list[Written]:
    """Write what is missing of `planned` into `folder`, and say what is there.

    Args:
        keep: told of each archive when it is whole; it may move it away.
        is_kept: whether an archive that was written by an earlier call is still where it was kept.
    """
    written: dict[str, Written] = {}
    for each in planned:
        found = _read_note(folder, each)
        if found is not None and is_kept(found.shard):
            written[each.name] = found
    missing = [each for each in planned if each.name not in written]

    def write() -> Iterator[None]:
        for each in missing:
            done = yield from _write(index, each, resize, folder)
            keep(folder / each.name)
            written[each.name] = done
            write_json(_note(folder, each), {**vars(done), "shard": vars(done.shard)})

    total = sum(len(each.samples) for each in missing)
    for _ in progress(write(), total, "Writing shards"):
        pass
    return [written[each.name] for each in planned]


def sharded(index: ImageIndex, planned: list[Planned], written: list[Written], root: str) -> Shards:
    """The archives as an index finds photos in them: splits in their order, photos by path."""
    places: dict[str, tuple[int, int, int]] = {}
    for number, (each, done) in enumerate(zip(planned, written, strict=True)):
        for sample, offset, size in zip(each.samples, done.offsets, done.sizes, strict=True):
            places[sample.path] = (number, offset, size)
    paths = [sample.path for split in SPLITS for sample in index.splits[split]]
    table = np.array([places[path] for path in paths], dtype=np.int64).reshape(-1, 3)
    archives = tuple(done.shard for done in written)
    shard = table[:, 0].astype(np.int32)
    return Shards(root, archives, paths, shard, table[:, 1].copy(), table[:, 2].copy())


def clear_notes(folder: Path) -> None:
    """Remove what told a repeated command which archives are whole."""
    for path in folder.glob("*.tar.json"):
        path.unlink()


def _write(
    index: ImageIndex, planned: Planned, resize: int | None, folder: Path
) -> Generator[None, None, Written]:
    offsets, sizes = list[int](), list[int]()
    with atomic(folder / planned.name) as file:
        tar = _Tar(file)
        for place, (content, extension) in enumerate(_contents(index, planned.samples, resize)):
            key = planned.key(place, index.labels)
            offsets.append(tar.add(f"{key}.{extension}", content))
            sizes.append(len(content))
            tar.add(f"{key}.cls", str(planned.samples[place].target).encode())
            yield
        tar.end()
    return Written(Shard(planned.name, tar.size, tar.digest.hexdigest()), offsets, sizes)


def _contents(
    index: ImageIndex, samples: Iterable[Sample], resize: int | None
) -> Iterator[tuple[bytes, str]]:
    def load(sample: Sample) -> tuple[bytes, str]:
        return stored(read_photo(index, sample), PurePosixPath(sample.path).suffix, resize)

    return in_threads(load, list(samples), None)


class _Tar:
    """An archive that is written once, from its beginning to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def add(self, name: str, content: bytes) -> int:
        """Write a file; gives the place of its first byte."""
        self._write(member(name, len(content)))
        offset = self.size
        self._write(content)
        self._write(padding(len(content)))
        return offset

    def end(self) -> None:
        """Write the mark that nothing more comes: two empty blocks."""
        self._write(bytes(1024))

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self.digest.update(content)
        self.size += len(content)


def _note(folder: Path, planned: Planned) -> Path:
    return folder / f"{planned.name}.json"


def _read_note(folder: Path, planned: Planned) -> Written | None:
    try:
        content = json.loads(_note(folder, planned).read_text(encoding="utf-8"))
        return Written(Shard(**content["shard"]), content["offsets"], content["sizes"])
    except FileNotFoundError:
        return None
