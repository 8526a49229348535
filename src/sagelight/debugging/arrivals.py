"""Losses on a GPU: each is looked at when it has arrived, so that no step waits for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sagelight.data.dataset import Batch

# Steps that may be under way before the oldest is waited for; each keeps its batch in the GPU's memory.
MOST = 4


@dataclass(frozen=True)
class Step:
    """A training step: what it was given, where in the training it was, and its loss, as it arrives."""

    batch: Batch
    number: int
    epoch: int
    loss: Tensor
    sent: Any = None

    @property
    def arrived(self) -> bool:
        return self.sent is None or bool(self.sent.query())

    def wait(self) -> None:
        if self.sent is not None:
            self.sent.synchronize()


class Arrivals:
    """Steps whose losses are on their way.

    From the first loss on that is not finite, the optimizer leaves the weights as they are, on the device and without
    asking anybody: fused ones heed `found_inf`, which is how PyTorch's GradScaler has them skip a step.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self._bad = torch.zeros((), device=device)
        self._steps: deque[Step] = deque()
        optimizer.found_inf = self._bad  # type: ignore[attr-defined]

    def send(self, batch: Batch, number: int, epoch: int, loss: Tensor) -> None:
        """Let the loss of a step travel; its weights are safe from now on."""
        torch.maximum(self._bad, (~torch.isfinite(loss)).to(self._bad.dtype), out=self._bad)
        if loss.device.type != "cuda":
            self._steps.append(Step(batch, number, epoch, loss))
            return
        landing = torch.empty((), dtype=loss.dtype, pin_memory=True)
        landing.copy_(loss, non_blocking=True)
        sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        sent.record()
        self._steps.append(Step(batch, number, epoch, landing, sent))

    def arrived(self, every: bool = False) -> Iterator[Step]:
        """The steps whose losses are there, oldest first; with `every`, those under way too, which are waited for."""
        while self._steps and (every or len(self._steps) > MOST or self._steps[0].arrived):
            step = self._steps.popleft()
            step.wait()
            yield step


def can_be_late(optimizer: Optimizer, device: torch.device, precision: str) -> bool:
    """Whether a loss may be looked at after its step: where waiting costs, and the weights are safe meanwhile."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return device.type == "cuda" and fused and precision != "16-mixed"
