"""What is uploaded as one object: a file, or a shard of many photos.

A hundred thousand photos would be a hundred thousand requests, each paid and each waited for, on the way up and at
the start of every job; shards of 64 MB are a few hundred.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sagelight.cloud.data import LocalFile
from sagelight.container.paths import SHARDS

SHARD_BYTES = 64_000_000
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Parcel:
    """One object to be: its name below the folder, its size in bytes, and the files in it."""

    name: str
    size: int
    files: tuple[LocalFile, ...]

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """A file with the parcel's content, for as long as the block lasts."""
        if not self.name.endswith(".tar"):
            yield self.files[0].path
            return
        with tempfile.NamedTemporaryFile(suffix=".tar") as scratch:
            with tarfile.open(fileobj=scratch, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for file in self.files:
                    with file.path.open("rb") as content:
                        tar.addfile(_header(file), content)
            scratch.flush()
            yield Path(scratch.name)


def single(files: Sequence[LocalFile]) -> list[Parcel]:
    """Each file by itself."""
    return [Parcel(file.name, file.size, (file,)) for file in files]


def shards(files: Sequence[LocalFile]) -> list[Parcel]:
    """Files in order, in archives of about 64 MB that are the same on every machine."""
    groups: list[list[LocalFile]] = [[]]
    filled = 0
    for file in files:
        if groups[-1] and filled + file.size > SHARD_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(file)
        filled += file.size
    return [
        Parcel(SHARDS.format(f"{number:05d}"), _tar_size(group), tuple(group))
        for number, group in enumerate(groups)
    ]


def _header(file: LocalFile) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(file.name)
    entry.size, entry.mode = file.size, 0o644
    return entry


def _tar_size(files: Sequence[LocalFile]) -> int:
    """Bytes of the archive without writing it, to know whether it is in the bucket already."""
    used = sum(
        len(_header(file).tobuf(tarfile.PAX_FORMAT)) + -(-file.size // _BLOCK) * _BLOCK
        for file in files
    )
    end = used + 2 * _BLOCK
    return -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
