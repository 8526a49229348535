"""Our training and the plain loop, in turn."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, models, transforms

from sagelight.config.compose import compose
from sagelight.config.resolve import resolve
from sagelight.config.schema import Config
from sagelight.data.dataset import Photo
from sagelight.data.index import ImageIndex, index_images
from sagelight.debugging.build import build_debugger
from sagelight.debugging.hook_config import EARLY
from sagelight.features.table import cache_features
from sagelight.models.network import channels_last
from sagelight.models.optimizers import build_optimizer, fuses, parameter_groups
from sagelight.processes import Processes
from sagelight.profiling.profiler import build_profiler
from sagelight.training import fit as fitting
from sagelight.training.machine import probe
from sagelight.training.run import Run

BATCH, SIDE, CLASSES = 32, 224, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of `five_epochs`.
TRAINING, VALIDATION, EPOCHS = 224, 32, 5
Step = Callable[[Tensor, Tensor], None]


@dataclass
class Measured:
    """Processor seconds of the same work, round by round."""

    plain: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        return [plain / ours for plain, ours in zip(self.plain, self.ours, strict=True)]

    @property
    def gain(self) -> float:
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        plain, ours = statistics.median(self.plain), statistics.median(self.ours)
        return (
            f"  plain {plain:.2f} s, ours {ours:.2f} s of processor time{self.note}; ratio {self.gain:.3f} "
            f"({min(self.ratios):.3f} to {max(self.ratios):.3f}, {len(self.ratios)} rounds)"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"plain": self.plain, "ours": self.ours, "ratio": self.gain, "note": self.note}


class InMemory(Dataset[Photo]):
    """One photo again and again, so that loading costs next to nothing."""

    def __init__(self, index: ImageIndex, split: str) -> None:
        self._samples = index.splits[split]
        generator = torch.Generator().manual_seed(0)
        self.photo = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=generator)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, draw: Any) -> Photo:
        position = getattr(draw, "position", draw)
        return Photo(self.photo, self._samples[position].target, position)


class InTurn(Callback):
    """Before a step of ours, one of the plain loop. Steps at which the debugger looks inside the network are left out:
    they are a handful a training, and benchmarks/watching.py counts them.
    """

    def __init__(self, step: Step) -> None:
        self.measured = Measured()
        self._step = step
        self._began: float | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: Any, batch: Any, place: int
    ) -> None:
        began = time.process_time()
        if self._began is not None:
            self.measured.ours.append(began - self._began)
        last = place + 1 == trainer.num_training_batches
        if place == 0 or (place not in EARLY and not last):
            self._step(batch.images, batch.targets)
        self._began = None
        if place not in EARLY and not last:
            self._began = time.process_time()
            self.measured.plain.append(self._began - began)


def steps_for(rounds: int) -> int:
    """Steps of a training of which `rounds` are measured: all but the early ones and the last."""
    return next(n for n in itertools.count() if sum(p not in EARLY for p in range(n - 1)) == rounds)


def in_turn(kind: str, backbone: str, rounds: int, folder: Path) -> Measured:
    """Seconds of a step of 32 photos in `rounds` steps: `full`, `frozen`, or `overhead` over a bare loop around a copy
    of our own network and optimizer.
    """
    _write_photos(folder / "photos", steps_for(rounds) * BATCH, BATCH, 8)
    words = ["finetune=head", "features.cache=off"] if kind == "frozen" else ["finetune=full"]
    config, index = _configured(folder, backbone, words)
    model, data = fitting.build(config, index, Processes())
    data.serve({split: InMemory(index, split) for split in ("train", "validation")})
    step = _bare(model, config) if kind == "overhead" else _plain(backbone, kind == "frozen")
    turns = InTurn(step)
    _train(config, folder, model, data, [turns])
    turns.measured.note = f" a step of {BATCH} photos ({config.trainer.precision})"
    return turns.measured


def five_epochs(backbone: str, folder: Path) -> Measured:
    """Five epochs of a head, from files on. The plain loop's epochs are alike: one of them is timed, after its first
    batch, and counted five times.
    """
    _write_photos(folder / "photos", TRAINING, VALIDATION, 320)
    step, evaluate = _plain(backbone, frozen=True), _plain_evaluation(backbone)
    loaders = [_image_folder(folder / "photos" / split) for split in ("train", "validation")]
    step(*next(iter(loaders[0])))
    began = time.process_time()
    for work, loader in zip((step, evaluate), loaders, strict=True):
        for images, targets in loader:
            work(images, targets)
    measured = Measured(
        [EPOCHS * (time.process_time() - began)], note=f" for {EPOCHS} epochs of {TRAINING} photos"
    )
    began = time.process_time()
    words = ["finetune=head", "augment=none", "features.cache=on", f"trainer.max_epochs={EPOCHS}"]
    config, index = _configured(
        folder, backbone, [*words, f"features.folder={folder / 'features'}"]
    )
    model, data = fitting.build(config, index, Processes())
    cache_features(config, model.network, data)
    _train(config, folder, model, data, [])
    measured.ours.append(time.process_time() - began)
    return measured


def _configured(folder: Path, backbone: str, words: list[str]) -> tuple[Config, ImageIndex]:
    fixed = [
        "experiment=resnet18", f"data.root={folder / 'photos'}", f"data.batch_size={BATCH}", "data.num_workers=0",
        "model.weights=none", f"model.backbone={backbone}", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        f"run_dir={folder / 'run'}", "resume=off",
    ]  # fmt: skip
    config = compose([*fixed, *words])
    index = index_images(folder / "photos", test_fraction=0.01)
    resolve(config, probe(), len(index.splits["train"]))
    return config, index


def _train(config: Config, folder: Path, model: Any, data: Any, callbacks: list[Callback]) -> None:
    """As `fit` does after everything is decided."""
    run = Run(folder / "run")
    run.folder.mkdir()
    watchers = [
        *callbacks, *build_debugger(config.debugger, run.folder), *build_profiler(config, run.folder),
    ]  # fmt: skip
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        trainer = fitting.build_trainer(config, run, Processes(), watchers)
        fitting.train(trainer, model, data, run)


def _bare(model: Any, config: Config) -> Step:
    network = copy.deepcopy(model.network).train()
    groups = parameter_groups(network, config.finetune, config.optimizer)
    optimizer = build_optimizer(groups, config.optimizer, fuses(groups, config.trainer))

    def step(images: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        scores = network(channels_last(images))
        nn.functional.cross_entropy(scores, targets, label_smoothing=0.1).backward()
        optimizer.step()

    return step


def _plain(backbone: str, frozen: bool) -> Step:
    """As tutorials have it: float32, NCHW, AdamW; frozen by requires_grad alone, in training mode."""
    network = models.get_model(backbone, weights=None)
    network.requires_grad_(not frozen)
    network.fc = nn.Linear(network.fc.in_features, CLASSES)
    optimizer = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=1e-4)
    network.train()

    def step(images: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(_normalised(images)), targets).backward()
        optimizer.step()

    return step


def _plain_evaluation(backbone: str) -> Step:
    network = models.get_model(backbone, weights=None).eval()

    @torch.no_grad()
    def evaluate(images: Tensor, targets: Tensor) -> None:
        network(_normalised(images))

    return evaluate


def _normalised(images: Tensor) -> Tensor:
    if images.dtype != torch.uint8:
        return images
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def _image_folder(folder: Path) -> DataLoader[Any]:
    steps = [transforms.Resize(256), transforms.CenterCrop(SIDE), transforms.ToTensor()]
    chain = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
    return DataLoader(datasets.ImageFolder(str(folder), chain), BATCH, shuffle=True)


def _write_photos(root: Path, training: int, validation: int, side: int) -> None:
    pixels = _pixels(side)
    # One of each class becomes the test split.
    for split, count in (("train", training + CLASSES), ("validation", validation)):
        for number in range(count):
            path = root / split / str(number % CLASSES) / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(next(pixels)).save(path)


def _pixels(side: int) -> Iterator[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    few = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(8)]
    larger = [np.asarray(Image.fromarray(each).resize((side, side))) for each in few]
    return itertools.cycle(larger)
