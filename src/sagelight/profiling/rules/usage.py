"""The rule that only tells how much of a machine was used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sagelight.profiling.profile import Metric, Profile, Values
from sagelight.profiling.rules.base import Judgement, ProfilerRule
from sagelight.profiling.rules.steps import percentiles


@dataclass
class OverallSystemUsage(ProfilerRule):
    """Percentiles of every metric of every machine; of cores and GPUs, those of all their samples. It finds nothing wrong."""

    means: ClassVar[str] = "how much of the machine was used"

    def judge(self, profile: Profile) -> Judgement:
        found = Judgement(reason="the machine was not measured")
        together: dict[str, list[Values]] = {}
        for metric in sorted(profile.metrics):
            values = profile.metrics[metric].sorted()[1]
            together.setdefault(_title(metric), []).append(values)
        for title, each in together.items():
            found.points = max(found.points, max(len(values) for values in each))
            found.numbers[title] = percentiles(np.concatenate(each))
        if found.points:
            found.reason = ""
        return found


def _title(metric: Metric) -> str:
    what = metric.name if metric.dimension in ("", "Algorithm", "Platform") else metric.dimension
    return f"{metric.node} {what}" + (" Platform" if metric.dimension == "Platform" else "")
