"""A study as it is usually written with Lightning and Optuna, for comparison: `benchmarks/tuning.py price` runs it.

    python benchmarks/by_hand.py PHOTOS TRIALS

PHOTOS holds a folder per class, or train/ and validation/ with one each. Every epoch sends every photo through the
frozen ResNet-50. A trial has two epochs of a few batches; printed are its seconds per photo, warm batches only.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet50
from torchvision.transforms import v2

WARM, BATCHES = 2, 8
TRANSFORM = v2.Compose(
    [
        v2.Resize(256),
        v2.CenterCrop(224),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class FrozenResNet(pl.LightningModule):
    def __init__(self, classes: int, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.network = resnet50()
        for parameter in self.network.parameters():
            parameter.requires_grad = False
        self.network.fc = nn.Linear(self.network.fc.in_features, classes)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        photos, targets = batch
        # What is frozen stays in eval mode, or BatchNorm would go on learning.
        self.network.eval()
        return nn.functional.cross_entropy(self.network(photos), targets)

    def validation_step(self, batch: Any, _: int) -> None:
        photos, targets = batch
        self.log("accuracy", (self.network(photos).argmax(1) == targets).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.fc.parameters(), lr=self.lr)


class Clock(Callback):
    """Seconds of each training batch, from the end of the one before."""

    def __init__(self) -> None:
        self.photos, self.seconds, self._last = 0, 0.0, 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        now = time.monotonic()
        if index >= WARM:
            self.photos += len(batch[0])
            self.seconds += now - self._last
        self._last = now


def main() -> None:
    root, trials = Path(sys.argv[1]), int(sys.argv[2])
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    photos = ImageFolder(root / "train" if (root / "train").is_dir() else root, TRANSFORM)
    found: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 0.001, 0.1, log=True)
        size = trial.suggest_int("batch_size", 32, 64)
        loader = DataLoader(photos, size, shuffle=True, num_workers=2, persistent_workers=True)
        clock = Clock()
        trainer = pl.Trainer(
            max_epochs=2,
            limit_train_batches=BATCHES,
            limit_val_batches=1,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(FrozenResNet(len(photos.classes), lr), loader, DataLoader(photos, size))
        found.append(clock.seconds / clock.photos)
        return float(trainer.callback_metrics["accuracy"])

    optuna.create_study(direction="maximize").optimize(objective, n_trials=trials)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
