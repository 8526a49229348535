"""Rules by their names, and their parameters as a person types them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
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
from sagelight.debugging.settings import DebuggerSettings
from sagelight.errors import ConfigError, first_line
from sagelight.rulebook import build_named, parameters_of

__all__ = ["RULES", "USUAL", "build_rules", "build_usual", "parameters_of"]

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


# What a training is watched by when nobody names rules, and where AWS's parameters, made for longer trainings than
# fine-tuning, would cry wolf. TensorVariance, Confusion and SimilarAcrossRuns are not among them: only a person knows
# what is right there.
USUAL: dict[str, dict[str, Any]] = {
    "VanishingGradient": {},
    "ExplodingTensor": {},
    # One bad validation may be chance.
    "Overfit": {"patience": 3},
    "Overtraining": {"patience_train": 10},
    # The first steps of a warm-up hardly move anything, and ten batches are few to judge by.
    "PoorWeightInitialization": {"steps": 40, "patience": 20},
    "LossNotDecreasing": {"num_steps": 25},
    "WeightUpdateRatio": {},
    "UnchangedTensor": {},
    "AllZero": {},
    "DeadRelu": {},
    "SaturatedActivation": {},
    "ClassImbalance": {},
    "StalledTraining": {},
    # What the backbone is given. Photos normalised as ImageNet's lie between -2.2 and 2.7, all dark or bright ones too.
    "CheckInputImages": {
        "regex": "backbone_input_0",
        "threshold_mean": 2.7,
        "threshold_samples": 100,
    },
}
ACTIONS = ("warn", "stop")


def build_usual(settings: DebuggerSettings) -> list[Rule]:
    """The rules that watch a training: those that the person has named, or the usual ones; parameters over ours.

    Raises:
        ConfigError: an unknown rule, parameter or action.
    """
    names = settings.rules or list(USUAL)
    for name, typed in settings.parameters.items():
        if not isinstance(typed, Mapping):
            raise ConfigError(
                f"debugger.parameters.{name}={typed}: type debugger.parameters.{name}.PARAMETER=VALUE."
            )
    parameters = {
        name: {**USUAL.get(name, {}), **settings.parameters.get(name, {})}
        for name in {*names, *settings.parameters}
    }
    rules = build_rules(names, parameters)
    watching = {type(rule).__name__ for rule in rules}
    for name, action in settings.actions.items():
        if name not in watching:
            raise ConfigError(
                f"debugger.actions.{name}: that rule does not watch. Watching are {', '.join(sorted(watching))}."
            )
        if action not in ACTIONS:
            raise ConfigError(
                f"debugger.actions.{name}={action}: must be one of {', '.join(ACTIONS)}."
            )
    return rules


def build_rules(names: Sequence[str], parameters: Mapping[str, Any]) -> list[Rule]:
    """The rules of these names, all of AWS's where none is named.

    Args:
        names: also of rules of one's own, by where Python finds them: `package.module.ClassName`.
        parameters: by rule and parameter, `{"Overfit": {"patience": 3}}`.

    Raises:
        ConfigError: an unknown rule or parameter, with the nearest known names, or a value of another type.
    """
    own = {name: _import(name) for name in names if "." in name}
    short = {name: rule.__name__ for name, rule in own.items()}
    known = {**RULES, **{rule.__name__: rule for rule in own.values()}}
    return build_named(
        known,
        [short.get(name, name) for name in names] or list(RULES),
        {short.get(name, name): value for name, value in parameters.items()},
    )


def _import(name: str) -> type[Rule]:
    module, _, last = name.rpartition(".")
    try:
        found = getattr(import_module(module), last)
    except Exception as error:  # Importing runs somebody's module.
        raise ConfigError(
            f"there is no rule {name}: {first_line(error)}. A rule of your own is a class below "
            "sagelight.debugging.rules.base.Rule that Python can import; set PYTHONPATH to its folder."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Rule)):
        raise ConfigError(f"{name} is no class below sagelight.debugging.rules.base.Rule.")
    lacking = [*sorted(found.__abstractmethods__)]
    lacking += [each for each in ("means", "advice") if not hasattr(found, each)]
    if lacking:
        raise ConfigError(f"{name} lacks {', '.join(lacking)}, which every rule has.")
    return found
