from __future__ import annotations

import pytest
import torch

from sagelight.models.optimizers import build_optimizer, rate_scale
from sagelight.models.settings import OptimizerSettings, ScheduleSettings


@pytest.mark.parametrize("name", ["cosine", "linear", "step", "constant"])
def test_every_schedule_climbs_to_one_and_stays_within_bounds(name: str) -> None:
    scale = rate_scale(ScheduleSettings(name, warmup=0.1), 100)
    values = [scale(step) for step in range(100)]
    assert values[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(values) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in values)
    assert values[10:] == sorted(values[10:], reverse=True)


def test_ends_of_the_schedules() -> None:
    def last(name: str, **settings: float) -> float:
        return rate_scale(ScheduleSettings(name, warmup=0, **settings), 10)(10)

    assert last("cosine") == pytest.approx(0)
    assert last("linear", final_scale=0.2) == pytest.approx(0.2)
    assert last("constant") == 1
    assert last("step", step_every=0.5, step_scale=0.1) == pytest.approx(0.01)


def test_optimizers_by_name() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    assert isinstance(build_optimizer(groups, OptimizerSettings("adamw")), torch.optim.AdamW)
    sgd = build_optimizer(groups, OptimizerSettings("sgd", momentum=0.0))
    assert isinstance(sgd, torch.optim.SGD)
    assert not sgd.defaults["nesterov"]
