"""No step waits for the device: shown on tensors that claim to lie on a GPU and hold no values, so reading one fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sagelight.config.compose import compose
from sagelight.config.resolve import Machine, resolve
from sagelight.config.schema import Config
from sagelight.data.dataset import Batch
from sagelight.models.classifier import Classifier
from sagelight.models.optimizers import build_optimizer, parameter_groups

GPU = torch.device("cuda:0")
SERVER = Machine(8, "cuda", True, "")


class Fetched(TorchDispatchMode):
    """Names of the operations that bring something from the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if GPU.type in _devices((args, kwargs)) and "cpu" in _devices(given):
            self.names.append(str(func))
        return given


def _devices(values: Any) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}


@contextmanager
def on_a_gpu(config: Config) -> Iterator[tuple[Classifier, Batch, Fetched]]:
    with torch.device("cpu"):
        model = Classifier(config, [10, 20, 30], ((0.5,) * 3, (0.25,) * 3))
    fetched = Fetched()
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(Classifier, "log"),
        mock.patch.object(Classifier, "current_epoch", 0),
    ):
        model.to(GPU)
        photos = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device=GPU)
        targets = torch.empty(4, dtype=torch.int64, device=GPU)
        with fetched:
            yield model, Batch(photos, targets, torch.empty(4, dtype=torch.int64)), fetched


def config_of(*words: str) -> Config:
    small = ["experiment=resnet18", "data.root=x", "model.weights=none", "data.image_size=32"]
    config = compose([*small, *words])
    resolve(config, SERVER, 1000)
    return config


# Folding, once before the first step, copies what has no values here.
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    "words",
    [
        ["augment=light"],
        ["finetune=head", "features.cache=off", "loss.class_weights=balanced"],
        ["augment.mixup_alpha=0.2", "finetune=gradual"],
    ],
)
def test_a_training_step_brings_nothing_from_the_gpu(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # How much is mixed is drawn on the CPU, whose values this mode hides too.
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda *_: 0.3)
    config = config_of(*words)
    with on_a_gpu(config) as (model, batch, fetched):
        groups = parameter_groups(model.network, config.finetune, config.optimizer)
        optimizer = build_optimizer(groups, config.optimizer, fused=True)
        for place in range(2):
            model.on_train_batch_start(batch, place)
            loss = model.training_step(batch, place)
            assert loss is not None
            # The engine that differentiates asks for a real GPU.
            for parameter in (each for group in groups for each in group["params"]):
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()
    assert loss.device == GPU
    assert fetched.names == []


def test_nor_does_a_validation_step() -> None:
    with on_a_gpu(config_of()) as (model, batch, fetched), torch.no_grad():
        model.eval()
        for place in range(2):
            model.validation_step(batch, place)
    assert fetched.names == []


def test_what_waits_is_noticed() -> None:
    with on_a_gpu(config_of()) as (model, batch, fetched):
        scores = model.network(batch.images)
        with pytest.raises(DataDependentOutputException):
            bool(torch.isfinite(scores).all())
        scores.cpu()
    assert fetched.names == ["aten._to_copy.default"]
