"""What a process of the pool does. It imports torch and Lightning; the processes are forked when that is done."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch

from sagelight.config.compose import compose
from sagelight.config.resolve import resolve
from sagelight.config.schema import Config
from sagelight.errors import SagelightError, first_line
from sagelight.features.heads import Features, HeadTrial, train_heads
from sagelight.features.table import weights_digest
from sagelight.forking import end_with_parent
from sagelight.processes import collect_as_usual
from sagelight.progress import ShowsProgress
from sagelight.training.machine import probe
from sagelight.training.together import processes_to_start, together
from sagelight.training.trials import Frozen, prepare_frozen, train_trial
from sagelight.tuning.pool import Computed, Doing, Ended, Epoch, Task

# Settings of the data that say how it is drawn, not what it is.
LOADING = ("batch_size", "eval_batch_size", "num_workers", "prefetch", "pin_memory", "sampler")
LOGS = "logs"
SECONDS_BETWEEN_WORDS = 0.5
T = TypeVar("T")


def work(connection: Connection, task: Task) -> None:
    """Do a task, telling the parent each epoch and each end; ends quietly when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_as_usual()
    # Whoever is left without a parent would train for nobody, and hold the trial's folder.
    end_with_parent()
    _log_into(task.folder / LOGS / f"{task.trials[0][0] + 1}.txt")
    torch.set_num_threads(task.threads)
    try:
        {"features": _features, "heads": _heads, "fit": _fit}[task.kind](connection, task)
    except (BrokenPipeError, ConnectionResetError, EOFError):
        os._exit(0)
    except Exception as error:
        traceback.print_exc()
        reason = str(error) if isinstance(error, SagelightError) else _named(error)
        # Where features cannot be computed, the trials that need them meet the same fault, and say so.
        if task.kind != "features":
            for number, _ in task.trials:
                connection.send(Ended(number, reason))
    sys.stdout.flush()


def _fit(connection: Connection, task: Task) -> None:
    ((number, overrides),) = task.trials
    count = processes_to_start(compose(overrides))
    if count > 1:
        computed = together(count, _train_trial, overrides, connection, number)
    else:
        computed = _train_trial(overrides, connection, number)
    connection.send(Computed(computed))
    connection.send(Ended(number))


def _train_trial(overrides: Sequence[str], connection: Connection, number: int) -> int:
    return train_trial(compose(overrides), _watch(connection, number))


def _features(connection: Connection, task: Task) -> None:
    computed = sum(
        prepare_frozen(compose(words), _telling(connection)).computed for _, words in task.trials
    )
    connection.send(Computed(computed))


def _heads(connection: Connection, task: Task) -> None:
    groups: dict[str, tuple[list[HeadTrial], Frozen]] = {}
    known: dict[str, tuple[str, Frozen]] = {}
    for number, overrides in task.trials:
        config = compose(overrides)
        start = _beginning(config)
        if start not in known:
            frozen = prepare_frozen(config, _telling(connection))
            connection.send(Computed(frozen.computed))
            known[start] = weights_digest(frozen.network), frozen
        # Random backbones of different seeds are different backbones.
        backbone, frozen = known[start]
        if not all(dataset.whole for dataset in frozen.served.values()):
            # What could not be read is left out of each batch, which a batch of heads does not do.
            _fit(connection, replace(task, kind="fit", trials=((number, overrides),)))
            continue
        resolve(config, probe(), len(frozen.index.splits["train"]))
        trial = HeadTrial(number, config, frozen.network.head)
        groups.setdefault(backbone, ([], frozen))[0].append(trial)
    for trials, frozen in groups.values():
        _train_batch(connection, trials, frozen)


def _beginning(config: Config) -> str:
    """What decides the network as it starts and the features."""
    data = {k: v for k, v in asdict(config.data).items() if k not in LOADING}
    model = {k: v for k, v in asdict(config.model).items() if k != "dropout"}
    return repr(
        (config.seed, data, model, config.augment, config.features, config.trainer.precision)
    )


def _train_batch(connection: Connection, trials: Sequence[HeadTrial], frozen: Frozen) -> None:
    best: dict[int, float] = {}
    configs = {trial.number: trial.config for trial in trials}

    def watch(number: int, row: dict[str, float]) -> bool:
        config = configs[number]
        if not math.isfinite(row["train/loss"]):
            connection.send(Ended(number, f"the training loss is {row['train/loss']}: diverged"))
            return True
        better = min if config.hpo.mode == "min" else max
        value = row[config.hpo.metric]
        if math.isfinite(value):
            best[number] = better(best.get(number, value), value)
            row = {**row, "objective": best[number]}
        connection.send(Epoch(number, row))
        stop = bool(connection.recv())
        if stop or row["epoch"] >= config.trainer.max_epochs:
            connection.send(Ended(number))
        return stop

    train_heads(trials, _tensors(frozen), watch)


def _tensors(frozen: Frozen) -> Features:
    index, served = frozen.index, frozen.served
    targets = {
        split: torch.tensor([sample.target for sample in index.splits[split]])
        for split in ("train", "validation")
    }
    device = torch.device(frozen.config.trainer.accelerator)
    return Features(
        served["train"].tensor().to(device),
        targets["train"].to(device),
        served["validation"].tensor()[0].to(device),
        targets["validation"].to(device),
        index.counts("train"),
    )


def _telling(connection: Connection) -> ShowsProgress:
    def show(items: Iterable[T], total: int, label: str) -> Iterator[T]:
        last = 0.0
        for done, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - last > SECONDS_BETWEEN_WORDS:
                last = time.monotonic()
                connection.send(Doing(label, done, total))

    return show


def _watch(connection: Connection, number: int) -> Callable[[dict[str, float]], bool]:
    def watch(row: dict[str, float]) -> bool:
        connection.send(Epoch(number, row))
        return bool(connection.recv())

    return watch


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _log_into(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
