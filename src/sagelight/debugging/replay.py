"""A loss that is not finite: what led to it is kept, so that it can be looked at again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from sagelight.data.dataset import Batch
from sagelight.data.module import PhotoDataModule
from sagelight.debugging.arrivals import Arrivals, Step, can_be_late
from sagelight.debugging.bridge import Bridge
from sagelight.errors import RunError
from sagelight.files import atomic
from sagelight.models.classifier import Classifier


class KeepForReplay(Callback):
    """Ends a training whose loss is not finite, before that reaches the weights.

    The batch, its files, and the weights that gave the loss lie in replay-<rank>.pt then, tensors and plain values only.
    """

    def __init__(self, bridge: Bridge, folder: Path) -> None:
        self._bridge = bridge
        self._folder = folder
        self._batch: Batch | None = None
        self._number = 0
        self._arrivals: Arrivals | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        (optimizer,), device = trainer.optimizers, trainer.strategy.root_device
        late = can_be_late(optimizer, device, str(trainer.precision))
        self._arrivals = Arrivals(optimizer, device) if late else None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._look(trainer, pl_module)
        self._batch, self._number = batch, batch_idx

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # What is judged and saved next must not be of weights that stand still.
        self._look(trainer, pl_module, every=True)

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        if self._batch is None:
            return
        loss = loss.detach()
        if self._arrivals is not None:
            self._arrivals.send(self._batch, self._number, trainer.current_epoch, loss)
        elif not torch.isfinite(loss):
            step = Step(self._batch, self._number, trainer.current_epoch, loss)
            self._end(trainer, pl_module, step)

    def _look(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, every: bool = False
    ) -> None:
        for step in self._arrivals.arrived(every) if self._arrivals is not None else ():
            if not torch.isfinite(step.loss):
                self._end(trainer, pl_module, step)

    def _end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: Step) -> None:
        assert isinstance(pl_module, Classifier)
        self._bridge.meet_bad_loss(step.loss)
        path = self._folder / f"replay-{trainer.global_rank}.pt"
        files = _files(trainer, step.batch)
        self._keep(path, pl_module, step, files)
        shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        raise RunError(
            f"the training loss is {float(step.loss)} in batch {step.number + 1} of epoch {step.epoch + 1} "
            f"({shown}): training diverged. {path} keeps the batch and the weights; debug replay={path} says where "
            "it began. Type a smaller optimizer.lr, or trainer.gradient_clip_val=1."
        )

    def _keep(self, path: Path, model: Classifier, step: Step, files: list[str]) -> None:
        network = model.network
        content: dict[str, Any] = {
            "loss": float(step.loss),
            "epoch": step.epoch,
            "batch": step.number,
            "files": files,
            "images": step.batch.images.cpu(),
            "targets": step.batch.targets.cpu(),
            "network": {name: value.cpu() for name, value in network.state_dict().items()},
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
            "backbone": model.config.model.backbone,
            "head_norm": model.config.model.head_norm,
            "image_size": model.config.data.image_size,
            "frozen": network.frozen,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            file.write(buffer.getbuffer())


def _files(trainer: pl.Trainer, batch: Batch) -> list[str]:
    data = getattr(trainer, "datamodule", None)
    assert isinstance(data, PhotoDataModule)
    samples = data.index.splits["train"]
    return [samples[position].path for position in batch.positions.tolist()]
