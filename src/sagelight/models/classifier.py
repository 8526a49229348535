"""The network as a LightningModule: what one step does, and what an epoch reports."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from sagelight.config.schema import Config
from sagelight.data.augment import batch_transform, class_weights
from sagelight.data.dataset import Batch, derived_seed
from sagelight.errors import DataError
from sagelight.models.figures import MeanOverPhotos, ValidationFigures
from sagelight.models.network import Network, channels_last
from sagelight.models.optimizers import build_optimizer, fuses, parameter_groups, rate_scale
from sagelight.processes import Processes

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]


class Classifier(pl.LightningModule):
    """Trains a `Network` on batches of uint8 photos.

    Logs, each epoch: train/loss (as optimised, label smoothing and weights included), train/accuracy
    (unless photos are mixed), val/loss (plain cross-entropy), val/accuracy, val/top5_accuracy, val/macro_f1.
    """

    def __init__(
        self,
        config: Config,
        counts: list[int],
        normalisation: Normalisation,
        processes: Processes = Processes(),  # noqa: B008, it is frozen
    ) -> None:
        super().__init__()
        self.config = config
        self.processes = processes
        classes = len(counts)
        self.network = Network(config.model, classes, config.data.image_size, *normalisation)
        self.network.to(memory_format=torch.channels_last)
        self.network.computing.compiled = config.trainer.compile
        self.network.freeze(len(self.network.stages) if config.finetune.name == "head" else 0)
        weights = class_weights(counts) if config.loss.class_weights == "balanced" else None
        self.criterion = nn.CrossEntropyLoss(weights, label_smoothing=config.loss.label_smoothing)
        self.mix = batch_transform(config.augment, classes)
        self.train_loss, self.train_accuracy = MeanOverPhotos(), MeanOverPhotos()
        self.validation = ValidationFigures(classes)
        self._reported_epoch = -1

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout and mixing then depend on the place in training alone, so a resumed run repeats them.
        place: list[int | str] = ["step", self.current_epoch, batch_idx]
        if not self.processes.first:
            place.append(self.processes.rank)
        torch.manual_seed(derived_seed(self.config.seed, *place))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        share = self._share(len(batch))
        if len(batch) == 0:
            return None
        images, targets = batch.images, batch.targets
        mixed: Tensor = targets
        if self.mix is not None and len(batch) > 1:
            images, mixed = self.mix(images.float(), targets)
        scores = self.network(channels_last(images)).float()
        loss: Tensor = self.criterion(scores, mixed)
        self.train_loss.update(loss.detach() * len(batch), len(batch))
        if self.mix is None:
            hits = (scores.detach().argmax(1) == targets).sum()
            self.train_accuracy.update(hits, len(batch))
        self._report()
        return loss * share

    def _report(self) -> None:
        """Name the epoch's figures to Lightning, once: it reads them at the end, and each naming takes time."""
        if self._reported_epoch == self.current_epoch:
            return
        self._reported_epoch = self.current_epoch
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        if self.mix is None:
            self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)

    def _share(self, count: int) -> float:
        """What makes the mean of the processes' gradients that of all their photos, however they are divided.

        Raises:
            DataError: a process without a photo, because it could read none of its share.
        """
        counts = self.processes.gather(count)
        if len(counts) > 1 and 0 in counts:
            raise DataError(
                "of one batch, a process could read none of its photos, and the others wait for it. "
                "Type check=strict to find such photos before training, and mend or remove them."
            )
        return count * len(counts) / sum(counts) if count else 1.0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if len(batch) == 0:
            return
        scores = self.network(channels_last(batch.images)).float()
        self.validation.update(scores, batch.targets)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.validation.compute())
        self.validation.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups = parameter_groups(self.network, self.config.finetune, self.config.optimizer)
        fused = fuses(groups, self.config.trainer)
        optimizer = build_optimizer(groups, self.config.optimizer, fused)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, rate_scale(self.config.schedule, steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
