"""The composition root: a configuration in, a measured bundle out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy, Strategy

from sagelight.config.schema import Config
from sagelight.data.index import ImageIndex
from sagelight.data.module import PhotoDataModule
from sagelight.data.prepare import choose_preprocessing
from sagelight.debugging.build import build_debugger, check_debugger
from sagelight.errors import DataError
from sagelight.features.table import cache_features
from sagelight.models.classifier import Classifier
from sagelight.processes import Processes
from sagelight.profiling.profiler import build_profiler
from sagelight.training.callbacks import build_callbacks
from sagelight.training.checkpoints import AtomicCheckpointIO, bring_checkpoints
from sagelight.training.finish import finish
from sagelight.training.loggers import build_loggers
from sagelight.training.machine import keep_freed_memory
from sagelight.training.one import OneState, StopAtOnce
from sagelight.training.prepare import announce, prepare, write_files
from sagelight.training.quiet import explained, quiet
from sagelight.training.run import Run, locked, point_latest
from sagelight.training.sharding import ShardedClassifier, ShardedStrategy, is_sharded


@dataclass(frozen=True)
class Outcome:
    """What a run came to: its directory and the figures of metrics.json."""

    folder: Path
    metrics: dict[str, float]


def fit(config: Config, command: str = "") -> Outcome | None:
    """Train, measure and bundle a classifier, as `config` says; `auto` values are filled in.

    Started by torchrun, the processes train one classifier together; data.batch_size is that of all of them.

    Args:
        config: as from `sagelight.config.compose.compose`; changed in place.
        command: what the person typed, for the report and the bundle's provenance.

    Returns:
        What the run came to; None in every process but the first.

    Raises:
        SagelightError: anything that the person can mend; nothing half-written is left under a final name.
        KeyboardInterrupt: on Ctrl-C, after last.ckpt is safe.
        SystemExit: in every process but the first, when that one refuses.
    """
    processes = Processes.here()
    with ExitStack() as stack:
        with processes.joined():
            check_debugger(config.debugger)
            prepared = prepare(config, processes)
            run = prepared.run
            if run.metrics is not None:
                return _already_finished(run.folder, run.metrics) if processes.first else None
            if processes.first:
                announce(config, prepared, processes)
            model, data = build(config, prepared.index, processes)
            cache_features(config, model.network, data)
            if processes.first:
                stack.enter_context(locked(run.folder))
                stack.enter_context(explained(run))
                write_files(config, prepared)
                bring_checkpoints(run)
                point_latest(run.folder)
            stack.enter_context(quiet())
            watchers = [
                *build_debugger(config.debugger, run.folder, whole=not is_sharded(model)),
                *build_profiler(config, run.folder),
            ]
            train(build_trainer(config, run, processes, watchers), model, data, run)
        if not processes.first:
            return None
        if is_sharded(model):
            # Of the trained one, this process has a part.
            model = build_model(config, data)
        return Outcome(run.folder, finish(config, run, model, data, command))


def build(
    config: Config, index: ImageIndex, processes: Processes
) -> tuple[Classifier, PhotoDataModule]:
    """The network as it starts, from `config.seed`, and the photos for it."""
    if config.trainer.accelerator == "cpu":
        keep_freed_memory()
    # PyTorch's deterministic mode would also fill every new tensor with NaN, which costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    pl.seed_everything(config.seed, workers=False, verbose=False)
    preprocessing = choose_preprocessing(config.data, index)
    data = PhotoDataModule(
        index,
        config.data,
        config.augment,
        preprocessing,
        config.seed,
        processes,
        # A head's figures are the same whether its features are computed once or anew.
        exact_validation=config.finetune.name == "head",
    )
    data.open_cache()
    if processes.size > 1 and config.trainer.strategy == "fsdp":
        return build_model(config, data, processes, ShardedClassifier), data
    return build_model(config, data, processes), data


def build_model(
    config: Config,
    data: PhotoDataModule,
    processes: Processes = Processes(),  # noqa: B008, it is frozen
    kind: type[Classifier] = Classifier,
) -> Classifier:
    """The network for the photos of `data`, as it starts."""
    normalisation = (data.preprocessing.mean, data.preprocessing.std)
    return kind(config, data.index.counts("train"), normalisation, processes)


def build_trainer(
    config: Config, run: Run, processes: Processes, watchers: Sequence[Callback] = ()
) -> pl.Trainer:
    """Lightning's Trainer, with everything that it would write or say on its own turned off."""
    settings = config.trainer
    # CUDA has operations without a deterministic form in every backbone; there it can only prefer one.
    deterministic = "warn" if settings.accelerator == "cuda" else True
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=processes.local_size,
        num_nodes=processes.machines,
        strategy=_strategy(config, processes),
        # BatchNorm on a GPU's share of a batch alone would make the result depend on the number of GPUs.
        sync_batchnorm=processes.size > 1 and settings.accelerator == "cuda",
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=settings.max_epochs,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val or None,
        limit_train_batches=settings.limit_train_batches or 1.0,
        limit_val_batches=settings.limit_val_batches or 1.0,
        deterministic=deterministic if settings.deterministic else False,  # type: ignore[arg-type]
        callbacks=[*build_callbacks(config, run.folder), *_together(processes), *watchers],
        plugins=[AtomicCheckpointIO(processes)],
        logger=build_loggers(config, run.folder),
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
        use_distributed_sampler=False,
        default_root_dir=run.folder,
    )


def train(trainer: pl.Trainer, model: Classifier, data: PhotoDataModule, run: Run) -> None:
    """Fit, from the run's checkpoint where it has one.

    Raises:
        KeyboardInterrupt: on Ctrl-C; what was finished by then is in last.ckpt.
        DataError: a validation split without a single readable photo.
    """
    try:
        trainer.fit(model, data, ckpt_path=run.checkpoint, weights_only=True)
    except SystemExit as stop:
        # Lightning ends the process on Ctrl-C; the caller decides what an interrupted run means.
        raise KeyboardInterrupt from stop
    if trainer.is_global_zero and not run.best.is_file():
        raise DataError("no validation photo could be read, so no epoch can be called the best.")


def _strategy(config: Config, processes: Processes) -> Strategy | str:
    if processes.size == 1:
        return "auto"
    if config.trainer.strategy == "fsdp":
        return ShardedStrategy(processes.size)
    # DDP meets all parameters while none is frozen; later stages are, until their turn comes.
    return DDPStrategy(
        find_unused_parameters=config.finetune.name == "gradual", gradient_as_bucket_view=True
    )


def _together(processes: Processes) -> list[Callback]:
    return [OneState(), StopAtOnce()] if processes.size > 1 else []


def _already_finished(folder: Path, metrics: dict[str, float]) -> Outcome:
    print(f"{folder} is finished already; resume=off with another run_dir trains again")
    return Outcome(folder, metrics)
