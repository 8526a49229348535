"""What a network does in one training step: activations, gradients, weights and how far they move.

Names are smdebug's: `<class of the network>_<parameter>`, `gradient/...`, `<module>_input_0`, `<module>_output_0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.hooks import RemovableHandle

from sagelight.debugging.hook_config import Collection
from sagelight.debugging.trial import reduced_name

_RELUS = (nn.ReLU, nn.ReLU6)
_SATURATING = {nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
# Quantiles of a channel's inputs, and from how many of them they are taken.
_RANGE = (0.01, 0.99)
_MOST_VALUES = 4096


@dataclass
class Captured:
    """Tensors of one step by the names under which a trial keeps them, and which collections they belong to."""

    due: Sequence[Collection]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)

    def wants(self, name: str, also: str = "") -> bool:
        """Whether any collection that is due takes a tensor of that name, or is called `also`."""
        return any(self._takes(each, name, also) for each in self.due)

    def keep(self, name: str, tensor: Tensor, also: str = "") -> None:
        """Keep a tensor as the collections that take it ask: whole, or its reductions."""
        for collection in self.due:
            if not self._takes(collection, name, also):
                continue
            self.members.setdefault(collection.name, set()).add(name)
            if not collection.reductions:
                self.arrays[name] = _array(tensor)
            for reduction in collection.reductions:
                stored = reduced_name(name, reduction)
                if stored not in self.arrays:
                    self.arrays[stored] = _array(reduce(tensor, reduction))

    @staticmethod
    def _takes(collection: Collection, name: str, also: str) -> bool:
        return collection.name == also or collection.takes(name)


class Attached:
    """Hooks on a network for the length of one step; without them the network is as if nobody had looked."""

    def __init__(self, network: nn.Module, captured: Captured) -> None:
        self.scores: Tensor | None = None
        self._network = network
        self._captured = captured
        self._before: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}
        self._handles: list[RemovableHandle] = []
        self._attach()

    def detach(self) -> None:
        """Take every hook off again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def look_before_step(self) -> None:
        """Keep weights and gradients as the optimizer finds them."""
        captured = self._captured
        for name, parameter in _trained(self._network):
            kind = "biases" if name.endswith("bias") else "weights"
            captured.keep(name, parameter.detach(), kind)
            if parameter.grad is not None and captured.wants(f"gradient/{name}"):
                captured.keep(f"gradient/{name}", parameter.grad)
            if captured.wants(f"update/{name}"):
                self._before[name] = parameter.detach().clone()

    def look_after_step(self) -> None:
        """Keep how far the optimizer has moved the weights."""
        for name, parameter in _trained(self._network):
            before = self._before.pop(name, None)
            if before is not None:
                self._captured.keep(f"update/{name}", parameter.detach() - before)

    def _attach(self) -> None:
        self._handles.append(self._network.register_forward_hook(self._root))
        backbone = getattr(self._network, "backbone", None)
        if backbone is not None and self._captured.wants("backbone_input_0_means"):
            self._handles.append(backbone.register_forward_pre_hook(self._images))
        for path, module in self._network.named_modules():
            if not path:
                continue
            relu = isinstance(module, _RELUS)
            if self._captured.wants(f"{path}_input_0", "relu_input" if relu else ""):
                self._handles.append(module.register_forward_pre_hook(self._input(path, relu)))
            if self._captured.wants(f"{path}_output_0"):
                self._handles.append(module.register_forward_hook(self._output(path)))
            if relu and self._captured.wants("", "relu_output"):
                self._handles.append(module.register_forward_hook(self._active(path)))
            kind = _SATURATING.get(type(module))
            if kind is not None and self._captured.wants("", "saturation"):
                self._handles.append(module.register_forward_pre_hook(self._range(path, kind)))

    def _root(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.scores = output.detach()

    def _images(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        means = inputs[0].detach().float().mean(dim=(2, 3), keepdim=True)
        self._captured.keep("backbone_input_0_means", means)

    def _input(self, path: str, relu: bool) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            name = f"{path}_input_{self._call(path, 'input')}"
            self._captured.keep(name, inputs[0].detach(), "relu_input" if relu else "")

        return hook

    def _output(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                name = f"{path}_output_{self._call(path, 'output')}"
                self._captured.keep(name, output.detach())

        return hook

    def _active(self, path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            name = f"{path}_output_{self._call(path, 'active')}_active"
            self._captured.keep(
                name, _by_channel(output.detach() > 0).float().mean(1).half(), "relu_output"
            )

        return hook

    def _range(self, path: str, kind: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = _by_channel(inputs[0].detach()).float()
            values = values[:, :: max(1, math.ceil(values.shape[1] / _MOST_VALUES))]
            levels = torch.tensor(_RANGE, device=values.device)
            name = f"{path}_{kind}_input_{self._call(path, 'range')}_range"
            self._captured.keep(name, torch.quantile(values, levels, dim=1), "saturation")

        return hook

    def _call(self, path: str, what: str) -> int:
        key = f"{path} {what}"
        self._calls[key] = self._calls.get(key, -1) + 1
        return self._calls[key]


def reduce(tensor: Tensor, reduction: str) -> Tensor:
    """A reduction by smdebug's name, where the tensor lies, as float32 (a scalar).

    Raises:
        KeyError: there is no such reduction.
    """
    values = tensor.detach().float()
    # The same without a tensor of absolute values in between.
    if reduction == "abs_mean":
        return _norm(values, 1) / values.numel()
    if reduction == "abs_max":
        return _norm(values, math.inf)
    if reduction.startswith("abs_"):
        values = values.abs()
    return _REDUCTIONS[reduction.removeprefix("abs_")](values)


def _norm(values: Tensor, order: float) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(values, order)
    return found


def _trained(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """What trains and lies whole in this process; of the rest it would have a part only."""
    root = type(network).__name__
    return [
        (f"{root}_{name}", parameter)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not isinstance(parameter, DTensor)
    ]


def _by_channel(values: Tensor) -> Tensor:
    """(B, C, ...) to (C, values of the channel); of a transformer's (B, tokens, C) the last is the channel."""
    channel = 2 if values.ndim == 3 else 1
    return values.movedim(channel, 0).flatten(1)


def _array(tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    # A copy: the optimizer, and activations in place, write over what they read.
    return np.array(tensor.detach().cpu().numpy())


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "min": torch.min,
    "max": torch.max,
    "mean": torch.mean,
    "std": lambda values: values.std(correction=0),
    "variance": lambda values: values.var(correction=0),
    "sum": torch.sum,
    "prod": torch.prod,
    "l1": lambda values: _norm(values, 1),
    "l2": lambda values: _norm(values, 2),
}
