"""No photos and no trainer: the steps of a training on numbers that lie on the device, and the device's matrix rate.

What any of the others can at best reach: channels_last, a fused optimizer, and bf16 where sagelight takes it.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

import torch
from interface import Clock, Task, serve
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision_loop import loaded_resnet18

from sagelight.training.machine import probe


class PureStep:
    does = "no photos and no trainer: channels_last, fused AdamW, bf16 where sagelight takes it"

    def pipeline(self, task: Task, clock: Clock) -> int:
        raise NotImplementedError("there is nothing to load")

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        step = _Step(task)
        step()
        _wait(task.device)
        clock.start()
        steps = task.epochs * (sum(1 for _ in (task.root / "train").glob("*/*")) // task.batch)
        for _ in range(steps):
            step()
        _wait(task.device)
        clock.stop()
        clock.notes = {
            "operations_a_photo": step.flops / task.batch,
            "matrix_rate": _matrix_rate(step.dtype, task.device),
        }
        return steps * task.batch


class _Step:
    def __init__(self, task: Task) -> None:
        device = torch.device(task.device)
        model = loaded_resnet18(task)
        model.fc = nn.Linear(model.fc.in_features, len(task.classes))
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        images = torch.randn(task.batch, 3, task.side, task.side, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.targets = torch.randint(len(task.classes), (task.batch,), device=device)
        self.device, self.dtype = device, torch.bfloat16 if probe().fast_bf16 else torch.float32
        with FlopCounterMode(display=False) as counter:
            self()
        self.flops = counter.get_total_flops()

    def __call__(self) -> None:
        with self._precision():
            loss: Tensor = nn.functional.cross_entropy(self.model(self.images), self.targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _precision(self) -> AbstractContextManager[object]:
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def _matrix_rate(dtype: torch.dtype, device: str, seconds: float = 1.0) -> float:
    """Operations a second of the best of many products of square matrices."""
    side = 8192 if device == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        for _ in range(3):
            left @ right
        _wait(device)
        best = min(best, (time.perf_counter() - began) / 3)
    return 2.0 * side**3 / best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    serve(PureStep())
