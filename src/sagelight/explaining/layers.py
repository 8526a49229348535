"""Where in a network Grad-CAM looks: the last map of the picture, found by running the network once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sagelight.errors import SagelightError

Layout = Literal["channels first", "channels last", "tokens"]
# A map of fewer cells a side says no more than "somewhere".
LEAST_SIDE = 4
POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)


@dataclass(frozen=True)
class MapLayer:
    """A module whose output is a map of the picture.

    Attributes:
        name: its dotted name in the backbone.
        side: cells of the map along each side.
        layout: `channels first` (B, C, side, side), `channels last` (B, side, side, C), or `tokens`
            (B, `extra` + side * side, C).
        extra: tokens before those of the picture, such as the class token.
    """

    name: str
    side: int
    layout: Layout
    extra: int = 0

    def to_map(self, output: Tensor) -> Tensor:
        """The module's output as (B, C, side, side)."""
        if self.layout == "channels first":
            return output
        if self.layout == "channels last":
            return output.permute(0, 3, 1, 2)
        patches = output[:, self.extra :]
        return patches.reshape(len(output), self.side, self.side, -1).permute(0, 3, 1, 2)

    def from_map(self, picture: Tensor, output: Tensor) -> Tensor:
        """`to_map` undone; what was no part of the map is taken from `output`."""
        if self.layout == "channels first":
            return picture
        picture = picture.permute(0, 2, 3, 1)
        if self.layout == "channels last":
            return picture
        return torch.cat([output[:, : self.extra], picture.flatten(1, 2)], dim=1)


@dataclass(frozen=True)
class _Output:
    name: str
    tensor: Tensor
    pooled: bool


def find_map_layer(backbone: nn.Module, name: str, image_size: int) -> MapLayer:
    """The last module of a backbone that gives a map of at least 4 x 4 cells; the largest map where all are smaller.

    What pooling gives is passed over. Of a vision transformer it is what the last attention reads: after it only the
    class token counts.

    Args:
        name: torchvision's name of the network, for the message.

    Raises:
        SagelightError: the network gives no map of more than one cell.
    """
    outputs, read = _run(backbone, image_size)
    if read is not None:
        found = _tokens(outputs, read)
    else:
        trunk = set(_trunk("", backbone))
        found = _maps([each for each in outputs if each.name in trunk])
    if not found:
        raise SagelightError(
            f"Grad-CAM finds no layer of {name} that gives a map of the picture for images of {image_size} "
            "pixels. Type method=occlusion, which looks at no layer."
        )
    large = [layer for layer in found if layer.side >= LEAST_SIDE]
    return large[-1] if large else max(reversed(found), key=lambda layer: layer.side)


def _trunk(prefix: str, module: nn.Module) -> Iterator[str]:
    """The modules that all of the picture passes one after the other; inside a block there are ways around."""
    for name, child in module.named_children():
        yield prefix + name
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from _trunk(f"{prefix}{name}.", child)


def _run(backbone: nn.Module, image_size: int) -> tuple[list[_Output], Tensor | None]:
    """What each module gave, in the order of completion, and what the last self-attention read."""
    outputs: list[_Output] = []
    read: list[Tensor] = []
    handles = []
    for name, module in backbone.named_modules():
        if name:
            handles.append(module.register_forward_hook(_recorder(name, outputs)))
        if isinstance(module, nn.MultiheadAttention):
            handles.append(module.register_forward_pre_hook(lambda _, args: read.append(args[0])))
    device = next(backbone.parameters()).device
    try:
        with torch.no_grad():
            backbone(torch.zeros(2, 3, image_size, image_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return _called_once(outputs), read[-1] if read else None


def _recorder(name: str, outputs: list[_Output]) -> Callable[[nn.Module, Any, Any], None]:
    def record(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            pooled = isinstance(module, POOLING) or any(
                each.pooled and each.tensor is output for each in outputs[-2:]
            )
            outputs.append(_Output(name, output, pooled))

    return record


def _called_once(outputs: list[_Output]) -> list[_Output]:
    calls = Counter(each.name for each in outputs)
    return [each for each in outputs if calls[each.name] == 1]


def _maps(outputs: list[_Output]) -> list[MapLayer]:
    found = []
    for each in outputs:
        shape = each.tensor.shape
        if len(shape) != 4 or each.pooled:
            continue
        if shape[2] == shape[3] > 1:
            found.append(MapLayer(each.name, shape[2], "channels first"))
        elif shape[1] == shape[2] > 1:
            found.append(MapLayer(each.name, shape[1], "channels last"))
    return found


def _tokens(outputs: list[_Output], read: Tensor) -> list[MapLayer]:
    grids = [layer.side for layer in _maps(outputs) if layer.layout == "channels first"]
    givers = [each.name for each in outputs if each.tensor is read]
    if not grids or not givers:
        return []
    extra = read.shape[1] - grids[-1] ** 2
    return [MapLayer(givers[-1], grids[-1], "tokens", extra)] if extra >= 0 else []
