"""Does the fast path still pay? Ratios of processor time between ours and plain code, taken in turn in one process.

    python benchmarks/gate.py                     each ratio once, beside its limit in gate.json
    python benchmarks/gate.py repeat=20           lowest, median and highest of twenty: what the limits are chosen by
    python benchmarks/gate.py profile=yes        the same under cProfile: where the time of ours went

Seconds would depend on the machine and on what else it does. Instructions would not, but counters of them are seldom open
to guests of a hypervisor, and torch under valgrind takes minutes. Processor seconds of one thread, ours and theirs by
turns of milliseconds, have the same neighbours, and medians leave out those that were disturbed.
"""

from __future__ import annotations

import contextlib
import copy
import cProfile
import json
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from bench_photos import lay_out
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from sagelight.config.compose import compose
from sagelight.config.resolve import resolve
from sagelight.config.schema import Config
from sagelight.data.prepare import open_index
from sagelight.processes import Processes
from sagelight.training import fit as fitting
from sagelight.training.arithmetic import one_thread
from sagelight.training.machine import probe

LIMITS = Path(__file__).with_name("gate.json")
PHOTOS, BATCH, SIDE, PASSES, EPOCHS = 28, 4, 224, 6, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photos(folder: Path) -> Path:
    """What all ratios are measured on, written into an empty folder."""
    return lay_out(folder, None, PHOTOS, BATCH)


def measure(root: Path, run: Path) -> dict[str, float]:
    """The ratios by name; above 1 ours is the faster one.

    Args:
        root: of `photos`.
        run: where a training may be left.
    """
    with one_thread():
        return {**loading(root), "training step": _step(root, run)}


def loading(root: Path) -> dict[str, float]:
    """Those of photos alone."""
    with one_thread():
        return {
            "training photo": _loading(root, "train"),
            "evaluation photo": _loading(root, "validation"),
        }


def complaints(found: dict[str, float], limits: dict[str, Any]) -> list[str]:
    """A sentence for each ratio below its limit: what got slower, and how to look."""
    return [
        f"{name}: {limits[name]['what']} is {ratio:.2f} times as fast as {limits[name]['than']}; it was "
        f"{limits[name]['measured']:.2f}, and {limits[name]['least']:.2f} is the limit. Something made it slower: "
        "type python benchmarks/gate.py profile=yes to see where its time goes. If that is meant, change benchmarks/gate.json."
        for name, ratio in found.items()
        if ratio < limits[name]["least"]
    ]


def read_limits() -> dict[str, Any]:
    limits: dict[str, Any] = json.loads(LIMITS.read_text(encoding="utf-8"))
    return limits


def _loading(root: Path, split: str) -> float:
    """From files to normalised batches: our loader, and ImageFolder with Pillow."""
    config = _config(root, SIDE)
    model, data = fitting.build(config, open_index(config.data), Processes())
    ours = data.train_dataloader() if split == "train" else data.val_dataloader()
    plain = DataLoader(ImageFolder(root / split, _plain(split)), batch_size=BATCH)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(PASSES * (1 if split == "train" else 3)):
        for _ in _taken_in_turn(
            (model.network.normalise(batch.images) for batch in ours), iter(plain), times
        ):
            pass
    return statistics.median(times[1]) / statistics.median(times[0])


def _taken_in_turn(
    ours: Iterator[Any], theirs: Iterator[Any], times: tuple[list[float], list[float]]
) -> Iterator[None]:
    while True:
        for iterator, seconds in zip((ours, theirs), times, strict=True):
            began = time.process_time()
            if next(iterator, None) is None:
                return
            seconds.append(time.process_time() - began)
        yield


def _plain(split: str) -> transforms.Compose:
    train = [
        transforms.RandomResizedCrop(SIDE, scale=(0.5, 1.0)),
        transforms.RandomHorizontalFlip(),
    ]
    served = [transforms.Resize(round(SIDE * 256 / 224)), transforms.CenterCrop(SIDE)]
    chosen = train if split == "train" else served
    return transforms.Compose([*chosen, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def _step(root: Path, run: Path) -> float:
    """A step of a head on cached features: in the whole training with all that watches it, and in a bare loop."""
    words = ["finetune=head", "augment=none", f"trainer.max_epochs={EPOCHS}", f"run_dir={run}"]
    config = _config(root, 32, *words, f"features.folder={run}.features")
    steps = _Steps()
    build = fitting.build_trainer

    def watched(*given: Any) -> Any:
        trainer = build(*given)
        trainer.callbacks.append(steps)
        return trainer

    with (
        mock.patch.object(fitting, "build_trainer", watched),
        mock.patch.object(fitting, "finish", return_value={}),
    ):
        fitting.fit(config)
    return statistics.median(steps.bare) / statistics.median(steps.ours)


class _Steps(Callback):
    """Processor seconds of each step of a training, from end to end, and of the same step in a bare loop after it."""

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.bare: list[float] = []
        self._ended = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._head = copy.deepcopy(module.network.head)
        self._optimizer = torch.optim.AdamW(self._head.parameters(), lr=1e-3)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        # Between epochs lie validation and checkpoints.
        self._ended = 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if self._ended:
            self.ours.append(time.process_time() - self._ended)
        began = time.process_time()
        self._bare_step(batch.images, batch.targets)
        self._ended = time.process_time()
        self.bare.append(self._ended - began)

    def _bare_step(self, features: Tensor, targets: Tensor) -> None:
        loss = nn.functional.cross_entropy(self._head(features), targets)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def _config(root: Path, side: int, *words: str) -> Config:
    config = compose(
        [
            "experiment=resnet18",
            "model.backbone=squeezenet1_1",
            "model.weights=none",
            f"data.root={root}",
            f"data.image_size={side}",
            f"data.batch_size={BATCH}",
            f"data.eval_batch_size={BATCH}",
            "data.num_workers=0",
            *words,
        ]
    )
    resolve(config, probe(), PHOTOS)
    return config


def _in_scratch() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        return measure(photos(Path(folder) / "photos"), Path(folder) / "run")


def main() -> None:
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    if "profile" in options:
        profile = cProfile.Profile()
        profile.runcall(_in_scratch)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(r"sagelight|torch|PIL", 40)
        return
    found, limits = [], read_limits()
    for _ in range(int(options.get("repeat", "1"))):
        found.append(_in_scratch())
        print("  ".join(f"{name} {ratio:.3f}" for name, ratio in found[-1].items()), flush=True)
    for name, limit in limits.items():
        values = sorted(each[name] for each in found)
        shown = f"{values[0]:.3f}, {statistics.median(values):.3f}, {values[-1]:.3f}"
        print(f"{name}: lowest, median, highest {shown}; the limit is {limit['least']}")
    broken = [line for each in found for line in complaints(each, limits)]
    sys.exit("\n".join(broken) or 0)


if __name__ == "__main__":
    main()
