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


# A step with something for each of the seventeen rules, under the names of AWS's defaults.
RELU_IN, RELU_IN_2 = "layer1.relu_input_0", "layer2.relu_input_0"
RELU_OUT = "layer1.relu_output_0"
TANH, SIGMOID = "gate.tanh_input_0", "gate.sigmoid_input_0"
IMAGES = "hybridsequential0_input_0"
LABELS, PREDICTIONS = "labels", "predictions"
WHOLE_COLLECTIONS = {
    **COLLECTIONS,
    "relu_input": [RELU_IN, RELU_IN_2],
    "relu_output": [RELU_OUT],
    "saturation": [TANH, SIGMOID],
    "labels": [LABELS],
    "predictions": [PREDICTIONS],
}
# The same as our bridge keeps them.
ACTIVE = f"{RELU_OUT}_active"
MEANS = "backbone_input_0_means"
UPDATE = f"update/{WEIGHT}"
BRIDGE_COLLECTIONS = {
    **COLLECTIONS,
    "updates": [UPDATE],
    "relu_input": [RELU_IN, RELU_IN_2],
    "relu_output": [ACTIVE],
    "saturation": ["gate_tanh_input_0_range", "gate_sigmoid_input_0_range"],
    "inputs": [MEANS],
    "labels": [LABELS],
    "predictions": [PREDICTIONS],
}
_KEPT = {
    WEIGHT: ("abs_mean", "std"),
    GRADIENT: ("abs_mean", "std"),
    UPDATE: ("abs_mean",),
    RELU_IN: ("variance",),
    RELU_IN_2: ("variance",),
}


def complete(step: int, rng: np.random.Generator) -> dict[str, Any]:
    """A step of a training that goes well, with activations, images, labels and predictions."""
    relu = rng.normal(0, 1, (10, 6, 4, 4)).astype(np.float32)
    labels = np.arange(10, dtype=np.int32) % 3
    return {
        **healthy(step, rng),
        RELU_IN: relu,
        RELU_IN_2: 2 * relu,
        RELU_OUT: np.maximum(relu, 0),
        TANH: rng.normal(0, 2, (10, 6, 4)).astype(np.float32),
        SIGMOID: rng.normal(0, 2, (10, 6, 4)).astype(np.float32),
        IMAGES: rng.normal(0, 1, (10, 3, 4, 4)).astype(np.float32),
        LABELS: labels,
        PREDICTIONS: labels.copy(),
    }


def as_our_bridge_keeps(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole tensors as reductions, shares, levels, means and moves."""
    return [
        _reduced(values, steps[min(number, len(steps) - 2) : min(number, len(steps) - 2) + 2])
        for number, values in enumerate(steps)
    ]


def _reduced(values: Mapping[str, Any], pair: list[dict[str, Any]]) -> dict[str, Any]:
    whole = {**values, UPDATE: pair[1][WEIGHT] - pair[0][WEIGHT]}
    kept = {
        reduced_name(name, each): reduce(np.asarray(whole[name]), each)
        for name, reductions in _KEPT.items()
        for each in reductions
    }
    for name in (TANH, SIGMOID):
        levels = np.quantile(_channels(whole[name]), (0.01, 0.99), axis=1)
        kept[f"{name.replace('.', '_')}_range"] = levels.astype(np.float32)
    kept[ACTIVE] = np.mean(_channels(whole[RELU_OUT]) > 0, axis=1).astype(np.float16)
    kept[MEANS] = whole[IMAGES].mean(axis=(2, 3), keepdims=True)
    return kept | {name: whole[name] for name in (LOSS, LABELS, PREDICTIONS)}


def _channels(values: Any) -> Any:
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


def leave_steps(
    folder: Path,
    steps: Iterable[tuple[str, Values]],
    collections: Mapping[str, Iterable[str]],
) -> Path:
    """A finished trial of these steps, each a mode and what was kept of it."""
    writer = TrialWriter(folder)
    writer.collections(collections)
    counts: dict[str, int] = {}
    for step, (mode, values) in enumerate(steps):
        arrays = {name: np.asarray(value) for name, value in values.items()}
        writer.write(Place(step, mode, counts.get(mode, 0)), arrays)
        counts[mode] = counts.get(mode, 0) + 1
    writer.close()
    return folder
