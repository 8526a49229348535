"""From Lightning's steps to a trial in smdebug's layout.

A step of mode TRAIN is a training batch; one of mode EVAL is a whole validation. Steps go on when a run is continued.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sagelight.data.dataset import Batch
from sagelight.debugging.capture import Attached, Captured
from sagelight.debugging.hook_config import (
    Collection,
    HookConfig,
    default_hook_config,
    read_hook_config,
)
from sagelight.debugging.records import Place
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.writer import TrialWriter
from sagelight.models.classifier import Classifier

LOSS = "CrossEntropyLoss_output_0"
LABELS, PREDICTIONS = "labels", "predictions"
TRAIN, EVAL = "TRAIN", "EVAL"


@dataclass
class Status:
    """What the bridge has done.

    Attributes:
        sink: who writes the trial: `trial` or `smdebug`.
        folder: of the trial.
        saved: steps written, by mode.
        bytes: written to the disk.
        stopped: why watching ended before the training did; empty where it did not.
    """

    sink: str
    folder: str
    saved: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    stopped: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Bridge(Callback):
    """Writes losses, weights, gradients and what rules need of the activations, in the steps that are due.

    The network carries hooks only while such a step runs. Between steps, after an exception and after training it is
    as if nobody had looked: it can be copied, exported and pickled.

    Attributes:
        opened: whether there is a trial of this run to judge.
    """

    def __init__(self, settings: DebuggerSettings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.status = Status("trial", str(folder))
        self._config: HookConfig | None = None
        self._writer: TrialWriter | None = None
        self._members: dict[str, set[str]] = {}
        self._steps = {TRAIN: 0, EVAL: 0}
        self._captured: Captured | None = None
        self._attached: Attached | None = None
        self._validation = _Validation()
        self._looked = False
        self.opened = False

    def state_dict(self) -> dict[str, Any]:
        return {"steps": dict(self._steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps = {mode: int(step) for mode, step in state_dict["steps"].items()}

    @property
    def saved_now(self) -> bool:
        """Whether the last training step was one to leave more than its loss; the same in every process."""
        return self._looked

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._config = self._read(trainer)
        rank, processes = trainer.global_rank, trainer.world_size
        if rank and self._config.workers == "one":
            return
        workers = processes if self._config.workers == "all" else 1
        goes_on = any(self._steps.values())
        if not goes_on and self._config.folder is None and trainer.is_global_zero:
            # What a run left that was killed before its first checkpoint; it starts anew.
            shutil.rmtree(self.folder, ignore_errors=True)
        assert isinstance(pl_module, Classifier)
        self._warn_of_size(trainer, pl_module.network)
        with _Watched(self):
            self._writer = TrialWriter(self.folder, f"worker_{rank}", workers, goes_on or rank > 0)
        self.opened = self._writer is not None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._captured = None
        due = self._due(trainer, batch_idx)
        self._looked = any(each.name not in _FREQUENT for each in due)
        if due and self._writer is not None and len(batch) > 0:
            assert isinstance(pl_module, Classifier)
            self._captured = Captured(due)
            self._attached = Attached(pl_module.network, self._captured)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self._attached is not None:
            self._attached.look_before_step()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        attached, captured = self._attached, self._captured
        if attached is not None and captured is not None:
            assert isinstance(pl_module, Classifier)
            attached.look_after_step()
            self._detach()
            if attached.scores is not None:
                loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
                _keep_figures(captured, pl_module, attached.scores.float(), batch, loss)
            self._write(TRAIN, captured)
        self._steps[TRAIN] += 1

    def meet_bad_loss(self, loss: Tensor) -> None:
        """Keep a loss that ends the training before its step does."""
        self._detach()
        if self._config is not None:
            captured = Captured(
                [each for each in self._config.collections if each.name == "losses"]
            )
            captured.keep(LOSS, loss.detach())
            self._write(TRAIN, captured)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._writer is not None and self._config is not None and not trainer.sanity_checking:
            assert isinstance(pl_module, Classifier)
            if self._config.due(EVAL, self._steps[EVAL]):
                self._validation.attach(pl_module.network)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._validation.meet(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._validation.attached and self._config is not None:
            captured = Captured(self._config.due(EVAL, self._steps[EVAL]))
            loss = trainer.callback_metrics.get("val/loss")
            if loss is not None:
                captured.keep(LOSS, loss)
            self._validation.keep(captured)
            self._write(EVAL, captured)
        self._validation.detach()
        self._steps[EVAL] += 1

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def _read(self, trainer: pl.Trainer) -> HookConfig:
        typed = self.settings.hook_config
        if typed is None:
            return default_hook_config(self.settings, int(trainer.num_training_batches))
        config = read_hook_config(Path(typed))
        if config.folder is not None:
            self.folder = config.folder
            self.status.folder = str(config.folder)
        return config

    def _due(self, trainer: pl.Trainer, batch_idx: int) -> list[Collection]:
        """What is saved in this batch; where gradients of several batches are summed, also what was due in those
        before it.
        """
        assert self._config is not None
        step, every = self._steps[TRAIN], trainer.accumulate_grad_batches
        due = self._config.due(TRAIN, step)
        if every == 1:
            return due
        last = (batch_idx + 1) % every == 0 or batch_idx + 1 == trainer.num_training_batches
        if not last:
            return [each for each in due if each.name in _FREQUENT]
        for earlier in range(max(0, step - batch_idx % every), step):
            due += [each for each in self._config.due(TRAIN, earlier) if each not in due]
        return due

    def _write(self, mode: str, captured: Captured) -> None:
        if self._writer is None or not captured.arrays:
            return
        place = Place(sum(self._steps.values()), mode, self._steps[mode])
        with _Watched(self):
            self._note(captured)
            self.status.bytes += self._writer.write(place, captured.arrays)
            self.status.saved[mode] = self.status.saved.get(mode, 0) + 1

    def _note(self, captured: Captured) -> None:
        """Tell the trial's collections of names that they do not know."""
        new = False
        for name, tensors in captured.members.items():
            known = self._members.setdefault(name, set())
            new = new or not tensors <= known
            known |= tensors
        if new and self._writer is not None and self._config is not None:
            reductions = {each.name: each.reductions for each in self._config.collections}
            self._writer.collections(self._members, reductions)

    def _warn_of_size(self, trainer: pl.Trainer, network: nn.Module) -> None:
        """Say before the first step what whole tensors will take on the disk."""
        assert self._config is not None
        if not trainer.is_global_zero:
            return
        whole = [each for each in self._config.collections if not each.reductions]
        size, root = 0, type(network).__name__
        for name, parameter in network.named_parameters():
            named = [f"{prefix}{root}_{name}" for prefix in ("", "gradient/", "update/")]
            taken = sum(any(each.takes(n) for each in whole) for n in named)
            size += taken * parameter.numel() * 4 * parameter.requires_grad
        if size:
            total = int(trainer.estimated_stepping_batches) * trainer.accumulate_grad_batches
            saves = sum(
                any(each.name not in _FREQUENT for each in self._config.due(TRAIN, step))
                for step in range(total)
            )
            print(
                f"debugger: whole tensors take {size / 1e6:.0f} MB a time, {saves} times: "
                f"{size * saves / 1e9:.1f} GB in {self.folder}"
            )

    def _detach(self) -> None:
        if self._attached is not None:
            self._attached.detach()
            self._attached = None

    def _close(self) -> None:
        self._detach()
        self._validation.detach()
        writer, self._writer = self._writer, None
        if writer is not None:
            with _Watched(self):
                writer.close()

    def give_up(self, error: OSError) -> None:
        """Stop watching, and say so; training goes on."""
        self._detach()
        self._validation.detach()
        self._writer = None
        self.status.stopped = f"{error.filename or self.folder}: {error.strerror}"
        print(f"debugger: watching stops, training goes on: {self.status.stopped}", file=sys.stderr)


class _Watched:
    """A disk that fails ends the watching, not the training."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, OSError):
            self._bridge.give_up(error)
            return True
        return False


class _Validation:
    """Labels and predictions of one validation."""

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None
        self._scores: Tensor | None = None
        self._labels: list[Tensor] = []
        self._predictions: list[Tensor] = []

    @property
    def attached(self) -> bool:
        return self._handle is not None

    def attach(self, network: nn.Module) -> None:
        self.detach()
        self._handle = network.register_forward_hook(self._meet_scores)

    def _meet_scores(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._scores = output.detach()

    def meet(self, batch: Batch) -> None:
        if self._scores is not None:
            self._labels.append(batch.targets)
            self._predictions.append(self._scores.argmax(dim=1))
            self._scores = None

    def keep(self, captured: Captured) -> None:
        if self._labels:
            captured.keep(LABELS, _ids(torch.cat(self._labels)))
            captured.keep(PREDICTIONS, _ids(torch.cat(self._predictions)))

    def detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._scores = None
        self._labels, self._predictions = [], []


_FREQUENT = ("losses", LABELS, PREDICTIONS)


def _keep_figures(
    captured: Captured, model: Classifier, scores: Tensor, batch: Batch, optimised: Tensor
) -> None:
    """Loss, labels and predictions of a training batch.

    The loss is plain cross-entropy, as validation's, so that the two compare; of mixed photos it is the one that is
    optimised, because they have no one label.
    """
    if model.mix is None:
        captured.keep(LOSS, nn.functional.cross_entropy(scores, batch.targets))
        captured.keep(LABELS, _ids(batch.targets))
        captured.keep(PREDICTIONS, _ids(scores.argmax(dim=1)))
    else:
        captured.keep(LOSS, optimised)


def _ids(classes: Tensor) -> Tensor:
    return classes.to(torch.int32)
