from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.test_network import FAMILIES, build, images
from sagelight.bundle.export import write_model
from sagelight.models.computing import foldable
from sagelight.models.network import Network

# The smallest network of every family that has BatchNorm, and some that are built otherwise than those.
QUICK = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "regnet_x_400mf",
    "shufflenet_v2_x0_5",
    "efficientnet_b0",
    "efficientnet_v2_s",
)
SLOW = ("densenet121", "googlenet", "inception_v3", "maxvit_t", "resnet50", "vgg11_bn")


def lived_in(name: str, size: int) -> Network:
    """A network whose BatchNorms have scales, shifts and statistics as after a training, all frozen."""
    torch.manual_seed(0)
    network = build(name, size).eval()
    for module in network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    network.freeze(len(network.stages))
    return network


def plain(network: Network, pixels: Tensor) -> Tensor:
    """Features by the backbone itself."""
    with torch.no_grad():
        found: Tensor = network.backbone(network.normalise(pixels)).flatten(1)
    return found


def features(network: Network, pixels: Tensor) -> Tensor:
    return network.features(network.normalise(pixels))


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_folded_is_the_same_but_for_rounding_in_every_family(name: str) -> None:
    size = FAMILIES.get(name, 32)
    network, pixels = lived_in(name, size), images(size)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found, expected = features(network, pixels), plain(network, pixels)
    assert distance(found, expected) <= 1e-5
    assert not torch.equal(found, expected), "nothing was folded"
    assert {key: value.dtype for key, value in network.state_dict().items()} == {
        key: value.dtype for key, value in before.items()
    }
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert len(list(network.parameters())) == len(list(build(name, size).parameters()))


def test_new_weights_are_folded_anew() -> None:
    network, pixels = lived_in("resnet18", 32), images(32)
    features(network, pixels)
    other = lived_in("resnet18", 32)
    nn.init.uniform_(other.backbone.bn1.running_var, 2, 3)  # type: ignore[union-attr, arg-type]
    network.load_state_dict(other.state_dict())
    assert distance(features(network, pixels), plain(other, pixels)) <= 1e-5
    with torch.no_grad():
        network.backbone.bn1.weight.mul_(2)  # type: ignore[union-attr, operator]
    assert distance(features(network, pixels), plain(network, pixels)) <= 1e-5
    assert distance(features(network, pixels), plain(other, pixels)) > 1e-2


def test_a_backbone_that_trains_is_computed_as_it_is() -> None:
    network, pixels = lived_in("resnet18", 32), images(32)
    features(network, pixels)
    network.freeze(0)
    found = features(network.eval(), pixels)
    assert found.requires_grad
    assert torch.equal(found, plain(network, pixels))


def test_weights_folded_in_inference_mode_serve_a_training_step() -> None:
    network, pixels = lived_in("resnet18", 32).train(), images(32)
    with torch.inference_mode():
        features(network, pixels)
    network(pixels).sum().backward()
    assert network.head[2].weight.grad is not None


def test_who_watches_a_module_meets_it() -> None:
    network, pixels = lived_in("resnet18", 32), images(32)
    features(network, pixels)
    seen: list[Tensor] = []
    handle = network.backbone.bn1.register_forward_hook(lambda *given: seen.append(given[2]))  # type: ignore[union-attr]
    assert torch.equal(features(network, pixels), plain(network, pixels))
    handle.remove()
    features(network, pixels)
    assert len(seen) == 2


def test_a_copy_folds_its_own_weights() -> None:
    network, pixels = lived_in("resnet18", 32), images(32)
    expected = features(network, pixels)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        network.backbone.conv1.weight.zero_()  # type: ignore[union-attr, operator]
    assert torch.equal(features(copied, pixels), expected)
    assert not torch.equal(features(network, pixels), expected)


def test_a_backbone_that_cannot_be_traced_is_left_alone() -> None:
    class Depends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.norm(self.conv(images))
            return found if found.sum() > 0 else -found

    assert foldable(Depends()) == []


def test_a_convolution_that_others_read_keeps_its_own_values() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.twice, self.after = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images: Tensor) -> Tensor:
            read = self.conv(images)
            found: Tensor = self.norm(read) + read
            return found + self.after(self.twice(self.twice(images)))

    assert foldable(Shared()) == []


@pytest.mark.slow
def test_the_exported_graph_is_that_of_the_backbone(tmp_path: Path) -> None:
    network = lived_in("resnet18", 32)
    features(network, images(32))
    write_model(network, 32, tmp_path)
    import onnx

    names = {each.name for each in onnx.load(tmp_path / "model.onnx").graph.initializer}
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    network.freeze(0)
    write_model(network, 32, fresh)
    assert {each.name for each in onnx.load(fresh / "model.onnx").graph.initializer} == names


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_compiled_computes_the_same_under_the_same_names(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, pixels = lived_in("resnet18", 32), images(32)
    network.freeze(len(network.stages) if frozen else 0)
    expected = features(network.eval(), pixels)
    names = list(network.state_dict())
    made: list[nn.Module] = []
    compile_ = torch.compile

    def counting(module: nn.Module) -> nn.Module:
        made.append(module)
        return compile_(module, backend="aot_eager")  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", counting)
    network.computing.compiled = True
    for _ in range(2):
        found = features(network, pixels)
    assert distance(found.detach(), expected.detach()) <= 1e-5
    assert len(made) == 1
    assert list(network.state_dict()) == names
