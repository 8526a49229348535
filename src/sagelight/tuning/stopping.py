"""When a trial, or a whole study, need not go on: SageMaker's rules, wherever the study runs.

Objectives here are signed: larger is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median

# What SageMaker calls an improvement: by one per cent or more.
IMPROVEMENT = 0.01


def falls_behind(values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether a trial is stopped under early stopping `Auto`.

    After each epoch its objective is compared with the median of the running averages of the other trials up to
    the same epoch. Source: "Stop Training Jobs Early" in the SageMaker guide.

    Args:
        values: the trial's objective after each epoch so far.
        others: those of earlier trials, which count where they got as far.
    """
    epochs = len(values)
    if not epochs:
        return False
    averages = [fmean(other[:epochs]) for other in others if len(other) >= epochs]
    return bool(averages) and values[-1] < median(averages)


def without_improvement(scores: Sequence[float]) -> int:
    """How many trials, in the order of their end, have passed since one was better by one per cent."""
    best, since = -math.inf, 0
    for score in scores:
        if best == -math.inf or score > best + IMPROVEMENT * abs(best):
            best, since = score, 0
        else:
            since += 1
    return since
