"""Grad-CAM finds a map in every family of networks, and computes what its paper says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from explaining.networks import FromNetwork, pixels_of, save_weights, small
from models.test_network import FAMILIES
from sagelight.errors import BundleError, SagelightError
from sagelight.explaining.gradcam import GradCam
from sagelight.explaining.layers import MapLayer, find_map_layer
from sagelight.explaining.methods import methods_of
from sagelight.explaining.rebuilt import rebuild_network
from sagelight.explaining.where import rank_correlation
from sagelight.models.backbones import build_backbone

# At the size that each is trained with; at these the last map is that before the pooling.
LAST_MAPS = {
    "alexnet": ("features.11", 13),
    "convnext_tiny": ("features", 7),
    "densenet121": ("features", 7),
    "efficientnet_b0": ("features", 7),
    "googlenet": ("inception5b", 7),
    "inception_v3": ("Mixed_7c", 5),
    "maxvit_t": ("blocks.3", 7),
    "mnasnet0_5": ("layers", 7),
    "mobilenet_v2": ("features", 7),
    "mobilenet_v3_small": ("features", 7),
    "regnet_x_400mf": ("trunk_output", 7),
    "resnet18": ("layer4", 7),
    "shufflenet_v2_x0_5": ("conv5", 7),
    "squeezenet1_1": ("features", 13),
    "swin_t": ("permute", 7),
    "vgg11": ("features.19", 14),
    "vit_b_32": ("encoder.layers.encoder_layer_11.ln_1", 7),
}
# Of each layout one, and what changes its output in place after the map (DenseNet).
BY_HAND = {"resnet18": 64, "densenet121": 64, "swin_t": 32, "vit_b_32": 128}


def network_without_memory(name: str, size: int) -> nn.Module:
    # RegNet computes its widths with tensors, which need a real device.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return build_backbone(name, size, False).module.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_map_of_every_family_is_found(name: str) -> None:
    layer = find_map_layer(network_without_memory(name, 224), name, 224)
    assert (layer.name, layer.side) == LAST_MAPS[name]


@pytest.mark.parametrize("name", ["alexnet", "maxvit_t", "vgg11"])
def test_small_images_are_explained_by_the_last_map_of_four_cells(name: str) -> None:
    layer = find_map_layer(network_without_memory(name, FAMILIES[name]), name, FAMILIES[name])
    assert layer.side >= 4


@pytest.mark.parametrize("name", sorted({*FAMILIES} - {"alexnet", "maxvit_t", "vgg11", *BY_HAND}))
def test_every_family_is_explained(name: str) -> None:
    size = FAMILIES[name]
    method = GradCam(small(name, size).network, name, size)
    assert method.layer.side >= 4
    check_maps(method.evidence(pixels_of(size), [0, 2]), size)


def check_maps(maps: np.ndarray, size: int) -> None:
    first, second = maps
    assert first.shape == (size, size)
    assert np.isfinite(first).all()
    assert first.std() > 0
    assert rank_correlation(first, second) < 0.99


@pytest.mark.parametrize("name", BY_HAND)
def test_the_map_is_that_of_the_paper(name: str) -> None:
    size = BY_HAND[name]
    made = small(name, size)
    method = GradCam(made.network, name, size)
    pixels = pixels_of(size)
    before = made.probabilities(pixels[None])
    found = method.evidence(pixels, [1, 2])
    check_maps(found, size)
    assert made.probabilities(pixels[None]) == pytest.approx(before, abs=1e-6)
    expected = by_hand(made, method.layer, size, 1)
    assert found[0] == pytest.approx(expected, abs=1e-3 * float(np.abs(expected).max()))


def by_hand(made: FromNetwork, layer: MapLayer, size: int, target: int) -> np.ndarray:
    """The channels of the map, each times the mean gradient of the class's score, summed."""
    kept = {}

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        kept["map"] = layer.to_map(output)
        kept["map"].retain_grad()
        # What comes next may change its input in place.
        return layer.from_map(kept["map"], output).clone()

    made.network.backbone.get_submodule(layer.name).register_forward_hook(keep)
    made.network(torch.from_numpy(pixels_of(size))[None])[0, target].backward()
    channels = kept["map"]
    assert channels.grad is not None
    weights = channels.grad.mean(dim=(2, 3), keepdim=True)
    cam = (weights * channels).sum(dim=1, keepdim=True).detach()
    return nn.functional.interpolate(cam, (size, size), mode="bilinear")[0, 0].numpy()


def test_a_network_without_a_map_is_refused_by_name() -> None:
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    with pytest.raises(SagelightError, match=r"no layer of flat_net .* Type method=occlusion"):
        find_map_layer(flat, "flat_net", 32)


@pytest.mark.parametrize("head_norm", ["layer", "none"])
def test_a_bundles_network_is_rebuilt_from_its_tensors(tmp_path: Path, head_norm: str) -> None:
    made = small("resnet18", 32, head_norm, seed=3)
    folder = save_weights(tmp_path, made.network)
    network = rebuild_network(folder, made)  # type: ignore[arg-type]
    assert not network.training
    assert isinstance(network.head[0], nn.LayerNorm) == (head_norm == "layer")
    pixels = torch.from_numpy(pixels_of(32))[None]
    assert torch.equal(network(pixels), made.network(pixels))


def test_a_network_that_undoes_imagenets_normalisation_is_recognised(tmp_path: Path) -> None:
    made = small("googlenet", 32)
    made.network.backbone.transform_input = True
    folder = save_weights(tmp_path, made.network)
    assert rebuild_network(folder, made).backbone.transform_input is True  # type: ignore[arg-type]


def test_a_network_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    made = small("resnet18", 32)
    moved_bias = {"head.2.bias": torch.tensor([1.0, 0.0, 0.0])}
    moved = save_weights(tmp_path / "a", made.network, **moved_bias)
    with pytest.raises(BundleError, match=r"does not answer as model.onnx does: .* differ by"):
        rebuild_network(moved, made)  # type: ignore[arg-type]
    short = save_weights(tmp_path / "b", made.network, **{"head.2.bias": None})
    with pytest.raises(BundleError, match=r"does not fit bundle.json \(.*head.2.bias"):
        rebuild_network(short, made)  # type: ignore[arg-type]
    (tmp_path / "b" / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(BundleError, match=r"model.safetensors is damaged"):
        rebuild_network(tmp_path / "b", made)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=r"missing, and Grad-CAM needs it.*method=occlusion"):
        rebuild_network(tmp_path / "c", made)  # type: ignore[arg-type]


def test_a_backbone_that_torchvision_lacks_is_refused(tmp_path: Path) -> None:
    made = small("resnet18", 32)
    folder = save_weights(tmp_path, made.network)
    object.__setattr__(made.spec, "backbone", "resnet19")
    with pytest.raises(BundleError, match=r"names the network resnet19 .* method=occlusion"):
        rebuild_network(folder, made)  # type: ignore[arg-type]


def test_without_captum_auto_is_occlusion_and_gradcam_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small("resnet18", 32)
    folder = save_weights(tmp_path, made.network)
    both = methods_of("auto", folder, made, 8)  # type: ignore[arg-type]
    assert [method.name for method in both] == ["gradcam", "occlusion"]
    monkeypatch.setitem(sys.modules, "captum", None)
    [only] = methods_of("auto", folder, made, 8)  # type: ignore[arg-type]
    assert only.name == "occlusion"
    for choice in ("gradcam", "both"):
        with pytest.raises(SagelightError, match=r"Type pip install 'sagelight\[explain\]'"):
            methods_of(choice, folder, made, 8)  # type: ignore[arg-type]
