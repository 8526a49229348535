"""A space in SageMaker's words: the API's ParameterRanges, and the SDK's parameter objects."""

from __future__ import annotations

from typing import Any

from sagelight.tuning.space import Categorical, Continuous, Dimension, Integer, Space

SCALES = {"auto": "Auto", "log": "Logarithmic", "reverse_log": "ReverseLogarithmic"}
MOST_VALUES = 30


def api_ranges(space: Space, strategy: str = "bayesian") -> dict[str, list[dict[str, Any]]]:
    """ParameterRanges of CreateHyperParameterTuningJob; every bound and value is text, as the API wants it.
    A grid takes values only, so ranges of at most 30 whole numbers are listed for it.
    """
    dimensions = [_listed(d) for d in space.dimensions] if strategy == "grid" else space.dimensions
    ranges: dict[str, list[dict[str, Any]]] = {
        "ContinuousParameterRanges": [],
        "IntegerParameterRanges": [],
        "CategoricalParameterRanges": [],
    }
    for dimension in dimensions:
        if isinstance(dimension, Categorical):
            ranges["CategoricalParameterRanges"].append(
                {"Name": dimension.name, "Values": list(dimension.values)}
            )
        else:
            kind = "Continuous" if isinstance(dimension, Continuous) else "Integer"
            ranges[f"{kind}ParameterRanges"].append(
                {
                    "Name": dimension.name,
                    "MinValue": repr(dimension.low),
                    "MaxValue": repr(dimension.high),
                    "ScalingType": SCALES[dimension.scale],
                }
            )
    return {kind: found for kind, found in ranges.items() if found}


def sdk_ranges(space: Space) -> dict[str, Any]:
    """`ContinuousParameter`, `IntegerParameter` and `CategoricalParameter` of the SageMaker SDK v3, by name.

    For code that hands a space to the SDK's own `HyperparameterTuner(hyperparameter_ranges=...)`.
    """
    from sagemaker.core.parameter import (
        CategoricalParameter,
        ContinuousParameter,
        IntegerParameter,
    )

    found: dict[str, Any] = {}
    for dimension in space.dimensions:
        if isinstance(dimension, Categorical):
            found[dimension.name] = CategoricalParameter(list(dimension.values))
        else:
            kind = ContinuousParameter if isinstance(dimension, Continuous) else IntegerParameter
            found[dimension.name] = kind(dimension.low, dimension.high, SCALES[dimension.scale])
    return found


def _listed(dimension: Dimension) -> Dimension:
    """A range as a list, where it is one of few whole numbers."""
    if isinstance(dimension, Integer) and len(dimension.values()) <= MOST_VALUES:
        return Categorical(dimension.name, tuple(str(value) for value in dimension.values()))
    return dimension
