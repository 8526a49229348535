"""Trainings of a second each, and ways to look into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn

from sagelight.config.compose import compose
from sagelight.data.module import PhotoDataModule
from sagelight.debugging.trial import Trial
from sagelight.models.classifier import Classifier
from sagelight.training import fit as fitting
from stories.commands import TINY

SMALL = [
    *TINY, "check=off", "profiler=off", "callbacks=none", "trainer.accelerator=cpu", "trainer.max_epochs=2",
]  # fmt: skip

# What is done to a training before its first step; the network's hooks are still those of nobody.
Before = Callable[[pl.Trainer, Classifier, PhotoDataModule], None]


def train(photos: Path, folder: str, *words: str, before: Before | None = None) -> Path:
    """Train as `fit` does, leaving out what follows the last epoch; gives the run's folder."""
    with untold(), changed(before):
        fitting.fit(compose([*SMALL, f"data.root={photos}", f"run_dir={folder}", *words]))
    return Path(folder)


def trial_of(run: Path) -> Trial:
    return Trial.open(run / "debugger" / "trial")


@contextmanager
def untold() -> Iterator[None]:
    """Without measuring and bundling."""
    with mock.patch.object(fitting, "finish", return_value={}):
        yield


@contextmanager
def changed(before: Before | None) -> Iterator[None]:
    """With something done before the first step."""
    original = fitting.train

    def broken(trainer: Any, model: Classifier, data: PhotoDataModule, run: Any) -> None:
        if before is not None:
            before(trainer, model, data)
        original(trainer, model, data, run)

    with mock.patch.object(fitting, "train", broken):
        yield


def around_step(model: Classifier, look: Callable[[int, Any], None]) -> None:
    """Call `look(number, batch)` in the middle of each training step, before the network is asked."""
    step, count = model.training_step, 0

    # Lightning passes arguments by their names.
    def looked(batch: Any, batch_idx: int) -> Any:
        nonlocal count
        look(count, batch)
        count += 1
        return step(batch, batch_idx)

    model.training_step = looked  # type: ignore[method-assign]


def at_the_end_of(trainer: pl.Trainer, *callbacks: Callback) -> None:
    """Let callbacks look after all others."""
    assert isinstance(trainer.callbacks, list)  # type: ignore[attr-defined]
    trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]


_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs",
)  # fmt: skip


def traces(network: nn.Module) -> list[str]:
    """Hooks on a network's modules and parameters."""
    found = [
        f"{name}.{kind}"
        for name, module in network.named_modules()
        for kind in _HOOKS
        if getattr(module, kind)
    ]
    for name, parameter in network.named_parameters():
        for kind in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            if getattr(parameter, kind, None):
                found.append(f"{name}.{kind}")
    return found


def attributes(network: nn.Module) -> dict[str, Sequence[str]]:
    """Names of what each module and parameter carries."""
    found = {f"module {name}": sorted(vars(module)) for name, module in network.named_modules()}
    parameters = {f"parameter {n}": sorted(vars(p)) for n, p in network.named_parameters()}
    return {**found, **parameters}
