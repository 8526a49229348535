"""Which parameter learns how fast, when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sagelight.models.network import Network
from sagelight.models.settings import FinetuneSettings, OptimizerSettings, ScheduleSettings
from sagelight.training.settings import TrainerSettings


def parameter_groups(
    network: Network, finetune: FinetuneSettings, optimizer: OptimizerSettings
) -> list[dict[str, Any]]:
    """Optimizer groups: each stage and the head with its own rate, weights apart from biases and norms.

    `finetune=head` has the head's groups alone. All other recipes include every stage from the start: a
    stage that is frozen has no gradient, which optimizers skip.
    """
    groups = []
    if finetune.name != "head":
        depth = len(network.stages)
        for position, names in enumerate(network.stages):
            scale = finetune.backbone_lr_scale
            if finetune.name == "layer_decay":
                scale *= finetune.decay ** (depth - 1 - position)
            parameters = [network.backbone.get_parameter(name) for name in names]
            groups += _decay_split(f"stage{position}", parameters, optimizer.lr * scale, optimizer)
    return groups + _decay_split("head", list(network.head.parameters()), optimizer.lr, optimizer)


def _decay_split(
    name: str, parameters: list[nn.Parameter], lr: float, settings: OptimizerSettings
) -> list[dict[str, Any]]:
    weights = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = []
    if weights:
        groups.append(
            {"name": name, "params": weights, "lr": lr, "weight_decay": settings.weight_decay}
        )
    if others:
        groups.append({"name": f"{name}_1d", "params": others, "lr": lr, "weight_decay": 0.0})
    return groups


def fuses(groups: list[dict[str, Any]], trainer: TrainerSettings) -> bool:
    """Whether one kernel may move all weights: not on Apple's GPUs, not where weights are divided over processes, which
    SGD's kernel does not know, and not where Lightning, because such a kernel can also undo the scale of 16-bit
    gradients, refuses to clip them.
    """
    whole = all(type(each) is nn.Parameter for group in groups for each in group["params"])
    clips_halves = trainer.gradient_clip_val > 0 and trainer.precision != "32-true"
    return whole and trainer.accelerator in ("cpu", "cuda") and not clips_halves


def build_optimizer(
    groups: list[dict[str, Any]], settings: OptimizerSettings, fused: bool = False
) -> Optimizer:
    """AdamW, or SGD with Nesterov momentum; `fused` ones move all weights in one kernel, to the same values."""
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(
            groups, lr=settings.lr, momentum=momentum, nesterov=momentum > 0, fused=fused
        )
    return torch.optim.AdamW(groups, lr=settings.lr, fused=fused)


def rate_scale(settings: ScheduleSettings, total_steps: int) -> Callable[[int], float]:
    """The factor on every learning rate at an optimizer step 0..total_steps-1, in 0..1."""
    warmup = settings.warmup * total_steps
    shape = _SHAPES[settings.name]

    def scale(step: int) -> float:
        if step < warmup:
            return min(1.0, (step + 1) / warmup)
        return shape(settings, min(1.0, (step - warmup) / max(1.0, total_steps - warmup)))

    return scale


def _cosine(settings: ScheduleSettings, done: float) -> float:
    floor = settings.final_scale
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def _linear(settings: ScheduleSettings, done: float) -> float:
    return 1 - (1 - settings.final_scale) * done


def _step(settings: ScheduleSettings, done: float) -> float:
    return float(settings.step_scale ** int(done / settings.step_every + 1e-9))


def _constant(settings: ScheduleSettings, done: float) -> float:
    return 1.0


_SHAPES: dict[str, Callable[[ScheduleSettings, float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "step": _step,
    "constant": _constant,
}
