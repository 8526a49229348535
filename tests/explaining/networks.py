"""Bundles of small networks with random weights, made without an exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from bundles import LABELS, make_spec
from sagelight.bundle.spec import BundleSpec
from sagelight.explaining.rebuilt import probabilities
from sagelight.models.network import Network
from sagelight.models.settings import ModelSettings


class FromNetwork:
    """Answers as a predictor whose model.onnx agrees with a network."""

    def __init__(self, spec: BundleSpec, network: Network) -> None:
        self.spec, self.network, self.labels = spec, network, spec.labels

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return probabilities(self.network, pixels)


def small(backbone: str, size: int, head_norm: str = "layer", seed: int = 0) -> FromNetwork:
    """A network of three classes with random weights, and the bundle's spec that it would have.

    Its BatchNorm statistics are those of noise, or deep networks would answer everything alike.
    """
    spec = make_spec(LABELS, size, backbone=backbone)
    torch.manual_seed(seed)
    steps = spec.preprocessing
    settings = ModelSettings(backbone, "none", head_norm)
    network = Network(settings, len(LABELS), size, steps.mean, steps.std)
    settle(network, size)
    return FromNetwork(spec, network.eval())


def settle(network: Network, size: int) -> None:
    """Fill the BatchNorm statistics."""
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            network.train()(torch.from_numpy(np.stack([pixels_of(size, n) for n in range(4)])))


def save_weights(folder: Path, network: Network, **changes: Any) -> Path:
    """model.safetensors of a network in `folder`; `changes` replace tensors, None takes one away."""
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict() | changes
    kept = {name: tensor.contiguous() for name, tensor in state.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors")
    return folder


def pixels_of(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise (3, side, side)."""
    return np.random.default_rng(seed).integers(0, 256, (3, side, side), dtype=np.uint8)
