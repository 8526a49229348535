"""What can be chosen about measuring the machine and the steps of a training. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sagelight.config.setting import setting


@dataclass
class ProfilerSettings:
    enabled: bool = setting(True, "Measure the machine and where each step's time goes.")
    interval_ms: int = setting(
        500, "Milliseconds between two samples of the machine.", least=100, most=60000
    )
    trace_steps: int = setting(
        0, "Steps that torch.profiler traces, after ten others; 0 traces none.", least=0, most=100
    )
    rules: list[str] = setting([], "Profiler rules by AWS's names; an empty list is all of them.")
    parameters: dict[str, Any] = setting(
        {},
        "Parameters by rule, as {CPUBottleneck: {patience: 100}}; the others are AWS's defaults.",
    )
