"""The network of a bundle with its gradients: model.onnx has none, model.safetensors has what they need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sagelight.bundle.spec import BundleSpec
from sagelight.errors import BundleError, ConfigError, first_line
from sagelight.models.network import Network
from sagelight.models.settings import ModelSettings
from sagelight.serving.predictor import Predictor

TOLERANCE = 1e-4
_COPY_AGAIN = "Copy the whole bundle again, or type method=occlusion, which asks model.onnx alone."


def rebuild_network(folder: Path, predictor: Predictor) -> Network:
    """The trained network of a bundle, proven to answer as its model.onnx does.

    bundle.json names the backbone; the head follows from the tensors. Nothing is unpickled.

    Args:
        folder: the bundle.
        predictor: of the same bundle.

    Returns:
        The network on the CPU, in evaluation mode; its parameters take gradients.

    Raises:
        BundleError: a bundle in int8, no model.safetensors, one that is damaged or of another network, or a network whose
            probabilities differ by more than 1e-4 from model.onnx.
    """
    if predictor.spec.precision != "fp32":
        raise BundleError(
            f"{folder} answers in {predictor.spec.precision}, and its trained network does not. "
            "Name the fp32 bundle that it was made from."
        )
    state = _read(folder / "model.safetensors")
    network = new_network(predictor.spec, layer_norm="head.0.weight" in state)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise BundleError(
            f"{folder / 'model.safetensors'} does not fit bundle.json ({what[:300]}). {_COPY_AGAIN}"
        ) from error
    _prove(network, predictor, folder)
    return network


def new_network(spec: BundleSpec, layer_norm: bool, seed: int = 0) -> Network:
    """A network as the bundle's, with the random weights that torchvision starts it with.

    Raises:
        BundleError: this torchvision cannot build it.
    """
    settings = ModelSettings(spec.backbone, "none", "layer" if layer_norm else "none", 0.0)
    steps = spec.preprocessing
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(settings, len(spec.labels), steps.image_size, steps.mean, steps.std)
    except ConfigError as error:
        raise BundleError(
            f"bundle.json names the network {spec.backbone} for images of {steps.image_size} pixels, which the "
            "installed torchvision cannot build. Install the one in its provenance, or type method=occlusion."
        ) from error
    return network.eval()


def probabilities(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (B, C) of pixels (B, 3, H, W), uint8."""
    with torch.no_grad():
        rows: NDArray[np.float32] = network(torch.from_numpy(pixels)).softmax(dim=1).numpy()
    return rows


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BundleError(f"{path} is missing, and Grad-CAM needs it. {_COPY_AGAIN}")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} is damaged ({first_line(error)}). {_COPY_AGAIN}") from error


def _prove(network: Network, predictor: Predictor, folder: Path) -> None:
    pixels = _probes(predictor.spec.preprocessing.image_size)
    served = predictor.probabilities(pixels)
    difference = _difference(network, pixels, served)
    if hasattr(network.backbone, "transform_input"):
        # GoogLeNet and Inception undo ImageNet's normalisation where they began with its weights; no tensor says so.
        network.backbone.transform_input = True  # type: ignore[assignment]
        undone = _difference(network, pixels, served)
        network.backbone.transform_input = undone < difference  # type: ignore[assignment]
        difference = min(difference, undone)
    if not difference <= TOLERANCE:
        raise BundleError(
            f"{folder / 'model.safetensors'} does not answer as model.onnx does: probabilities differ by "
            f"{difference:.1e} (limit {TOLERANCE:g}). They come from different trainings. {_COPY_AGAIN}"
        )


def _difference(network: Network, pixels: NDArray[np.uint8], served: NDArray[np.float32]) -> float:
    return float(np.abs(probabilities(network, pixels) - served).max())


def _probes(side: int) -> NDArray[np.uint8]:
    """Noise in single pixels and in broad patches, which light and dark features see differently."""
    random = np.random.default_rng(0)
    fine = random.integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    coarse = random.integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    places = np.arange(side) * 4 // side
    return np.concatenate([fine, coarse[:, :, places][..., places]])
