"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import csv
import fcntl
import glob
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block ends well, and durably."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            _hold(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, for what is to take its place; it is gone when the block ends."""
    sweep_beside(target)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    scratch.mkdir(parents=True)
    try:
        with _held(scratch):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sweep_beside(target: Path) -> None:
    """Remove what killed processes have left half made of a file or folder; what is being made is locked.

    Where one was killed while it replaced a folder, after the old one went and before the new one came, the old one is
    put back.
    """
    for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if left.suffix in (".tmp", ".old") and _is_abandoned(left):
            _clear(left)


def replace_folder(scratch: Path, folder: Path) -> None:
    """Move a finished folder to its place; one that is there goes only when the new one stands."""
    if not folder.exists():
        scratch.rename(folder)
        return
    old = scratch.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    with _held(folder):
        folder.rename(old)
        try:
            scratch.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        # What is half removed must not be put back.
        old.rename(scratch)
        shutil.rmtree(scratch)


def sweep(folder: Path) -> None:
    """Do as `sweep_beside` for all that was made in `folder`; whoever writes there must hold its lock."""
    for left in (*folder.glob(".*.tmp"), *folder.glob(".*.old")):
        _clear(left)


def takes_lock(file: IO[Any] | int) -> bool:
    """Lock a file against other processes, until it is closed; False where one of them holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def waits_for_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which other processes wait for."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    with atomic(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """JSON with two spaces; not-a-number is written as null, which every reader accepts."""
    write_text(path, json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        text.detach()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    file = os.open(folder, os.O_RDONLY)
    try:
        _hold(file)
        yield
    finally:
        os.close(file)


def _hold(file: IO[Any] | int) -> None:
    # NFS locks no folder; what cannot be locked there is never taken for abandoned either.
    with suppress(OSError):
        takes_lock(file)


def _is_abandoned(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        # Another process was sooner.
        return False
    try:
        return takes_lock(file)
    except OSError:
        return False
    finally:
        os.close(file)


def _clear(left: Path) -> None:
    target = left.with_name(left.name[1:].rsplit(".", 2)[0])
    if left.suffix == ".old" and not target.exists():
        left.rename(target)
    elif left.is_dir():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    if isinstance(content, float) and content != content:
        return None
    return content
