"""Everything that is decided before a network exists: photos, every `auto`, the run's folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

from sagelight.config.resolve import (
    NO_LOADING,
    NO_SIZES,
    Choice,
    Loading,
    PhotoSizes,
    guard,
    resolve,
    resolved_resize_size,
)
from sagelight.config.save import save, saved_values
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO, assign, lookup
from sagelight.cores import usable_cores
from sagelight.data.check import enforce, inspect_data
from sagelight.data.index import ImageIndex
from sagelight.data.loading import time_loading
from sagelight.data.module import PhotoDataModule
from sagelight.data.prepare import choose_preprocessing, open_index, without
from sagelight.data.resized_store import resized_store
from sagelight.data.resizing import measure_sizes
from sagelight.files import write_json
from sagelight.models.backbones import check_backbone
from sagelight.processes import Processes
from sagelight.training.machine import probe
from sagelight.training.run import Run, choose_run

# What results depend on, and another machine, a fuller disk or a second timing may decide otherwise.
BY_MACHINE = ("data.cache", "trainer.precision")


@dataclass(frozen=True)
class Prepared:
    index: ImageIndex
    checked: dict[str, Any]
    choices: list[Choice]
    run: Run
    folder_was_auto: bool


def prepare(config: Config, processes: Processes) -> Prepared:
    """Decide everything, writing nothing, and fill in `config`; the same in every process."""
    check_backbone(config.model.backbone)
    index, checked = processes.once(lambda: _inspected(config))
    if config.data.root is not None:
        # Every machine reads its own copy of the photos.
        index = index.moved(config.data.root)
    # All processes compute as the first one does, whatever another would find faster.
    machine = processes.once(lambda: probe(timed=config.trainer.precision == AUTO))
    cores = max(1, usable_cores() // processes.local_size)
    machine = replace(machine, cores=cores, processes=processes)
    folder_was_auto = config.run_dir == AUTO
    decided = [name for name in BY_MACHINE if lookup(config, name) == AUTO]
    loading = processes.once(lambda: _loading(config, index, machine.cores))
    sizes = processes.once(lambda: _sizes(config, index))
    choices = resolve(config, machine, len(index.splits["train"]), loading, sizes)
    run, before = processes.once(lambda: _chosen_run(config, folder_was_auto, index, decided))
    config.run_dir, config.resume = run.folder.as_posix(), str(run.checkpoint or "off")
    for name, value in before.items():
        assign(config, name, value)
    choices = [_as_before(choice, before) for choice in choices]
    guard(config)
    return Prepared(index, checked, choices, run, folder_was_auto)


def _chosen_run(
    config: Config, folder_was_auto: bool, index: ImageIndex, decided: list[str]
) -> tuple[Run, dict[str, Any]]:
    """The run, and what was decided for it when it began: results depend on that, and it is not decided twice."""
    run = choose_run(config, folder_was_auto, index.fingerprint, decided)
    values = saved_values(run.folder) or {}
    before = {}
    for name in decided:
        group, _, key = name.partition(".")
        if key in values.get(group, {}):
            before[name] = values[group][key]
    return run, before


def _as_before(choice: Choice, before: dict[str, Any]) -> Choice:
    if before.get(choice.name, choice.value) == choice.value:
        return choice
    return Choice(choice.name, before[choice.name], "as when this run began")


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
    return time_loading(data.photos("train"), config.seed, first=index.shards is not None)


def _sizes(config: Config, index: ImageIndex) -> PhotoSizes:
    data = config.data
    if data.cache != AUTO or index.shards is not None:
        return NO_SIZES
    resize_size = resolved_resize_size(data.resize_size, data.image_size)
    return measure_sizes(index, resize_size, resized_store(data))


def write_files(config: Config, prepared: Prepared) -> None:
    folder = prepared.run.folder
    save(config, folder / "config.yaml")
    write_json(folder / "check.json", prepared.checked)


def announce(config: Config, prepared: Prepared, processes: Processes) -> None:
    run = prepared.run
    doing = f"continuing from {run.checkpoint}" if run.checkpoint else "training"
    shared = (
        f", {processes.size} processes ({config.trainer.strategy})" if processes.size > 1 else ""
    )
    print(f"{run.folder}: {doing} {config.model.backbone}, finetune={config.finetune.name}{shared}")
    for choice in prepared.choices:
        if choice.name != "run_dir":
            print(f"  auto: {choice.name}={choice.value} ({choice.reason})")
    if run.why:
        print(f"  {run.why}")
    if run.checkpoint and prepared.folder_was_auto:
        print("  unfinished, and of the same configuration and photos; resume=off starts anew")
    if config.finetune.name == "head" and config.model.weights == "none":
        print("  warning: finetune=head with model.weights=none trains a head on random features")
    if shared and config.trainer.strategy == "fsdp" and config.debugger.sink != "off":
        print(
            "  debugger: no process has whole weights or gradients, so rules about those see none"
        )
    sys.stdout.flush()
