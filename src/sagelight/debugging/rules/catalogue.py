"""Rules by their names, and their parameters as a person types them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sagelight.debugging.rules.activations import (
    CheckInputImages,
    DeadRelu,
    PoorWeightInitialization,
    SaturatedActivation,
)
from sagelight.debugging.rules.base import Rule
from sagelight.debugging.rules.course import SimilarAcrossRuns, StalledTraining
from sagelight.debugging.rules.labels import ClassImbalance, Confusion
from sagelight.debugging.rules.losses import LossNotDecreasing, Overfit, Overtraining
from sagelight.debugging.rules.tensors import (
    AllZero,
    ExplodingTensor,
    TensorVariance,
    UnchangedTensor,
    VanishingGradient,
    WeightUpdateRatio,
)
from sagelight.errors import ConfigError, suggestion

RULES: dict[str, type[Rule]] = {
    rule.__name__: rule
    for rule in (
        VanishingGradient,
        ExplodingTensor,
        Overfit,
        Overtraining,
        PoorWeightInitialization,
        LossNotDecreasing,
        WeightUpdateRatio,
        UnchangedTensor,
        AllZero,
        DeadRelu,
        SaturatedActivation,
        TensorVariance,
        ClassImbalance,
        Confusion,
        StalledTraining,
        SimilarAcrossRuns,
        CheckInputImages,
    )
}


def build_rules(names: Sequence[str], parameters: Mapping[str, Any]) -> list[Rule]:
    """The rules of these names, all of them where none is named.

    Args:
        parameters: by rule and parameter, `{"Overfit": {"patience": 3}}`.

    Raises:
        ConfigError: an unknown rule or parameter, with the nearest known names, or a value of another type.
    """
    for name in (*names, *parameters):
        if name not in RULES:
            raise ConfigError(
                f"there is no rule {name}.{suggestion(name, RULES)} There are {', '.join(RULES)}."
            )
    chosen = list(names) or list(RULES)
    return [_build(RULES[name], parameters.get(name) or {}) for name in chosen]


def parameters_of(rule: type[Rule]) -> dict[str, Any]:
    """A rule's parameters and their defaults."""
    return {f.name: f.default for f in dataclasses.fields(rule) if not f.name.startswith("_")}


def _build(rule: type[Rule], typed: Mapping[str, Any]) -> Rule:
    known = parameters_of(rule)
    for name, value in typed.items():
        if name not in known:
            raise ConfigError(
                f"{rule.__name__} has no parameter {name}.{suggestion(name, known)} It has {', '.join(known)}."
            )
        if not _fits(value, known[name]):
            raise ConfigError(
                f"{rule.__name__}.{name}={value}: that is no {type(known[name]).__name__}. "
                f"The default is {known[name]}."
            )
    return rule(**typed)


def _fits(value: Any, default: Any) -> bool:
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(default))
