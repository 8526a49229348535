"""Profiler rules by AWS's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sagelight.profiling.rules.base import ProfilerRule
from sagelight.profiling.rules.gpu import (
    BatchSize,
    CPUBottleneck,
    GPUMemoryIncrease,
    IOBottleneck,
    LoadBalancing,
    LowGPUUtilization,
)
from sagelight.profiling.rules.steps import Dataloader, MaxInitializationTime, StepOutlier
from sagelight.profiling.rules.usage import OverallSystemUsage
from sagelight.rulebook import build_named

RULES: dict[str, type[ProfilerRule]] = {
    rule.__name__: rule
    for rule in (
        CPUBottleneck,
        IOBottleneck,
        LowGPUUtilization,
        GPUMemoryIncrease,
        BatchSize,
        LoadBalancing,
        StepOutlier,
        MaxInitializationTime,
        Dataloader,
        OverallSystemUsage,
    )
}


def build_rules(names: Sequence[str], parameters: Mapping[str, Any]) -> list[ProfilerRule]:
    """The profiler rules of these names, all of them where none is named.

    Raises:
        ConfigError: as `sagelight.rulebook.build_named`, or a parameter below zero.
    """
    return build_named(RULES, names, parameters)
