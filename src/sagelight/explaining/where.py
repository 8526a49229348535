"""Where the heat of a map is, in a few figures, and how alike two maps are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sagelight.explaining.occlusion import Heat


@dataclass(frozen=True)
class Place:
    """Where the heat is; None where there is none.

    Attributes:
        centre: of mass, as (x, y) from the upper left corner, in 0..1 of the sides.
        central_share: of the heat, what lies in the middle square of half the side; evenly spread heat has 0.25.
        half_area: the smallest share of the picture that holds half of the heat; evenly spread heat needs 0.5.
    """

    centre: tuple[float, float] | None
    central_share: float | None
    half_area: float | None


def place_of(heat: Heat) -> Place:
    """Figures of a map (H, W) in 0..1."""
    total = float(heat.sum(dtype=np.float64))
    if total <= 0:
        return Place(None, None, None)
    shares = heat.astype(np.float64) / total
    height, width = heat.shape
    x = float(shares.sum(axis=0) @ ((np.arange(width) + 0.5) / width))
    y = float(shares.sum(axis=1) @ ((np.arange(height) + 0.5) / height))
    middle = shares[height // 4 : height - height // 4, width // 4 : width - width // 4]
    held = np.cumsum(np.sort(shares, axis=None)[::-1])
    half = (int(np.searchsorted(held, 0.5)) + 1) / held.size
    return Place((round(x, 4), round(y, 4)), round(float(middle.sum()), 4), round(half, 4))


def rank_correlation(one: Heat, other: Heat) -> float:
    """Spearman's rank correlation of two maps, equal values sharing a rank; not a number where one is constant."""
    ranks = [_ranks(each.ravel()) for each in (one, other)]
    first, second = (each - each.mean() for each in ranks)
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale else float("nan")


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts, dtype=np.float64)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks
