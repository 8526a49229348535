"""From a trained network to model.onnx and model.safetensors, and the proof that they agree."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from sagelight.bundle.spec import INPUT, OUTPUT
from sagelight.models.network import Network

RELATIVE_TOLERANCE = 1e-4
STACK_TRACE = "pkg.torch.onnx.stack_trace"


class ServedNetwork(nn.Module):
    """uint8 (B, 3, H, W) to probabilities (B, classes): scaling, normalising and softmax are inside."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)
        return scores.softmax(dim=1)


def write_model(network: Network, image_size: int, folder: Path) -> None:
    """Write `model.onnx` (dynamic batch, fp32) and `model.safetensors` of a network on the CPU."""
    network.eval()
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # Written here, a full disk is an OSError.
    (folder / "model.safetensors").write_bytes(save(weights))
    example = torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8)
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            ServedNetwork(network).eval(),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph:
            # Where the code lies on this machine is nobody's business, and another graph on another machine.
            node.metadata_props.pop(STACK_TRACE, None)
        program.save(folder / "model.onnx", external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its own deprecations and progress; neither concerns the person."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Parity:
    """Compares the served probabilities with the trained network's, batch by batch."""

    def __init__(self) -> None:
        self.photos = 0
        self.largest_difference = 0.0
        self.other_label = 0

    def add(self, trained: NDArray[np.float32], served: NDArray[np.float32]) -> None:
        """Take in one batch of probabilities (B, C) from each side."""
        difference = np.abs(trained - served).max(axis=1) / trained.max(axis=1)
        self.photos += len(trained)
        self.largest_difference = max(self.largest_difference, float(difference.max()))
        self.other_label += int((trained.argmax(axis=1) != served.argmax(axis=1)).sum())

    def check(self) -> None:
        """Refuse to call a bundle done whose model answers otherwise than the trained network.

        Raises:
            RuntimeError: a relative difference above 1e-4, or another label on any photo.
        """
        if self.largest_difference > RELATIVE_TOLERANCE or self.other_label:
            raise RuntimeError(
                f"model.onnx disagrees with the trained network on {self.photos} validation photos: "
                f"relative difference {self.largest_difference:.1e} (limit {RELATIVE_TOLERANCE:g}), "
                f"{self.other_label} other labels"
            )
