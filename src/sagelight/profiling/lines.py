"""Appending lines to files so that a reader meets whole lines only, and a failing disk stops no training."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path


class Watching:
    """Whether measuring goes on.

    Attributes:
        stopped: the sentence that told why it does not; empty while it does.
    """

    def __init__(self) -> None:
        self.stopped = ""

    def stop(self, why: str) -> None:
        """Measure nothing any more, and say so once on stderr."""
        if not self.stopped:
            self.stopped = f"{why}; nothing is measured any more, training goes on"
            print(f"profiler: {self.stopped}", file=sys.stderr, flush=True)

    def stop_writing(self, path: Path, error: OSError) -> None:
        """As `stop`, for a file that could not be written."""
        self.stop(f"{path} could not be written: {error.strerror or error}")


def append(path: Path, lines: Iterable[str]) -> None:
    """Add lines with a single write, and make the folder where it is missing.

    What a kill or a full disk has left of a line is cut off, before or at once.

    Raises:
        OSError: they could not be written; none of them is there.
    """
    text = "".join(f"{line}\n" for line in lines).encode()
    if not text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        whole = _end_of_lines(file)
        written = os.write(file, text)
        if written < len(text):
            os.ftruncate(file, whole)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def _end_of_lines(file: int) -> int:
    """The size of a file up to the end of its last whole line; the rest is cut off."""
    size = os.fstat(file).st_size
    start = max(0, size - _LONGEST)
    tail = os.pread(file, size - start, start)
    whole = start + tail.rfind(b"\n") + 1
    if whole < size:
        os.ftruncate(file, whole)
    return whole


_LONGEST = 4096
