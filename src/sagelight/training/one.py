"""What makes several processes one training: the same state where it is measured, and one end."""

from __future__ import annotations

import pytorch_lightning as pl
import torch.distributed
from pytorch_lightning.callbacks import Callback

from sagelight.models.classifier import Classifier
from sagelight.processes import stop_at_sigterm


class OneState(Callback):
    """Before photos are shared out for measuring, all processes take the first one's BatchNorm statistics.

    Those are what its checkpoint holds. On GPUs, where the statistics are of all photos, they are the same already.
    """

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        for buffer in pl_module.network.buffers():
            torch.distributed.broadcast(buffer, src=0)


class StopAtOnce(Callback):
    """SIGTERM, as a service stops a job, ends each process as Ctrl-C ends one."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has put its own handler there, and takes it away at the end.
        stop_at_sigterm()
