"""Any torchvision classification network, cut just before its last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torchvision
from torch import nn

from sagelight.errors import ConfigError, suggestion

# Where the last layer lives, by family: resnet/regnet/..., densenet/vgg/..., vit, swin.
HEAD_NAMES = ("fc", "classifier", "heads", "head")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def backbone_names() -> list[str]:
    """Every classification network of the installed torchvision."""
    return sorted(torchvision.models.list_models(module=torchvision.models))


def check_backbone(name: str) -> None:
    """Refuse a name that torchvision does not know, with the nearest ones.

    Raises:
        ConfigError
    """
    names = backbone_names()
    if name not in names:
        hint = suggestion(name, names) or f" Some of them: {', '.join(names[::12])}."
        raise ConfigError(f"model.backbone={name}: torchvision has no such network.{hint}")


@dataclass(frozen=True)
class Backbone:
    """A network without its last layer.

    Attributes:
        module: float images (B, 3, H, W), normalised -> features (B, `width`).
        width: number of features.
        dropped: prefixes of the state-dict keys that belonged to what was cut off.
    """

    module: nn.Module
    width: int
    dropped: tuple[str, ...]


def build_backbone(name: str, image_size: int, pretrained: bool) -> Backbone:
    """Build a torchvision network with random weights and cut it before its last layer.

    Args:
        name: as in `backbone_names()`.
        image_size: side in pixels of its input; a vision transformer is built for exactly this size.
        pretrained: whether ImageNet weights will be loaded: GoogLeNet and Inception then undo
            ImageNet's normalisation, as their weights expect.

    Raises:
        ConfigError: unknown name, or an image size that the network cannot take.
    """
    check_backbone(name)
    module = _build(name, image_size, pretrained)
    attribute = next(each for each in HEAD_NAMES if hasattr(module, each))
    head = getattr(module, attribute)
    if name.startswith("squeezenet"):
        # Its last layer is a convolution over the map; pooling first makes it a linear layer.
        width = head[1].in_channels
        module.classifier = nn.AdaptiveAvgPool2d(1)
        return Backbone(module, width, (f"{attribute}.",))
    if isinstance(head, nn.Linear):
        setattr(module, attribute, nn.Identity())
        return Backbone(module, head.in_features, (f"{attribute}.", *AUXILIARY))
    return Backbone(module, *_cut_sequential(head, attribute))


def _build(name: str, image_size: int, pretrained: bool) -> nn.Module:
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    elif name.startswith("maxvit"):
        options["input_size"] = (image_size, image_size)
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True, "transform_input": pretrained}
    try:
        module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        reason = str(error).rstrip("!.")
        raise ConfigError(
            f"model.backbone={name} cannot be built for data.image_size={image_size}: {reason}. "
            "Type data.image_size=224."
        ) from error
    return module


def _cut_sequential(head: nn.Sequential, attribute: str) -> tuple[int, tuple[str, ...]]:
    names = list(dict(head.named_children()))
    last = names[-1]
    width = getattr(head, last).in_features
    setattr(head, last, nn.Identity())
    # A dropout right before the cut belongs to the head, which has its own.
    if len(names) > 1 and isinstance(getattr(head, names[-2]), nn.Dropout):
        setattr(head, names[-2], nn.Identity())
    return width, (f"{attribute}.{last}.",)
