"""The fault library: real short trainings, each with one thing wrong, and which rules must say so."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from images import make_folder
from sagelight.config.compose import compose
from sagelight.data.module import PhotoDataModule
from sagelight.errors import RunError
from sagelight.models.classifier import Classifier
from sagelight.training import fit as fitting

# 450 of the digits, upright; no file of a photo says which digit it is but its folder.
DIGITS = 450
COMMON = [
    "experiment=resnet18", "model.weights=none", "finetune.backbone_lr_scale=1", "check=off", "augment=upright",
    "data.image_size=32", "data.resize_size=32", "data.num_workers=0", "data.batch_size=16",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_epochs=3",
]  # fmt: skip
RESNET, SQUEEZENET = "model.backbone=resnet18", "model.backbone=squeezenet1_1"
# Of the small networks, those that learn from random weights within the steps of these trainings.
LEARNING = ("resnet18", "shufflenet_v2_x1_0")

Break = Callable[[Classifier, PhotoDataModule], None]


def _nothing(model: Classifier, data: PhotoDataModule) -> None:
    pass


@dataclass(frozen=True)
class Fault:
    """A training with something wrong.

    Attributes:
        photos: makes the folder of photos.
        breaks: changes the network or the photos before the first step.
        rules: those that must find something, and no other may.
        may: what else may follow from the fault.
    """

    name: str
    rules: frozenset[str]
    words: tuple[str, ...] = ()
    photos: Callable[[Path], None] = field(default=lambda root: digits(root, DIGITS))
    breaks: Break = _nothing
    may: frozenset[str] = frozenset()


def digits(root: Path, count: int, label: Callable[[int, int], int] = lambda n, d: d) -> None:
    """The first `count` scanned digits as photos of 32 x 32, in folders by `label(number, digit)`."""
    images, targets = load_digits(return_X_y=True)
    for number, (pixels, digit) in enumerate(zip(images[:count], targets[:count], strict=True)):
        folder = root / str(label(number, int(digit)))
        folder.mkdir(parents=True, exist_ok=True)
        photo = Image.fromarray((pixels.reshape(8, 8) * 15.9).astype(np.uint8)).resize((32, 32))
        photo.save(folder / f"{number:04d}.png")


def stripes(root: Path) -> None:
    """Generated photos of four classes with colours and stripes of their own."""
    make_folder(root, {"": dict.fromkeys(("a", "b", "c", "d"), 60)}, size=(36, 32))


def watch(folder: Path, words: list[str], breaks: Break = _nothing) -> dict[str, dict[str, Any]]:
    """Train as `fit` does, and leave out what follows the last epoch; the verdicts of debugger and profiler, by rule."""
    config = compose([*COMMON, *words, f"run_dir={folder}"])
    train = fitting.train

    def broken(trainer: Any, model: Classifier, data: PhotoDataModule, run: Any) -> None:
        breaks(model, data)
        train(trainer, model, data, run)

    with (
        mock.patch.object(fitting, "train", broken),
        mock.patch.object(fitting, "finish", return_value={}),
    ):
        try:
            fitting.fit(config)
        except RunError as error:
            if "diverged" not in str(error):
                raise
    return {
        verdict["name"]: verdict
        for room in ("debugger", "profiler")
        for verdict in json.loads((folder / room / "findings.json").read_text())["verdicts"]
    }


def found_by(verdicts: dict[str, dict[str, Any]]) -> set[str]:
    """Names of the rules that have found something, or failed."""
    return {n for n, v in verdicts.items() if v["status"] in ("IssuesFound", "Error")}


def _convolutions(model: Classifier) -> list[nn.Conv2d]:
    return [m for m in model.network.backbone.modules() if isinstance(m, nn.Conv2d)]


def _fill(value: float) -> Callable[[Classifier, PhotoDataModule], None]:
    def fill(model: Classifier, data: PhotoDataModule) -> None:
        for convolution in _convolutions(model):
            nn.init.constant_(convolution.weight, value)

    return fill


def _squash(model: Classifier, data: PhotoDataModule) -> None:
    """The backbone's output arrives at the head a billion times smaller."""

    def smaller(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * 1e-9

    model.network.backbone.register_forward_hook(smaller)


def _kill(model: Classifier, data: PhotoDataModule) -> None:
    """The biases of the convolutions in the middle keep every ReLU behind them silent."""
    with torch.no_grad():
        for convolution in _convolutions(model)[6:]:
            assert convolution.bias is not None
            convolution.bias.fill_(-100.0)


def _freeze_rate(model: Classifier, data: PhotoDataModule) -> None:
    configure = model.configure_optimizers

    def still() -> Any:
        found: Any = configure()
        for group in found["optimizer"].param_groups:
            group["lr"] = group["initial_lr"] = 0.0
        found["lr_scheduler"]["scheduler"].base_lrs = [0.0] * len(found["optimizer"].param_groups)
        return found

    model.configure_optimizers = still  # type: ignore[method-assign]


def _do_not_normalise(model: Classifier, data: PhotoDataModule) -> None:
    model.network.mean.zero_()
    model.network.std.fill_(1 / 255)


def _stall(model: Classifier, data: PhotoDataModule) -> None:
    step, calls = model.training_step, 0

    # Lightning passes arguments by their names.
    def slow(batch: Any, batch_idx: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 30:
            time.sleep(4)
        return step(batch, batch_idx)

    model.training_step = slow  # type: ignore[method-assign]


def _slow_photos(model: Classifier, data: PhotoDataModule) -> None:
    """Each photo takes 20 ms longer, as from a slow disk."""
    build = data.train_dataloader

    def slow() -> Any:
        loader = build()
        dataset: Any = loader.dataset
        transform = dataset.transform

        def slowly(image: Tensor) -> Tensor:
            time.sleep(0.02)
            changed: Tensor = transform(image)
            return changed

        dataset.transform = slowly
        return loader

    data.train_dataloader = slow  # type: ignore[method-assign]


def _shuffled(number: int, digit: int) -> int:
    return int(np.random.default_rng(number).integers(10))


def _marked(root: Path) -> None:
    """In the training photos alone, a stripe says what the label is, and nothing else does."""
    for split, count in (("train", 400), ("val", 100), ("test", 50)):
        rng = np.random.default_rng(count)
        for number in range(count):
            label = number % 5
            pixels = rng.integers(0, 120, (32, 32), dtype=np.uint8)
            if split == "train":
                pixels[6 * label : 6 * label + 6] = 255
            folder = root / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:04d}.png")


def _ten(root: Path) -> None:
    """Ten photos of ten digits to learn by heart, and two hundred to be wrong about."""
    images, targets = load_digits(return_X_y=True)
    for split, place in (
        ("train", slice(0, 10)),
        ("val", slice(10, 210)),
        ("test", slice(210, 260)),
    ):
        for number, (pixels, digit) in enumerate(zip(images[place], targets[place], strict=True)):
            folder = root / split / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            photo = Image.fromarray((pixels.reshape(8, 8) * 15.9).astype(np.uint8))
            photo.resize((32, 32)).save(folder / f"{number:04d}.png")


def _imbalanced(root: Path) -> None:
    images, targets = load_digits(return_X_y=True)
    kept: dict[int, int] = {}
    for number, (pixels, digit) in enumerate(zip(images, targets, strict=True)):
        digit = int(digit)
        if digit > 4 or kept.get(digit, 0) >= (150 if digit < 4 else 8):
            continue
        kept[digit] = kept.get(digit, 0) + 1
        folder = root / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        photo = Image.fromarray((pixels.reshape(8, 8) * 15.9).astype(np.uint8))
        photo.resize((32, 32)).save(folder / f"{number:04d}.png")


def _fault(name: str, rules: str, **more: Any) -> Fault:
    may = frozenset(more.pop("may", "").split())
    return Fault(name, frozenset(rules.split()), may=may, **more)


FAULTS = [
    _fault(
        "vanishing gradients",
        "VanishingGradient LossNotDecreasing",
        words=(RESNET, "model.head_norm=none"),
        breaks=_squash,
    ),
    _fault(
        "exploding gradients",
        "ExplodingTensor",
        words=(RESNET, "optimizer=sgd", "optimizer.lr=1e12"),
        may="WeightUpdateRatio DeadRelu LossNotDecreasing PoorWeightInitialization VanishingGradient",
    ),
    _fault(
        "dead ReLUs",
        "DeadRelu VanishingGradient",
        words=(SQUEEZENET,),
        breaks=_kill,
        # What no gradient reaches does not move.
        may="PoorWeightInitialization LossNotDecreasing UnchangedTensor WeightUpdateRatio",
    ),
    _fault(
        "zero initialisation",
        "AllZero PoorWeightInitialization VanishingGradient",
        words=(SQUEEZENET,),
        breaks=_fill(0.0),
        may="DeadRelu LossNotDecreasing UnchangedTensor WeightUpdateRatio",
    ),
    _fault(
        "constant initialisation",
        "PoorWeightInitialization",
        words=(RESNET,),
        breaks=_fill(0.01),
        # Channels that are all the same get gradients that cancel.
        may="LossNotDecreasing DeadRelu VanishingGradient UnchangedTensor WeightUpdateRatio",
    ),
    _fault(
        "learning rate 0",
        "UnchangedTensor WeightUpdateRatio LossNotDecreasing",
        words=(RESNET,),
        breaks=_freeze_rate,
    ),
    _fault(
        "learning rate far too large",
        "LossNotDecreasing WeightUpdateRatio",
        words=(RESNET, "optimizer.lr=30", "schedule.warmup=0"),
        may="DeadRelu VanishingGradient PoorWeightInitialization ExplodingTensor",
    ),
    _fault(
        "labels that leak into the training photos",
        "Overfit",
        words=(RESNET, "trainer.max_epochs=8", "augment=none"),
        photos=_marked,
    ),
    _fault(
        "shuffled labels",
        "LossNotDecreasing",
        # Nor may it get far in learning them by heart.
        words=(RESNET, "trainer.max_epochs=6", "augment=strong"),
        photos=lambda root: digits(root, DIGITS, _shuffled),
    ),
    _fault(
        "ten photos learned by heart",
        "Overfit",
        words=(RESNET, "trainer.max_epochs=30", "data.batch_size=5", "augment=none"),
        photos=_ten,
        may="Overtraining",
    ),
    _fault("imbalance", "ClassImbalance", words=(RESNET,), photos=_imbalanced),
    _fault("unnormalised input", "CheckInputImages", words=(RESNET,), breaks=_do_not_normalise),
    _fault(
        "stalled loader",
        "StalledTraining",
        words=(RESNET, "debugger.parameters.StalledTraining.threshold=2.0"),
        breaks=_stall,
    ),
    _fault("slow loader", "Dataloader", words=(RESNET,), breaks=_slow_photos),
    _fault(
        "oversized worker count",
        "Dataloader",
        words=(RESNET, f"data.num_workers={4 * (os.cpu_count() or 1)}", "trainer.max_epochs=1"),
    ),
]

# Moving averages of a normalisation need more steps on 168 photos than on 315 to be of any use.
HEALTHY = [
    (f"{backbone} on {data}, seed {seed}", [f"model.backbone={backbone}", f"seed={seed}", epochs], photos)
    for data, epochs, photos in (
        ("digits", "trainer.max_epochs=3", lambda root: digits(root, DIGITS)),
        ("stripes", "trainer.max_epochs=5", stripes),
    )
    for backbone in LEARNING
    for seed in range(5)
]  # fmt: skip
