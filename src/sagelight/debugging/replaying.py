"""Looks again at a loss that was not finite: in which weight or layer did it begin?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sagelight.errors import DataError, first_line
from sagelight.models.network import Network
from sagelight.models.settings import ModelSettings


@dataclass(frozen=True)
class Replay:
    """What a batch did.

    Attributes:
        epoch, batch: where it was, from 1.
        files: of the batch, below data.root.
        loss: as training met it, and plain cross-entropy now.
        weights: names of those that hold numbers that are not finite.
        layer: the first whose output holds such, with the largest magnitude of its input; empty where there is none.
    """

    epoch: int
    batch: int
    files: list[str]
    loss: tuple[float, float]
    weights: list[str]
    layer: str

    def lines(self) -> list[str]:
        """What a person reads."""
        then, now = self.loss
        lines = [
            f"batch {self.batch} of epoch {self.epoch}: loss {then} in training, {now:.6g} now",
            f"photos: {', '.join(self.files)}",
        ]
        if self.weights:
            lines.append(f"weights that are not finite: {', '.join(self.weights)}")
        if self.layer:
            lines.append(f"the first layer whose output is not finite: {self.layer}")
        if not self.weights and not self.layer:
            lines.append(
                "every weight and output is finite now: the photos were mixed in training, or 16-bit arithmetic "
                "overflowed. Type trainer.precision=32-true."
            )
        return lines


@torch.no_grad()
def replay(path: Path) -> Replay:
    """Run the batch of a replay file through the weights that met it, as in training.

    Raises:
        DataError: there is no such file, or it is none of ours.
    """
    try:
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return _looked_at(kept)
    except Exception as error:  # A damaged archive can raise anything.
        raise DataError(
            f"replay={path} is no replay that can be read ({first_line(error)}). "
            "Type the replay-0.pt in a run's debugger/."
        ) from error


def _looked_at(kept: dict[str, Any]) -> Replay:
    network, targets = _network(kept), kept["targets"]
    found: list[str] = []
    for name, module in network.named_modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(_looking(name, module, found))
    network.train()
    scores = network(kept["images"])
    return Replay(
        epoch=int(kept["epoch"]) + 1,
        batch=int(kept["batch"]) + 1,
        files=list(kept["files"]),
        loss=(float(kept["loss"]), float(nn.functional.cross_entropy(scores, targets))),
        weights=[
            n for n, value in kept["network"].items() if not bool(torch.isfinite(value).all())
        ],
        layer=found[0] if found else "",
    )


def _network(kept: dict[str, Any]) -> Network:
    settings = ModelSettings(backbone=kept["backbone"], weights="none", head_norm=kept["head_norm"])
    classes = len(kept["network"]["head.2.bias"])
    mean, std = tuple(kept["mean"]), tuple(kept["std"])
    network = Network(settings, classes, int(kept["image_size"]), mean, std)
    network.load_state_dict(kept["network"])
    network.freeze(int(kept["frozen"]))
    return network


def _looking(name: str, module: nn.Module, found: list[str]) -> Any:
    def look(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            largest = max(
                (float(i.abs().max()) for i in inputs if isinstance(i, Tensor)), default=0.0
            )
            found.append(f"{name} ({type(module).__name__}), given numbers up to {largest:.3g}")

    return look
