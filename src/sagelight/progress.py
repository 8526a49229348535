"""One way to show that something long goes on: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class ShowsProgress(Protocol):
    """What is called as `progress` is."""

    def __call__(self, items: Iterable[T], total: int, label: str) -> Iterator[T]: ...


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items, showing on stderr how many of `total` are done.

    A terminal gets a bar that disappears when it is full; anything else gets a line every 15
    seconds, and none at all for work shorter than that.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, label, total=total, console=Console(stderr=True), transient=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)
