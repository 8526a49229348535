"""Many image files through a predictor in order, with a few batches in memory at any time."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagelight.bundle.preprocessing import UnreadableImageError
from sagelight.cores import usable_cores
from sagelight.data.index import EXTENSIONS, image_paths
from sagelight.data.shards.archives import Shards, photo_content
from sagelight.errors import DataError
from sagelight.serving.predictor import Predictor

Pixels = NDArray[np.uint8]
# Each batch in work takes memory of its own.
MOST_RUNS = 8


@dataclass(frozen=True)
class Answer:
    """What became of a file: probabilities (C,), or None and the reason why it is unreadable."""

    file: str
    probabilities: NDArray[np.float32] | None
    reason: str = ""


def image_files(root: Path) -> list[str]:
    """The image files below a folder, as sorted paths relative to it with `/` separators.

    Raises:
        DataError: no such folder, no images in it, or one that cannot be listed.
    """
    try:
        files = sorted(image_paths(root)) if root.is_dir() else []
    except OSError as error:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}.") from error
    if not files:
        what = "has no images" if root.is_dir() else "does not exist"
        looked = f" (looked for {', '.join(EXTENSIONS)})" if root.is_dir() else ""
        raise DataError(f"{root} {what}{looked}. Name a photo, or a folder of photos.")
    return files


def runs_at_once() -> tuple[int, int]:
    """Batches that the network computes at the same time here, and the threads of each.

    Threads of one batch wait for each other after every layer, and decoding takes a core from them at any moment;
    batches wait for nobody.
    """
    cores = usable_cores()
    runs = min(cores, MOST_RUNS)
    return runs, cores // runs


def answers(
    predictor: Predictor,
    root: Path | Shards,
    files: Iterable[str],
    batch_size: int,
    workers: int,
    runs: int = 1,
) -> Iterator[Answer]:
    """Predict files below `root`, in the order given; unreadable ones are answered with a reason.

    Args:
        batch_size: files to one run of the network.
        workers: threads that decode ahead of the network.
        runs: batches that the network computes at the same time; at most one more is decoded ahead.
    """
    decoders = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    runners = ThreadPoolExecutor(runs, thread_name_prefix="predict")
    names, waiting = iter(files), deque[Future[list[Answer]]]()
    try:
        while True:
            while len(waiting) <= runs and (batch := list(itertools.islice(names, batch_size))):
                pixels = [decoders.submit(_pixels, predictor, root, file) for file in batch]
                waiting.append(runners.submit(_answered, predictor, batch, pixels))
            if not waiting:
                return
            yield from waiting.popleft().result()
    finally:
        # The runners wait for the decoders.
        decoders.shutdown(cancel_futures=True)
        runners.shutdown(cancel_futures=True)


def _answered(
    predictor: Predictor, files: Sequence[str], decoding: Sequence[Future[Pixels | str]]
) -> list[Answer]:
    decoded = [future.result() for future in decoding]
    pixels = [result for result in decoded if isinstance(result, np.ndarray)]
    rows = iter(predictor.probabilities(np.stack(pixels)) if pixels else ())
    return [
        Answer(_printable(file), next(rows))
        if isinstance(result, np.ndarray)
        else Answer(_printable(file), None, result)
        for file, result in zip(files, decoded, strict=True)
    ]


def _printable(file: str) -> str:
    # A name that is not UTF-8 could not be written into any table.
    return os.fsencode(file).decode("utf-8", "replace")


def _pixels(predictor: Predictor, root: Path | Shards, file: str) -> Pixels | str:
    try:
        return predictor.pixels(photo_content(root, file))
    except UnreadableImageError as error:
        return str(error)
