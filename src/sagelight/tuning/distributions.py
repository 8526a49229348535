"""A space in Optuna's terms, and what Optuna draws in Hydra's."""

from __future__ import annotations

import itertools
from typing import Any

from sagelight.tuning.space import Categorical, Continuous, Dimension, Integer, Space


def combinations(space: Space) -> list[dict[str, Any]]:
    """Every combination of the values of a grid, as Optuna holds them, in the order of its settings."""
    choices: list[list[Any]] = [_listed(d) for d in space.dimensions]
    return [dict(zip(space.names, values, strict=True)) for values in itertools.product(*choices)]


def distributions(optuna: Any, space: Space) -> dict[str, Any]:
    """Optuna's distributions by name of setting."""
    kinds = optuna.distributions
    found: dict[str, Any] = {}
    for d in space.dimensions:
        if isinstance(d, Categorical):
            found[d.name] = kinds.CategoricalDistribution(d.values)
        elif isinstance(d, Integer):
            found[d.name] = kinds.IntDistribution(d.low, d.high, log=d.scale == "log")
        elif d.scale == "reverse_log":
            # Optuna has no such scale; what is left to 1 is drawn on a logarithmic one.
            found[d.name] = kinds.FloatDistribution(1 - d.high, 1 - d.low, log=True)
        else:
            found[d.name] = kinds.FloatDistribution(d.low, d.high, log=d.scale == "log")
    return found


def text_of(dimension: Dimension, params: dict[str, Any]) -> str:
    """The Hydra text of what Optuna drew for a setting."""
    value = params[dimension.name]
    if isinstance(dimension, Continuous):
        if dimension.scale == "reverse_log":
            value = 1 - value
        return repr(min(dimension.high, max(dimension.low, float(value))))
    return str(value)


def _listed(dimension: Dimension) -> list[Any]:
    if isinstance(dimension, Categorical):
        return list(dimension.values)
    assert isinstance(dimension, Integer)
    return list(dimension.values())
