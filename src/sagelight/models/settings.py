"""What can be chosen about the network, what of it trains, and how. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.config.setting import setting


@dataclass
class ModelSettings:
    backbone: str = setting(
        "resnet18", "Any torchvision classification network, by its name there."
    )
    weights: str = setting(
        "default",
        "default: torchvision's newest for this network; none: random; or the path of a .safetensors or .pth file.",
    )
    head_norm: str = setting(
        "layer",
        "layer: normalise each photo's features before the linear head, which then learns in fewer epochs; none: do not.",
        choices=("layer", "none"),
    )
    dropout: float = setting(0.0, "Dropout before the head.", least=0, most=0.95)


@dataclass
class FinetuneSettings:
    name: str = setting(
        "full",
        "head: the backbone stays as it is; full: all trains; gradual: from the top, stage by stage; "
        "layer_decay: all, lower stages slower.",
        choices=("head", "full", "gradual", "layer_decay"),
    )
    backbone_lr_scale: float = setting(
        0.1, "Learning rate of the backbone as a multiple of optimizer.lr.", above=0, most=1
    )
    epochs_per_stage: int = setting(
        1,
        "gradual: epochs before the next stage joins; the first epochs train the head alone.",
        least=1,
    )
    decay: float = setting(
        0.75,
        "layer_decay: each stage further down learns this many times as fast.",
        above=0,
        most=1,
    )


@dataclass
class LossSettings:
    label_smoothing: float = setting(
        0.1, "Share of the target spread over the other classes.", least=0, most=0.5
    )
    class_weights: str = setting(
        "none",
        "balanced weighs each class by the inverse of its number of training photos.",
        choices=("none", "balanced"),
    )


@dataclass
class OptimizerSettings:
    name: str = setting("adamw", "sgd (with Nesterov momentum) or adamw.", choices=("sgd", "adamw"))
    lr: float = setting(3e-3, "Highest learning rate, that of the head.", above=0)
    weight_decay: float = setting(
        0.01, "Weight decay of weights; never of biases and norms.", least=0
    )
    momentum: float = setting(0.9, "sgd: momentum.", least=0, most=0.9999)


@dataclass
class ScheduleSettings:
    name: str = setting(
        "cosine",
        "How the rate falls after the warm-up: cosine or linear to the end, by steps, or constant.",
        choices=("cosine", "linear", "step", "constant"),
    )
    warmup: float = setting(
        0.1, "Share of all steps in which the rate climbs from zero.", least=0, most=0.9
    )
    final_scale: float = setting(
        0.0, "cosine, linear: the last rate as a multiple of optimizer.lr.", least=0, most=1
    )
    step_every: float = setting(
        0.3333, "step: share of all steps after which the rate falls.", above=0, most=1
    )
    step_scale: float = setting(
        0.1, "step: what each fall multiplies the rate by.", above=0, most=1
    )
