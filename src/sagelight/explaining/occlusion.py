"""Which parts of a photo a label rests on: hide them one by one, and ask the predictor again.

Needs no gradients, so it works for every bundle. Source: Zeiler and Fergus 2014, "Visualizing and understanding
convolutional networks", 4.2; differences of log-odds as in Robnik-Sikonja and Kononenko 2008.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sagelight.bundle.spec import BundleSpec

# A window hides a quarter of each side and moves by an eighth: 49 questions a photo, whatever its size.
CELLS = 8
WINDOW = 2
BATCH = 25
# Nearer to 0 and 1 the float32 of the network's softmax says nothing any more.
SUREST = 1e-6

Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]


class Answers(Protocol):
    """Whoever answers as a `Predictor` does."""

    @property
    def spec(self) -> BundleSpec: ...

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Probabilities (B, C) of pixels (B, 3, H, W)."""
        ...


def occlusion_map(predictor: Answers, pixels: Pixels, target: int) -> Heat:
    """What the probability of one class rests on.

    Args:
        pixels: uint8 (3, H, W), as the predictor's preprocessing gives them.
        target: position of the class among the predictor's labels.

    Returns:
        Heat (H, W) in 0..1: 1 where hiding costs the class most, 0 where it costs nothing or helps. All is 0
        where hiding nothing lowers the class.
    """
    [evidence] = occlusion_evidence(predictor, pixels, [target])
    return as_heat(evidence)


def occlusion_evidence(
    predictor: Answers, pixels: Pixels, targets: Sequence[int], batch: int = BATCH
) -> Heat:
    """How much each part of a photo speaks for each of several classes, at the price of one.

    A square window, a quarter of the photo's sides, is filled with the mean colour of the preprocessing, which the
    network sees as zeros. A pixel's evidence is the mean over the windows that hide it.

    Args:
        pixels: uint8 (3, H, W).
        targets: positions among the predictor's labels.
        batch: photos to one run of the network.

    Returns:
        (targets, H, W): log-odds that the class loses when the surroundings of the pixel are hidden; negative where
        they speak against it.
    """
    windows = list(_windows(*pixels.shape[1:]))
    before = _log_odds(predictor.probabilities(pixels[np.newaxis]))[0, list(targets)]
    after = [
        _log_odds(
            predictor.probabilities(_hidden(predictor, pixels, windows[start : start + batch]))
        )
        for start in range(0, len(windows), batch)
    ]
    lost = before - np.concatenate(after)[:, list(targets)]
    return np.stack([_spread(column, pixels.shape[1:]) for column in lost.T])


def as_heat(evidence: Heat) -> Heat:
    """What speaks for a class, as 0..1 of its highest value."""
    positive = evidence.clip(min=0)
    highest = float(positive.max(initial=0.0))
    return (positive / highest if highest > 0 else positive).astype(np.float32)


def _edges(length: int) -> list[int]:
    cells = min(CELLS, length)
    return [round(length * cell / cells) for cell in range(cells + 1)]


def _places(length: int) -> list[slice]:
    edges = _edges(length)
    reach = min(WINDOW, len(edges) - 1)
    return [slice(edges[n], edges[n + reach]) for n in range(len(edges) - reach)]


def _windows(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for rows in _places(height):
        for columns in _places(width):
            yield rows, columns


def _hidden(predictor: Answers, pixels: Pixels, windows: Sequence[tuple[slice, slice]]) -> Pixels:
    mean = np.round(255 * np.array(predictor.spec.preprocessing.mean)).astype(np.uint8)
    batch = np.repeat(pixels[np.newaxis], len(windows), axis=0)
    for photo, (rows, columns) in zip(batch, windows, strict=True):
        photo[:, rows, columns] = mean[:, np.newaxis, np.newaxis]
    return batch


def _log_odds(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    sure = probabilities.astype(np.float64).clip(SUREST, 1 - SUREST)
    odds: NDArray[np.float64] = np.log(sure / (1 - sure))
    return odds


def _spread(lost: NDArray[np.float64], size: tuple[int, ...]) -> Heat:
    """The losses of the windows, as a mean for each cell, drawn smoothly over the pixels."""
    rows, columns = (min(CELLS, length) for length in size)
    total, count = np.zeros((rows, columns)), np.zeros((rows, columns))
    high, wide = (min(WINDOW, length) for length in (rows, columns))
    places = np.ndindex(rows - high + 1, columns - wide + 1)
    for (row, column), value in zip(places, lost, strict=True):
        total[row : row + high, column : column + wide] += value
        count[row : row + high, column : column + wide] += 1
    cells = Image.fromarray((total / count).astype(np.float32))
    height, width = size
    return np.asarray(cells.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
