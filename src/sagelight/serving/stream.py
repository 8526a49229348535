"""Many image files through a predictor in order, with a few batches in memory at any time."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagelight.bundle.preprocessing import UnreadableImageError
from sagelight.data.index import EXTENSIONS, image_paths
from sagelight.errors import DataError
from sagelight.serving.predictor import Predictor

Pixels = NDArray[np.uint8]
Prepare = Callable[[Path], Pixels]


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


def answers(
    predictor: Predictor, root: Path, files: Iterable[str], batch_size: int, workers: int
) -> Iterator[Answer]:
    """Predict files below `root`, in the order given; unreadable ones are answered with a reason.

    Args:
        batch_size: files to one run of the network.
        workers: threads that decode ahead of the network.
    """
    ahead = _decoded(root, files, predictor.pixels, workers, 2 * batch_size)
    while batch := list(itertools.islice(ahead, batch_size)):
        pixels = [result for _, result in batch if isinstance(result, np.ndarray)]
        rows = iter(predictor.probabilities(np.stack(pixels)) if pixels else ())
        for file, result in batch:
            name = _printable(file)
            if isinstance(result, np.ndarray):
                yield Answer(name, next(rows))
            else:
                yield Answer(name, None, result)


def _printable(file: str) -> str:
    # A name that is not UTF-8 could not be written into any table.
    return os.fsencode(file).decode("utf-8", "replace")


def _decoded(
    root: Path, files: Iterable[str], prepare: Prepare, workers: int, most: int
) -> Iterator[tuple[str, Pixels | str]]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[tuple[str, Future[Pixels | str]]] = deque()
    try:
        for file in files:
            waiting.append((file, pool.submit(_pixels, prepare, root / file)))
            if len(waiting) >= most:
                file, future = waiting.popleft()
                yield file, future.result()
        for file, future in waiting:
            yield file, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(prepare: Prepare, path: Path) -> Pixels | str:
    try:
        return prepare(path)
    except UnreadableImageError as error:
        return str(error)
