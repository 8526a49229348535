"""Archives and names that came from elsewhere: what they hold lands in its folder, or nowhere.

Own rules rather than tarfile's filter: that one follows links, which could be turned against it (CVE-2025-4517), counts
nothing and measures nothing. What this project and SageMaker write are files and folders, and those alone are taken.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path, PurePosixPath
from typing import IO

from sagelight.errors import ArchiveError, first_line

MOST_ENTRIES = 1_000_000
MOST_PARTS = 32
# Weights and photos do not shrink, and tables and pages not by more.
MOST_RATIO = 100
ALLOWANCE = 1 << 30
# tarfile reads the names of an entry whole, however long it says they are.
MOST_NAMES = 1 << 20
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 18
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, ValueError, OverflowError)


def inside(folder: Path, name: str) -> Path:
    """The file below a folder that a name means which came from elsewhere.

    Raises:
        ArchiveError: it means one outside of the folder, or none.
    """
    try:
        return folder / _relative(name)
    except ArchiveError as error:
        raise ArchiveError(f"{error}, and is not written. Find out who has named it so.") from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar or .tar.gz: files and folders, none of them over another, with the rights of any new file.

    Raises:
        ArchiveError: it is damaged or cut off; or it holds links or devices, leads out of the folder, names a file twice,
            or holds more than the disk has or than such an archive can have shrunk to. What was unpacked until then stays.
    """
    with _explained(archive.name), _opened(archive) as file:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        room = ALLOWANCE + MOST_RATIO * archive.stat().st_size
        for entry, content in _entries(file):
            target = folder / _relative(entry.name)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            free, room = free - entry.size, room - entry.size
            if room < 0:
                raise ArchiveError(f"{entry.name!r} is one too many: it would fill the disk")
            if free < 0:
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            _write(content, target)


def read_member(file: IO[bytes], name: str, most: int) -> bytes | None:
    """The first file of a name in a .tar.gz, which is read from its beginning; None where there is none.

    Args:
        most: bytes that it may have.

    Raises:
        ArchiveError: as `unpack`, or it is larger.
    """
    with _explained(name), gzip.open(file) as plain:
        for entry, content in _entries(plain):
            if content is None or _relative(entry.name) != PurePosixPath(name):
                continue
            if entry.size > most:
                raise ArchiveError(f"it has {entry.size:,} bytes, and {most:,} are read at most")
            return content.read()
    return None


def refuse_swollen(archive: zipfile.ZipFile, packed: int) -> None:
    """Look at how large a zip of so many bytes says that it is, which is as much as is read of it.

    Raises:
        ArchiveError: it holds more than such a file can have shrunk to, or a name twice.
    """
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > ALLOWANCE + MOST_RATIO * packed:
        raise ArchiveError("it holds more than can be meant")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ArchiveError("it names a file twice")


class _Plain:
    """An unpacked archive that is read forwards, and at each place only as far as was allowed.

    Attributes:
        left: bytes that may be read before this is set again.
        last: what was read last.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self.left = MOST_NAMES
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError("an entry says that it is larger than it can be")
        self.last = self._file.read(size)
        self.left -= len(self.last)
        return self.last

    def seek(self, place: int) -> int:
        if place < self._file.tell():
            raise tarfile.ReadError("an entry leads back to an earlier one")
        return self._file.seek(place)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _entries(
    file: IO[bytes] | gzip.GzipFile,
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Every file with its content, which must be read before the next; every folder with None."""
    plain = _Plain(file)
    with tarfile.open(fileobj=plain, mode="r:") as tar:  # type: ignore[call-overload]
        for _ in range(MOST_ENTRIES):
            plain.left = MOST_NAMES
            entry = tar.next()
            # It would keep a note of each.
            tar.members = []
            if entry is None:
                # tarfile takes anything that is no entry for the end.
                if plain.last != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("it is cut off")
                return
            if not (entry.isreg() or entry.isdir()) or entry.issparse():
                raise ArchiveError(f"{entry.name!r} is a link, a device or a file with holes")
            plain.left = entry.size
            yield entry, None if entry.isdir() else tar.extractfile(entry)
    raise ArchiveError(f"it holds more than {MOST_ENTRIES:,} files")


def _relative(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise ArchiveError(f"{name[:200]!r} leads out of its folder")
    if len(path.parts) > MOST_PARTS:
        raise ArchiveError(f"{name[:200]!r} lies in more than {MOST_PARTS} folders")
    return path


def _write(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
    except FileExistsError:
        raise ArchiveError(f"{target.name!r} is there already") from None


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with archive.open("rb") as packed:
        zipped = packed.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
        if not zipped:
            yield packed
            return
        with gzip.open(packed) as plain:
            yield plain


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(
            f"{name} is refused: {error}. No archive of sagelight is like that; find out who made it."
        ) from error
    except _DAMAGED as error:
        raise ArchiveError(f"{name} is damaged: {first_line(error)}. Fetch it again.") from error
    except OSError as error:
        why = error.strerror or first_line(error)
        full = error.errno in (ENOSPC, EDQUOT)
        what = "Make room there, and repeat the same command." if full else "Fetch it again."
        raise ArchiveError(f"{name} cannot be unpacked: {why}. {what}") from error
