"""The one line an epoch that machines read, and the regular expressions made from the same table."""

from __future__ import annotations

import math
from collections.abc import Mapping

PREFIX = "sagelight-metrics"
COLUMNS = (
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "val/top5_accuracy",
    "val/macro_f1",
    "objective",
)
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"


def format_line(epoch: int, values: Mapping[str, float]) -> str:
    """`sagelight-metrics epoch=3 train/loss=0.41 ... objective=0.87`.

    Args:
        epoch: counted from 1.
        values: by the names in `COLUMNS`; a name that is missing, or a value that is not finite, is left
            out, because SageMaker cannot read it as a number.
    """
    pairs = [f"{name}={values[name]:.6g}" for name in COLUMNS if _finite(values.get(name))]
    return " ".join([PREFIX, f"epoch={epoch}", *pairs])


def metric_definitions() -> list[dict[str, str]]:
    """SageMaker's MetricDefinitions (`Name`, `Regex`) for every figure of the line."""
    return [{"Name": name, "Regex": rf"{PREFIX} .*\b{name}={_NUMBER}(?:\s|$)"} for name in COLUMNS]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
