"""Small trials, written as a training would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sagelight.debugging.records import Place
from sagelight.debugging.trial import reduce, reduced_name
from sagelight.debugging.writer import TrialWriter

LOSS = "CrossEntropyLoss_output_0"
WEIGHT = "ResNet_fc.weight"
GRADIENT = f"gradient/{WEIGHT}"
COLLECTIONS = {"losses": [LOSS], "weights": [WEIGHT], "gradients": [GRADIENT]}
REDUCED = ("min", "max", "mean", "std", "abs_mean", "abs_max")

Values = Mapping[str, Any]


def leave_trial(
    folder: Path,
    train: Iterable[Values],
    validate: Callable[[int], Values | None] = lambda step: None,
    reductions: tuple[str, ...] = (),
) -> Path:
    """A finished trial: one mapping a training step, and after each maybe one of validation."""
    writer = TrialWriter(folder)
    writer.collections(COLLECTIONS, {"weights": reductions, "gradients": reductions})
    step = validations = 0
    for number, values in enumerate(train):
        writer.write(Place(step, "TRAIN", number), _kept(values, reductions))
        step += 1
        validated = validate(number)
        if validated is not None:
            writer.write(Place(step, "EVAL", validations), _kept(validated, reductions))
            step, validations = step + 1, validations + 1
    writer.close()
    return folder


def healthy(step: int, rng: np.random.Generator) -> dict[str, Any]:
    """A step of a training that goes well."""
    return {
        LOSS: np.float32(2 * 0.97**step),
        WEIGHT: (rng.normal(0, 0.1, (4, 3)) + 0.01 * step).astype(np.float32),
        GRADIENT: rng.normal(0, 1e-2, (4, 3)).astype(np.float32),
    }


def _kept(values: Values, reductions: tuple[str, ...]) -> dict[str, Any]:
    arrays = {name: np.asarray(value) for name, value in values.items()}
    if not reductions:
        return arrays
    whole = {name: array for name, array in arrays.items() if name == LOSS}
    return whole | {
        reduced_name(name, each): reduce(array, each)
        for name, array in arrays.items()
        if name != LOSS
        for each in reductions
    }
