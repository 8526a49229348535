from __future__ import annotations

import pytest
import torch

from sagelight.models.optimizers import build_optimizer, fuses, rate_scale
from sagelight.models.settings import OptimizerSettings, ScheduleSettings
from sagelight.training.settings import TrainerSettings


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


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_one_kernel_moves_the_weights_where_many_do(name: str) -> None:
    moved = []
    for fused in (False, True):
        generator = torch.Generator().manual_seed(0)
        weights = [
            torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 5), (3,))
        ]
        groups = [
            {"params": [each], "lr": 0.1, "weight_decay": 0.01 * n}
            for n, each in enumerate(weights)
        ]
        optimizer = build_optimizer(groups, OptimizerSettings(name), fused)
        for _ in range(20):
            for each in weights:
                each.grad = torch.randn(each.shape, generator=generator)
            optimizer.step()
        moved.append(torch.cat([each.detach().flatten() for each in weights]))
    assert torch.allclose(moved[0], moved[1], rtol=1e-5, atol=1e-6)


def test_a_training_goes_on_from_a_checkpoint_of_many_kernels() -> None:
    weights = [torch.nn.Parameter(torch.ones(3))]
    groups = [{"params": weights, "lr": 0.1}]
    old, new = (build_optimizer(groups, OptimizerSettings(), fused) for fused in (False, True))
    weights[0].grad = torch.ones(3)
    old.step()
    before = weights[0].detach().clone()
    new.load_state_dict(old.state_dict())
    new.step()
    assert not torch.equal(weights[0], before)


@pytest.mark.parametrize(
    ("settings", "fused"),
    [
        (TrainerSettings(accelerator="cpu"), True),
        (TrainerSettings(accelerator="mps"), False),
        (TrainerSettings(accelerator="cpu", precision="32-true", gradient_clip_val=1), True),
        (TrainerSettings(accelerator="cuda", precision="bf16-mixed", gradient_clip_val=1), False),
    ],
)
def test_one_kernel_only_where_it_can_be(settings: TrainerSettings, fused: bool) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    assert fuses(groups, settings) == fused


def test_weights_divided_over_processes_are_moved_one_by_one() -> None:
    class Part(torch.nn.Parameter):
        """As DTensor is one: a parameter, of another class."""

    groups = [{"params": [torch.nn.Parameter(torch.zeros(2)), Part(torch.zeros(2))]}]
    assert not fuses(groups, TrainerSettings(accelerator="cuda"))
