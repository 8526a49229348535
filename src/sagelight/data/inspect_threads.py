"""Reading many photos: in order, with a progress bar, by threads where they help."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sagelight.cores import usable_cores
from sagelight.progress import progress

T = TypeVar("T")
R = TypeVar("R")
CHUNK = 32
MOST_THREADS = 8


def spread(
    function: Callable[[T], R], items: Sequence[T], label: str, *, threads: int | None = None
) -> Iterator[R]:
    """The results of `function` in the order of `items`, with a progress bar.

    Args:
        threads: None for one a core, which helps where pixels are decoded; Pillow and hashlib then
            release the interpreter. Parsing headers does not, and is fastest with 1.
    """
    yield from progress(in_threads(function, items, threads), len(items), label)


def in_threads(function: Callable[[T], R], items: Sequence[T], threads: int | None) -> Iterator[R]:
    """As `spread`, without a bar; all results that are not taken yet stay in memory."""
    workers = threads or min(usable_cores(), MOST_THREADS)
    # Few large photos are shared out fairly, many small ones at little cost.
    size = max(1, min(CHUNK, len(items) // (8 * workers)))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        # Pillow's remarks on odd metadata and many pixels; the gate says it in its own words. Set for
        # all threads at once: filters belong to the process.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            yield from results
