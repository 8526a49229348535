"""Heads as stacked tensors, the first dimension counting heads, and their optimizers with a rate for each.

The arithmetic is that of torch.optim's AdamW and SGD, element by element; only the rates, decays and momenta are
vectors over the heads. All heads of a stack have taken the same number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sagelight.models.settings import OptimizerSettings

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
# Weight decay is for matrices; never for biases and norms.
DECAYED = "weight"


@dataclass
class Heads:
    """`Network.head` of many networks.

    Attributes:
        tensors: `weight` (heads, classes, width) and `bias` (heads, classes), and where heads normalise `scale` and
            `shift` (heads, width).
    """

    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, modules: Sequence[nn.Sequential], device: torch.device) -> Heads:
        """Stack heads; they stay as they are."""
        linear = [cast("nn.Linear", module[2]) for module in modules]
        found: dict[str, list[Tensor]] = {
            "weight": [each.weight for each in linear],
            "bias": [each.bias for each in linear],
        }
        if isinstance(modules[0][0], nn.LayerNorm):
            norms = [cast("nn.LayerNorm", module[0]) for module in modules]
            found |= {"scale": [n.weight for n in norms], "shift": [n.bias for n in norms]}
        stacked = {name: torch.stack([t.detach() for t in each]) for name, each in found.items()}
        return cls({name: t.to(device).requires_grad_() for name, t in stacked.items()})

    def keep(self, places: Tensor) -> None:
        """Let go of all heads but these."""
        self.tensors = {n: t.detach()[places].requires_grad_() for n, t in self.tensors.items()}

    def shared(self, inputs: Tensor) -> Tensor:
        """Scores (heads, B, classes) of the same normalised inputs (B, width) for every head, without dropout.

        One matrix product: scale and shift are folded into weight and bias.
        """
        weight, bias = self.tensors["weight"], self.tensors["bias"]
        if "scale" in self.tensors:
            bias = bias + torch.bmm(weight, self.tensors["shift"].unsqueeze(-1)).squeeze(-1)
            weight = weight * self.tensors["scale"].unsqueeze(1)
        heads, classes, width = weight.shape
        scores = F.linear(inputs, weight.reshape(heads * classes, width), bias.reshape(-1))
        return scores.view(len(inputs), heads, classes).transpose(0, 1)

    def scaled(self, inputs: Tensor) -> Tensor:
        """Normalised inputs (B, width) or (heads, B, width) as each head's linear layer takes them."""
        if "scale" in self.tensors:
            scale, shift = self.tensors["scale"], self.tensors["shift"]
            return torch.addcmul(shift.unsqueeze(1), inputs, scale.unsqueeze(1))
        return inputs.expand(len(self.tensors["weight"]), *inputs.shape[-2:])

    def linear(self, inputs: Tensor) -> Tensor:
        """Scores (heads, B, classes) of inputs (heads, B, width)."""
        weight, bias = self.tensors["weight"], self.tensors["bias"]
        return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))


class StackedOptimizer:
    """AdamW or SGD with Nesterov momentum, each head with its own settings."""

    def __init__(self, heads: Heads, settings: Sequence[OptimizerSettings]) -> None:
        self._heads = heads
        self._adam = settings[0].name == "adamw"
        device = heads.tensors["weight"].device
        self._decay = torch.tensor([each.weight_decay for each in settings], device=device)
        self._momentum = torch.tensor([each.momentum for each in settings], device=device)
        self._state: list[dict[str, Tensor]] = [
            {name: torch.zeros_like(t) for name, t in heads.tensors.items()}
            for _ in range(2 if self._adam else 1)
        ]
        self._steps = 0

    @torch.no_grad()
    def step(self, rates: Tensor) -> None:
        """Move every head by its gradient at its own rate (heads,), and forget the gradients."""
        self._steps += 1
        for name, tensor in self._heads.tensors.items():
            assert tensor.grad is not None
            vectors = (rates, self._decay * (name == DECAYED), self._momentum)
            rate, decay, momentum = (v.view(-1, *[1] * (tensor.ndim - 1)) for v in vectors)
            if self._adam:
                self._adam_step(name, tensor, rate, decay)
            else:
                self._sgd_step(name, tensor, rate, decay, momentum)
            tensor.grad = None

    def keep(self, places: Tensor) -> None:
        """Let go of all heads but these; call it with `Heads.keep`."""
        self._decay, self._momentum = self._decay[places], self._momentum[places]
        self._state = [{n: t[places] for n, t in each.items()} for each in self._state]

    def _adam_step(self, name: str, tensor: Tensor, rate: Tensor, decay: Tensor) -> None:
        mean, square = self._state[0][name], self._state[1][name]
        gradient = cast("Tensor", tensor.grad)
        tensor.mul_(1 - rate * decay)
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        first, second = 1 - BETA1**self._steps, 1 - BETA2**self._steps
        spread = square.sqrt().div_(second**0.5).add_(EPSILON)
        tensor.sub_(spread.reciprocal_().mul_(mean).mul_(rate / first))

    def _sgd_step(
        self, name: str, tensor: Tensor, rate: Tensor, decay: Tensor, momentum: Tensor
    ) -> None:
        gradient = cast("Tensor", tensor.grad) + decay * tensor
        memory = self._state[0][name]
        memory.mul_(momentum).add_(gradient)
        tensor.sub_(rate * (gradient + momentum * memory))


class StackedAverage:
    """Exponential moving averages of heads' weights, as a training's callback has them; decay 0 is the weights."""

    def __init__(self, heads: Heads, decays: Sequence[float]) -> None:
        self._trained = heads
        self._decays = torch.tensor(decays, device=heads.tensors["weight"].device)
        self.heads = Heads({name: t.detach().clone() for name, t in heads.tensors.items()})
        self._started = False

    @torch.no_grad()
    def update(self) -> None:
        """Take a step's weights in; the first ones are copied."""
        for name, own in self.heads.tensors.items():
            share = (1 - self._decays * self._started).view(-1, *[1] * (own.ndim - 1))
            own.lerp_(self._trained.tensors[name], share)
        self._started = True

    def keep(self, places: Tensor) -> None:
        """Let go of all heads but these."""
        self._decays = self._decays[places]
        self.heads.tensors = {n: t[places] for n, t in self.heads.tensors.items()}
