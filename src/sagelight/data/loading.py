"""How long the photos of a training take to load, measured before it starts."""

from __future__ import annotations

import multiprocessing
import statistics
from time import perf_counter

from sagelight.config.resolve import Loading
from sagelight.data.dataset import Draw, PhotoDataset, derived_seed

TIMED = 12
MOST_SECONDS = 0.3
# A forked process has everything in memory; any other imports it first.
FORK_SECONDS, IMPORT_SECONDS = 0.1, 4.0


def time_loading(dataset: PhotoDataset, seed: int, *, first: bool = False) -> Loading:
    """Time some photos of a split, for at most 0.3 seconds after the first.

    The first is read once before, so that what is set up for all of them is not counted.

    Args:
        first: take the first ones, where a whole archive is fetched for each of those that lie apart; otherwise they
            are evenly spread.
    """
    count = min(TIMED, len(dataset))
    among = count if first else len(dataset)
    # Every other one, and then those between: also when time is up, they are spread.
    order = [*range(0, count, 2), *range(1, count, 2)]
    positions = [number * among // count for number in order]
    took: list[float] = []
    dataset[Draw(positions[0], seed)]
    for position in positions:
        start = perf_counter()
        dataset[Draw(position, derived_seed(seed, position))]
        took.append(perf_counter() - start)
        if sum(took) > MOST_SECONDS:
            break
    # The median: other work on the machine may stop this process in the middle of a photo or two.
    return Loading(1000 * statistics.median(took), 1000 * max(took), start_seconds())


def start_seconds() -> float:
    """About what it takes to start a loader process on this system."""
    return FORK_SECONDS if multiprocessing.get_start_method() == "fork" else IMPORT_SECONDS
