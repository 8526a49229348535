"""Lightning as its documentation's first example trains: a LightningModule, and a Trainer of which nothing is set but the epochs."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from interface import Clock, Task, serve
from torch import Tensor, nn
from torchvision_loop import loaded_resnet18, train_loader, validation_loader


class LightningTrainer:
    does = (
        "Pillow, float32, NCHW; logger, progress bar, summary, two batches of validation before training; validation and "
        "a checkpoint each epoch; frozen: requires_grad off, BatchNorm in training mode"
    )

    def pipeline(self, task: Task, clock: Clock) -> int:
        loader = train_loader(task)
        return sum(len(targets) for _ in range(task.epochs) for _, targets in loader)

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        train = train_loader(task)
        trainer = pl.Trainer(max_epochs=task.epochs, default_root_dir=task.scratch)
        trainer.fit(_Classifier(task, frozen), train, validation_loader(task))
        return trainer.global_step * task.batch


class _Classifier(pl.LightningModule):
    def __init__(self, task: Task, frozen: bool) -> None:
        super().__init__()
        self.network = loaded_resnet18(task)
        if frozen:
            for parameter in self.network.parameters():
                parameter.requires_grad = False
        self.network.fc = nn.Linear(self.network.fc.in_features, len(task.classes))

    def training_step(self, batch: Any, _: int) -> Tensor:
        images, targets = batch
        loss = nn.functional.cross_entropy(self.network(images), targets)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        images, targets = batch
        scores = self.network(images)
        self.log("val_loss", nn.functional.cross_entropy(scores, targets))
        self.log("val_accuracy", (scores.argmax(1) == targets).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=1e-3)


if __name__ == "__main__":
    serve(LightningTrainer())
