"""Backbone and head as one module that knows which part of it trains."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from sagelight.models.backbones import build_backbone
from sagelight.models.computing import Computing
from sagelight.models.settings import ModelSettings
from sagelight.models.weights import load_weights


class Network(nn.Module):
    """uint8 images to class scores.

    The backbone is an ordered list of stages, input side first. The first `frozen` of them neither
    train nor update their BatchNorm statistics; with all frozen, no gradient is recorded below the head, and the
    backbone is computed with BatchNorm folded into the convolutions.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        classes: int,
        image_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        built = build_backbone(settings.backbone, image_size, settings.weights != "none")
        load_weights(built, settings.backbone, settings.weights, image_size)
        self.backbone = built.module
        self.computing = Computing(self.backbone)
        self.width = built.width
        norm = nn.LayerNorm(built.width) if settings.head_norm == "layer" else nn.Identity()
        self.head = nn.Sequential(
            norm, nn.Dropout(settings.dropout), nn.Linear(built.width, classes)
        )
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.stages = find_stages(self.backbone)
        self.frozen = 0

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 or float 0..255 (B, 3, H, W) to the normalised floats that the backbone takes."""
        # In place after the first step, which makes a tensor of its own.
        return (images.float() / 255).sub_(self.mean).div_(self.std)

    def features(self, images: Tensor) -> Tensor:
        """Normalised images to (B, width)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.all_frozen):
            features = self.computing(images, self.all_frozen and not self.backbone.training)
        return features.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W), or features (B, width) computed before, to scores (B, classes)."""
        features = images if images.ndim == 2 else self.features(self.normalise(images))
        scores: Tensor = self.head(features)
        return scores

    @property
    def all_frozen(self) -> bool:
        return self.frozen == len(self.stages)

    def freeze(self, count: int) -> None:
        """Freeze the first `count` stages and let the others train."""
        self.frozen = count
        for position, names in enumerate(self.stages):
            for name in names:
                self.backbone.get_parameter(name).requires_grad_(position >= count)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode and self.frozen:
            self._eval_frozen_modules()
        return self

    def _eval_frozen_modules(self) -> None:
        if self.all_frozen:
            self.backbone.eval()
            return
        frozen = {name for names in self.stages[: self.frozen] for name in names}
        for prefix, module in self.backbone.named_modules():
            own = [f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters()]
            if own and frozen.issuperset(own):
                module.eval()


def channels_last(images: Tensor) -> Tensor:
    """Images in the layout that convolutions are fastest in; features as they are."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def find_stages(backbone: nn.Module) -> list[list[str]]:
    """Parameter names of a backbone as stages, input side first.

    The children of the module are its stages; while there are fewer than five, or one holds most of the
    parameters, the one with most gives way to its own children. That yields conv1, bn1, layer1..4 for a
    resnet, the blocks of `features` for the convolutional families, and the encoder layers for
    transformers.
    """
    stages = _parts("", backbone)
    total = _count(backbone)
    while True:
        sizes = [_count(part) if _splits(part) else 0 for _, part in stages]
        if not any(sizes) or (len(stages) >= 5 and max(sizes) < 0.8 * total):
            break
        widest = sizes.index(max(sizes))
        name, part = stages[widest]
        assert isinstance(part, nn.Module)
        stages[widest : widest + 1] = _parts(f"{name}.", part)
    return [_names(name, part) for name, part in stages]


def _parts(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module | nn.Parameter]]:
    direct = [(prefix + n, p) for n, p in module.named_parameters(recurse=False)]
    children = [
        (prefix + n, c) for n, c in module.named_children() if any(True for _ in c.parameters())
    ]
    return [*direct, *children]


def _splits(part: nn.Module | nn.Parameter) -> bool:
    return isinstance(part, nn.Module) and any(
        any(True for _ in child.parameters()) for child in part.children()
    )


def _count(part: nn.Module | nn.Parameter) -> int:
    if isinstance(part, nn.Parameter):
        return part.numel()
    return sum(parameter.numel() for parameter in part.parameters())


def _names(name: str, part: nn.Module | nn.Parameter) -> list[str]:
    if isinstance(part, nn.Parameter):
        return [name]
    return [f"{name}.{each}" for each, _ in part.named_parameters()]
