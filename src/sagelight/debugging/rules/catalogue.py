"""Rules by their names, and their parameters as a person types them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sagelight.debugging.rules.base import Rule
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
        LossNotDecreasing,
        Overfit,
        Overtraining,
        WeightUpdateRatio,
        UnchangedTensor,
        AllZero,
        TensorVariance,
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
