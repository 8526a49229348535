"""A row of the load table: what is made before, what is measured, and what it may take."""

from __future__ import annotations

import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

Figures = dict[str, float]
Make = Callable[[Path, float], None]
Work = Callable[[Path, float], Figures]


def nothing(folder: Path, size: float) -> None:
    """Make nothing."""


@dataclass(frozen=True)
class Row:
    """A measurement and its bounds: the most of each figure. `size` is 1, or less to try it out."""

    name: str
    work: Work
    bounds: Mapping[str, float]
    make: Make = nothing

    def exceeded(self, figures: Figures) -> list[str]:
        """The bounds that do not hold; one without a figure is one of those."""
        return [
            f"{name}: {figures[name]} is more than {most:g}"
            if name in figures
            else f"{name}: not measured"
            for name, most in self.bounds.items()
            if not figures.get(name, float("inf")) <= most
        ]


def held() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _processor() -> float:
    own, ended = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


@contextmanager
def measured() -> Iterator[Figures]:
    """Figures that, when the block has ended, tell its seconds and the MB that it took on top."""
    figures: Figures = {}
    before, began, busy = held(), time.perf_counter(), _processor()
    yield figures
    figures["seconds"] = time.perf_counter() - began
    figures["processor_seconds"] = _processor() - busy
    figures["megabytes_more"] = held() - before


@dataclass(frozen=True)
class Watched:
    """A command at a terminal: its exit status, and the longest time in which it moved nothing, in seconds."""

    status: int
    gap: float
    seconds: float
    said: bytes


def watch(command: Sequence[str], since: bytes = b"", **settings: str) -> Watched:
    """Run a command at a terminal of its own and see when it writes there.

    Args:
        since: gaps count from when it has written this.
        settings: of its environment.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", **settings}
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    said, times = b"", []
    for moment, text in _writes(ours):
        said += text
        if since in said:
            times.append(moment)
    os.close(ours)
    status = process.wait()
    times.append(time.monotonic())
    gap = max((after - before for before, after in pairwise(times)), default=0)
    return Watched(status, gap, time.monotonic() - began, said)


def _writes(terminal: int) -> Iterator[tuple[float, bytes]]:
    while True:
        select.select([terminal], [], [])
        try:
            text = os.read(terminal, 1 << 16)
        except OSError:  # Linux's way to say that nobody holds the other end any more.
            return
        if not text:
            return
        yield time.monotonic(), text


def browser_seconds(page: Path) -> Figures:
    """How much longer a browser takes for a page than for an empty one, where there is a browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium or google-chrome is on the PATH to draw pages with", file=sys.stderr)
        return {}
    empty = page.with_name("empty.html")
    empty.write_text("<!doctype html><title>empty</title>")
    took, picture = [], page.with_name("page.png")
    for each in (empty, empty, page):
        began = time.perf_counter()
        words = ["--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={picture}"]
        words += ["--disable-background-networking", "--no-first-run", "--disable-sync"]
        subprocess.run(
            [browser, *words, f"--user-data-dir={page.parent / 'browser'}", each.as_uri()],
            check=True,
            capture_output=True,
        )
        took.append(time.perf_counter() - began)
        # Chromium ends well without a picture, too.
        picture.unlink()
    shutil.rmtree(page.parent / "browser", ignore_errors=True)
    return {"browser_seconds": took[2] - took[1]}
