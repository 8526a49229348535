"""Mean and standard deviation of the training photos, measured as the network will see them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sagelight.bundle.preprocessing import Preprocessing, UnreadableImageError
from sagelight.config.setting import group
from sagelight.data.index import ImageIndex, Sample
from sagelight.data.inspect_threads import spread
from sagelight.data.prepare import choose_preprocessing, open_index
from sagelight.data.settings import DataSettings
from sagelight.errors import DataError

Channels = tuple[float, float, float]
# The input is divided by the deviation: that of plain areas must not become zero.
LEAST_STD = 1 / 255


@dataclass
class StatsSettings:
    data: DataSettings = group(DataSettings)


def run_stats(settings: StatsSettings) -> None:
    """The verb: measure and print."""
    index = open_index(settings.data)
    spec = choose_preprocessing(replace(settings.data, normalize="imagenet"), index)
    mean, std = channel_stats(index, spec)
    print(
        f"{index.name}: mean {_spoken(mean)}, std {_spoken(std)} of {len(index.splits['train']):,} "
        f"training photos at {settings.data.image_size} pixels. data.normalize=dataset uses them."
    )


def channel_stats(index: ImageIndex, preprocessing: Preprocessing) -> tuple[Channels, Channels]:
    """Mean and standard deviation of red, green and blue, for pixels scaled to 0..1.

    All pixels that remain of the training photos after resizing and cropping count the same.
    Unreadable photos are left out, and stderr tells how many. A deviation is at least 1/255.

    Raises:
        DataError: no training photo can be read.
    """

    def measure(sample: Sample) -> NDArray[np.int64] | None:
        try:
            return _sums(preprocessing(index.content(sample)))
        except UnreadableImageError:
            return None

    total, read = np.zeros((2, 3), dtype=np.int64), 0
    training = index.splits["train"]
    for sums in spread(measure, training, "Measuring colours"):
        if sums is not None:
            total, read = total + sums, read + 1
    _tell_left_out(index, len(training) - read, read)
    mean, square = total / (read * preprocessing.image_size**2) / [[255], [255**2]]
    std = np.maximum(np.sqrt(np.maximum(square - mean**2, 0)), LEAST_STD)
    return _channels(mean), _channels(std)


def _sums(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Sums of the values and of their squares: (2, 3), exact in whole numbers."""
    flat = pixels.reshape(3, -1).astype(np.int64)
    return np.stack([flat.sum(axis=1), (flat * flat).sum(axis=1)])


def _tell_left_out(index: ImageIndex, left_out: int, read: int) -> None:
    if read == 0:
        raise DataError(
            f"data.root={index.name}: none of the {left_out:,} training photos can be read. "
            f"Type `python launch/local.py check data.root={index.name}` to see why."
        )
    if left_out:
        print(
            f"Left out of mean and std as unreadable: {left_out:,} training photos", file=sys.stderr
        )


def _channels(values: NDArray[np.float64]) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _spoken(values: Channels) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
