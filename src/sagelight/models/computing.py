"""What computes a backbone: itself, or where nothing in it changes a copy with less to do; compiled where that is asked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Tracer
from torch.nn.utils.fusion import fuse_conv_bn_eval

Pair = tuple[str, str]


class Computing:
    """Runs a backbone. Parameters, names and checkpoints are the backbone's own, whatever computes.

    Whoever watches a module of it by a hook, or exports it, meets the backbone itself.

    Attributes:
        compiled: whether torch.compile makes the kernels, at the first batch of each shape.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.compiled = False
        self._backbone = backbone
        self._modules = list(backbone.modules())
        self._folding = Folding(backbone)
        self._compilation: tuple[nn.Module, Callable[[Tensor], Tensor]] | None = None

    def __call__(self, images: Tensor, fixed: bool) -> Tensor:
        """Normalised images to what the backbone gives for them.

        Args:
            fixed: all of the backbone is in eval mode, and no gradient is wanted of it.
        """
        if torch.compiler.is_exporting() or any(_watched(module) for module in self._modules):
            return cast("Tensor", self._backbone(images))
        module = self._folding.module() if fixed else self._backbone
        return self._compile(module)(images) if self.compiled else cast("Tensor", module(images))

    def _compile(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        if self._compilation is None or self._compilation[0] is not module:
            self._compilation = module, cast("Callable[[Tensor], Tensor]", torch.compile(module))
        return self._compilation[1]


class Folding:
    """A copy of a backbone in eval mode, with each BatchNorm folded into the convolution before it where it may be.

    It computes the same, but for rounding (relative 1e-5), in fewer passes over the maps. Weights into which nothing
    is folded are the backbone's own tensors. The copy is made anew when one of the folded ones has changed.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._backbone = backbone
        self._pairs: list[Pair] | None = None
        self._tensors: list[dict[str, Any]] = []
        self._state: list[tuple[int, int, torch.device]] = []
        self._folded: nn.Module | None = None

    def module(self) -> nn.Module:
        """What to compute with; the backbone itself where there is nothing to fold."""
        if self._pairs is None:
            self._pairs = foldable(self._backbone)
            found = [self._backbone.get_submodule(name) for pair in self._pairs for name in pair]
            self._tensors = [
                each for module in found for each in (module._parameters, module._buffers)
            ]
        if not self._pairs:
            return self._backbone
        state = self._now()
        if self._folded is None or state != self._state:
            self._folded, self._state = fold(self._backbone, self._pairs), state
        return self._folded

    def _now(self) -> list[tuple[int, int, torch.device]]:
        """Which tensors there are, where they lie, and how often each has been written to."""
        return [
            (id(tensor), tensor._version, tensor.device)
            for tensors in self._tensors
            for tensor in tensors.values()
            if tensor is not None
        ]


def foldable(backbone: nn.Module) -> list[Pair]:
    """Names of convolutions and the BatchNorms that alone read them; none where the forward pass cannot be traced."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return []
    try:
        graph = Tracer().trace(backbone)
    except Exception:  # A forward pass that depends on its values can fail in any way.
        return []
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    return [
        pair for pair in _pairs(backbone, graph) if all(calls.count(name) == 1 for name in pair)
    ]


def _pairs(backbone: nn.Module, graph: Graph) -> list[Pair]:
    found: list[Pair] = []
    for node in graph.nodes:
        norm = _called(backbone, node)
        if not isinstance(norm, nn.BatchNorm2d) or not norm.track_running_stats:
            continue
        before = node.args[0]
        if isinstance(_called(backbone, before), nn.Conv2d) and len(before.users) == 1:
            found.append((before.target, node.target))
    return found


def _called(backbone: nn.Module, node: Any) -> nn.Module | None:
    called = isinstance(node, Node) and node.op == "call_module"
    return backbone.get_submodule(str(node.target)) if called else None


def fold(backbone: nn.Module, pairs: list[Pair]) -> nn.Module:
    """A copy of a backbone in eval mode without the BatchNorms of `pairs`; all other tensors are shared."""
    shared: dict[int, Any] = {
        id(tensor): tensor for tensor in (*backbone.parameters(), *backbone.buffers())
    }
    folded = copy.deepcopy(backbone, shared)
    # Weights made in inference mode could not be used outside of it.
    with torch.inference_mode(False), torch.no_grad():
        for convolution, norm in pairs:
            conv, bn = folded.get_submodule(convolution), folded.get_submodule(norm)
            fused = fuse_conv_bn_eval(cast("nn.Conv2d", conv), cast("nn.BatchNorm2d", bn))
            folded.set_submodule(convolution, fused.requires_grad_(False))
            folded.set_submodule(norm, nn.Identity())
    return folded


def _watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
