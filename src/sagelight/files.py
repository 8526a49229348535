"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block ends well, and durably."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def replace_folder(scratch: Path, folder: Path) -> None:
    """Move a finished folder to its place; one that is there goes only when the new one stands."""
    if not folder.exists():
        scratch.rename(folder)
        return
    old = scratch.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        scratch.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def sweep(folder: Path) -> None:
    """Remove what killed writers of `folder` have left half written; whoever writes there must hold its lock."""
    for left in (*folder.glob(".*.tmp"), *folder.glob(".*.old")):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def takes_lock(file: IO[Any]) -> bool:
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
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    if isinstance(content, float) and content != content:
        return None
    return content
