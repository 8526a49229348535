"""The composition root: a configuration in, a measured bundle out."""

from __future__ import annotations

import errno
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, Strategy

from sagelight.config.resolve import NO_LOADING, Choice, Loading, guard, resolve
from sagelight.config.save import save
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO
from sagelight.data.check import enforce, inspect_data
from sagelight.data.index import ImageIndex
from sagelight.data.loading import time_loading
from sagelight.data.module import PhotoDataModule
from sagelight.data.prepare import choose_preprocessing, open_index, without
from sagelight.debugging.build import build_debugger, check_debugger
from sagelight.errors import DataError, RunError
from sagelight.features.table import FeatureDataset, cache_features
from sagelight.files import write_json
from sagelight.models.backbones import check_backbone
from sagelight.models.classifier import Classifier
from sagelight.models.network import Network
from sagelight.processes import Processes
from sagelight.profiling.profiler import build_profiler
from sagelight.progress import ShowsProgress, progress
from sagelight.training.callbacks import Watch, Watcher, build_callbacks
from sagelight.training.checkpoints import AtomicCheckpointIO
from sagelight.training.finish import finish
from sagelight.training.machine import keep_freed_memory, probe
from sagelight.training.run import FINISHED, Run, choose_run, locked, point_latest


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
            prepared = _prepare(config, processes)
            run = prepared.run
            if run.finished:
                return _already_finished(run) if processes.first else None
            if processes.first:
                _announce(config, prepared)
            model, data = build(config, prepared.index, processes)
            cache_features(config, model.network, data)
            if processes.first:
                stack.enter_context(locked(run.folder))
                stack.enter_context(_explained(run))
                _write_files(config, prepared)
                point_latest(run.folder)
            stack.enter_context(_quiet())
            watchers = [
                *build_debugger(config.debugger, run.folder),
                *build_profiler(config, run.folder),
            ]
            train(build_trainer(config, run, processes, watchers), model, data, run)
        if not processes.first:
            return None
        return Outcome(run.folder, finish(config, run, model, data, command))


def train_trial(config: Config, watch: Watcher) -> int:
    """Train one trial of a study, without measuring test or leaving a bundle; a started one is continued.

    Args:
        config: as for `fit`, with a run_dir of the trial's own; changed in place.
        watch: see `sagelight.training.callbacks.Watch`.

    Returns:
        How many photos went through a frozen backbone for it; 0 where features are not cached.

    Raises:
        SagelightError: as `fit`.
    """
    processes = Processes()
    prepared = _prepare(config, processes)
    model, data = build(config, prepared.index, processes)
    served = cache_features(config, model.network, data)
    with locked(prepared.run.folder), _explained(prepared.run), _quiet():
        _write_files(config, prepared)
        watcher = Watch(watch)
        trainer = build_trainer(config, prepared.run, processes, [watcher])
        train(trainer, model, data, prepared.run)
        watcher.tell(trainer)
    return sum(dataset.computed for dataset in served.values())


@dataclass(frozen=True)
class Frozen:
    """A network whose backbone does not train, and what it gives for every photo.

    Attributes:
        config: with every `auto` resolved.
        served: features by split.
    """

    config: Config
    network: Network
    index: ImageIndex
    served: dict[str, FeatureDataset]

    @property
    def computed(self) -> int:
        """Photos that went through the backbone now."""
        return sum(dataset.computed for dataset in self.served.values())


def prepare_frozen(config: Config, show: ShowsProgress = progress) -> Frozen:
    """Everything that `fit` does before the first epoch of a head on cached features, writing no run.

    Raises:
        SagelightError: as `fit`.
    """
    prepared = _prepare(config, Processes())
    model, data = build(config, prepared.index, Processes())
    served = cache_features(config, model.network, data, show)
    return Frozen(config, model.network, prepared.index, served)


@dataclass(frozen=True)
class _Prepared:
    index: ImageIndex
    checked: dict[str, Any]
    choices: list[Choice]
    run: Run
    folder_was_auto: bool


def _prepare(config: Config, processes: Processes) -> _Prepared:
    """Decide everything, writing nothing, and fill in `config`; the same in every process."""
    check_backbone(config.model.backbone)
    index, checked = processes.once(lambda: _inspected(config))
    if config.data.root is not None:
        # Every machine reads its own copy of the photos.
        index = replace(index, root=Path(config.data.root))
    machine = probe()
    machine = replace(machine, cores=max(1, machine.cores // processes.local_size))
    folder_was_auto = config.run_dir == AUTO
    loading = processes.once(lambda: _loading(config, index, machine.cores))
    choices = resolve(config, machine, len(index.splits["train"]), loading)
    run = processes.once(lambda: choose_run(config, folder_was_auto, index.fingerprint))
    config.run_dir, config.resume = run.folder.as_posix(), str(run.checkpoint or "off")
    guard(config)
    return _Prepared(index, checked, choices, run, folder_was_auto)


def _inspected(config: Config) -> tuple[ImageIndex, dict[str, Any]]:
    index = open_index(config.data)
    if config.check == "off":
        return index, {"fingerprint": index.fingerprint}
    report = inspect_data(index, full=False)
    enforce(report, config.check)
    return without(index, set(report.unreadable)), report.to_dict()


def _loading(config: Config, index: ImageIndex, cores: int) -> Loading:
    if cores < 2 or AUTO not in (config.data.num_workers, config.data.prefetch):
        return NO_LOADING
    preprocessing = choose_preprocessing(replace(config.data, normalize="imagenet"), index)
    data = PhotoDataModule(index, config.data, config.augment, preprocessing, config.seed)
    return time_loading(data.photos("train"), config.seed)


def _write_files(config: Config, prepared: _Prepared) -> None:
    folder = prepared.run.folder
    save(config, folder / "config.yaml")
    write_json(folder / "check.json", prepared.checked)


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
        index, config.data, config.augment, preprocessing, config.seed, processes
    )
    normalisation = (preprocessing.mean, preprocessing.std)
    return Classifier(config, index.counts("train"), normalisation, processes), data


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
        callbacks=[*build_callbacks(config, run.folder), *watchers],
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
    # DDP meets all parameters while none is frozen; later stages are, until their turn comes.
    return DDPStrategy(find_unused_parameters=config.finetune.name == "gradual")


def build_loggers(config: Config, folder: Path) -> list[Logger]:
    """TensorBoard and MLflow, as chosen; metrics.csv is written by a callback.

    Raises:
        RunError: a logger whose package is not installed.
    """
    loggers: list[Logger] = []
    if config.logger.tensorboard:
        from pytorch_lightning.loggers import TensorBoardLogger

        loggers.append(
            _optional("tensorboard", lambda: TensorBoardLogger(folder, "", "tensorboard"))
        )
    if config.logger.mlflow:
        from pytorch_lightning.loggers import MLFlowLogger

        loggers.append(
            _optional(
                "mlflow",
                lambda: MLFlowLogger(config.name, folder.name, config.logger.mlflow_uri),
            )
        )
    return loggers


def _optional(extra: str, build: Callable[[], Logger]) -> Logger:
    try:
        return build()
    except ModuleNotFoundError as error:
        raise RunError(
            f"logger={extra} needs a package that is not installed. "
            f"Type pip install 'sagelight[{extra}]', or logger=csv."
        ) from error


def _announce(config: Config, prepared: _Prepared) -> None:
    run = prepared.run
    doing = f"continuing from {run.checkpoint}" if run.checkpoint else "training"
    print(f"{run.folder}: {doing} {config.model.backbone}, finetune={config.finetune.name}")
    for choice in prepared.choices:
        if choice.name != "run_dir":
            print(f"  auto: {choice.name}={choice.value} ({choice.reason})")
    if run.checkpoint == run.best:
        print("  last.ckpt is cut off, so training goes on from the best epoch")
    if run.checkpoint and prepared.folder_was_auto:
        print("  unfinished, and of the same configuration and photos; resume=off starts anew")
    if config.finetune.name == "head" and config.model.weights == "none":
        print("  warning: finetune=head with model.weights=none trains a head on random features")
    sys.stdout.flush()


def _already_finished(run: Run) -> Outcome:
    print(f"{run.folder} is finished already; resume=off with another run_dir trains again")
    return Outcome(run.folder, json.loads((run.folder / FINISHED).read_text(encoding="utf-8")))


@contextmanager
def _explained(run: Run) -> Iterator[None]:
    """Turn a failing disk into an error that says what is safe."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        safe = run.folder / "checkpoints" / "last.ckpt"
        kept = f"{safe} is whole" if safe.is_file() else "no epoch was finished yet"
        raise RunError(
            f"{error.filename or run.folder} could not be written: {error.strerror}; {kept}. "
            "Make room, then repeat the same command to continue."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from saying what the run has said already, or what it decided on purpose."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
_EXPECTED_WARNINGS = (
    # data.num_workers was chosen, by the person or by `auto`.
    r".*does not have many workers.*",
    # Small data sets have few batches.
    r".*The number of training batches .* is smaller than the logging interval.*",
    # The folder holds last.ckpt, because the run is continued.
    r".*Checkpoint directory .* exists and is not empty.*",
    # A batch in which no photo could be read; UnreadablePhotos has named them.
    r".*`training_step` returned `None`.*",
    # resume=PATH goes on in a folder of its own.
    r".*The dirpath has changed from.*",
    # The validation figures are computed from all processes' photos before they are logged.
    r".*sync_dist=True.*",
    # finetune=head keeps the backbone in eval mode.
    r".*module\(s\) in eval mode at the start of training.*",
    # Lightning 2.6 uses what torch 2.14 has deprecated.
    r".*isinstance\(treespec, LeafSpec\).*",
)
