from __future__ import annotations

import pytest
import torch

from sagelight.errors import ConfigError
from sagelight.models.backbones import backbone_names, build_backbone
from sagelight.models.network import Network
from sagelight.models.optimizers import parameter_groups
from sagelight.models.settings import FinetuneSettings, ModelSettings, OptimizerSettings

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
# The smallest network of every family that torchvision has, and a size that it takes.
FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "vgg11": 32,
    "vit_b_32": 32,
}


def build(name: str, size: int, classes: int = 5, **settings: object) -> Network:
    return Network(ModelSettings(name, "none", **settings), classes, size, MEAN, STD)  # type: ignore[arg-type]


def images(size: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_every_family_is_represented() -> None:
    stems = {name.rstrip("0123456789") for name in FAMILIES}
    for name in backbone_names():
        family = name.split("_")[0].rstrip("0123456789")
        if family in ("wide", "resnext"):
            family = "resnet"
        assert any(stem.startswith(family) for stem in stems), name


@pytest.mark.parametrize(("name", "size"), FAMILIES.items())
def test_every_family_gives_scores_for_its_own_number_of_classes(name: str, size: int) -> None:
    network = build(name, size).eval()
    with torch.no_grad():
        assert network(images(size)).shape == (2, 5)


# RegNet computes its widths with tensors, which need a real device; its giants only repeat the small ones.
GIANTS = ("regnet_x_16gf", "regnet_x_32gf", "regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf")


@pytest.mark.parametrize("name", [name for name in backbone_names() if name not in GIANTS])
def test_every_backbone_splits_into_stages_that_train_by_every_recipe(name: str) -> None:
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = build(name, 224)
    own = [each for each, _ in network.backbone.named_parameters()]
    assert sorted(own) == sorted(each for stage in network.stages for each in stage)
    assert len(network.stages) >= 5
    for recipe in ("head", "full", "gradual", "layer_decay"):
        groups = parameter_groups(network, FinetuneSettings(recipe), OptimizerSettings())
        grouped = [id(p) for group in groups for p in group["params"]]
        trained = network.head if recipe == "head" else network
        assert sorted(grouped) == sorted(id(p) for p in trained.parameters())
    for frozen in (0, 2, len(network.stages)):
        network.freeze(frozen)
        moving = sum(p.requires_grad for p in network.backbone.parameters())
        assert moving == sum(len(stage) for stage in network.stages[frozen:])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_head_alone_trains_and_batchnorm_statistics_stay(name: str) -> None:
    network = build(name, 32).train()
    network.freeze(len(network.stages))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(images(32, 4)).logsumexp(1).sum().backward()
    optimizer.step()
    after = network.state_dict()
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert changed
    assert all(key.startswith("head.") for key in changed)


def test_partly_frozen_network_keeps_the_lower_statistics_only() -> None:
    network = build("resnet18", 32).train()
    network.freeze(3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network(images(32, 4))
    after = network.state_dict()
    moved = {key.split(".")[1] for key in after if not torch.equal(before[key], after[key])}
    assert moved == {"layer2", "layer3", "layer4"}


def test_train_after_eval_keeps_the_frozen_part_in_eval() -> None:
    network = build("resnet18", 32)
    network.freeze(len(network.stages))
    network.eval()
    network.train()
    assert not any(module.training for module in network.backbone.modules())
    assert network.head.training


def test_layer_decay_slows_lower_stages() -> None:
    network = build("resnet18", 32)
    finetune = FinetuneSettings("layer_decay", backbone_lr_scale=0.5, decay=0.5)
    groups = parameter_groups(network, finetune, OptimizerSettings(lr=1.0))
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates["head"] == 1.0
    assert rates["stage5"] == 0.5
    assert rates["stage0"] == pytest.approx(0.5 * 0.5**5)


def test_biases_and_norms_do_not_decay() -> None:
    groups = parameter_groups(build("resnet18", 32), FinetuneSettings(), OptimizerSettings())
    for group in groups:
        ranks = {p.ndim for p in group["params"]}
        assert (ranks <= {0, 1}) == (group["weight_decay"] == 0)


def test_head_settings() -> None:
    assert isinstance(build("resnet18", 32, head_norm="none").head[0], torch.nn.Identity)
    assert build("resnet18", 32, dropout=0.3).head[1].p == 0.3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet81",
            "model.backbone=resnet81: torchvision has no such network. Did you mean resnet18",
        ),
        ("zzz", "torchvision has no such network. Some of them: alexnet"),
    ],
)
def test_unknown_backbone_names_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(name, 224, False)


def test_image_size_that_a_network_cannot_take() -> None:
    with pytest.raises(
        ConfigError, match=r"cannot be built for data.image_size=30.*image_size=224"
    ):
        build_backbone("vit_b_16", 30, False)
