"""Rules by their names, and their parameters as a person types them."""

from __future__ import annotations

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
from sagelight.rulebook import build_named, parameters_of

__all__ = ["RULES", "build_rules", "parameters_of"]

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
    return build_named(RULES, names, parameters)
