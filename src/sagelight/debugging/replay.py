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

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._batch, self._number = batch, batch_idx

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        # The running mean of the losses has waited for this number already.
        loss = loss.detach()
        if bool(torch.isfinite(loss)) or self._batch is None:
            return
        assert isinstance(pl_module, Classifier)
        loss = loss.detach()
        self._bridge.meet_bad_loss(loss)
        path = self._folder / f"replay-{trainer.global_rank}.pt"
        files = _files(trainer, self._batch)
        self._keep(path, pl_module, trainer.current_epoch, float(loss), files)
        shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        raise RunError(
            f"the training loss is {float(loss)} in batch {self._number + 1} of epoch {trainer.current_epoch + 1} "
            f"({shown}): training diverged. {path} keeps the batch and the weights; debug replay={path} says where "
            "it began. Type a smaller optimizer.lr, or trainer.gradient_clip_val=1."
        )

    def _keep(
        self, path: Path, model: Classifier, epoch: int, loss: float, files: list[str]
    ) -> None:
        assert self._batch is not None
        network = model.network
        content: dict[str, Any] = {
            "loss": loss,
            "epoch": epoch,
            "batch": self._number,
            "files": files,
            "images": self._batch.images.cpu(),
            "targets": self._batch.targets.cpu(),
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
