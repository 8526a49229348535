"""sagelight as a person gets it: the command of launch/local.py with its defaults; words after `--` are added to it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from interface import Clock, Task, serve

from sagelight.cli import main


class Sagelight:
    does = (
        "the command of launch/local.py: photos checked, watched by debugger and profiler, validation with F1 and top-5 and two "
        "checkpoints each epoch; its caches empty at the beginning; seconds end with the last epoch, before test, bundle and report"
    )

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def pipeline(self, task: Task, clock: Clock) -> int:
        """Everything of a training up to its first epoch, which only loads."""
        photos = 0

        def load(trainer: Any, model: Any, data: Any, run: Any) -> None:
            nonlocal photos
            loader = data.train_dataloader()
            clock.start()
            for _ in range(task.epochs):
                for batch in loader:
                    photos += len(model.network.normalise(batch.images))
            clock.stop()

        with mock.patch("sagelight.training.fit.train", load), _without_finish():
            self._command(task, frozen=False)
        return photos

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        from sagelight.training import fit

        finish = fit.finish

        def stopped(*given: Any) -> dict[str, float]:
            clock.stop()
            return finish(*given) if task.epochs > 1 else {}

        with mock.patch.object(fit, "finish", stopped):
            self._command(task, frozen)
        return task.epochs * sum(1 for path in (task.root / "train").glob("*/*"))

    def _command(self, task: Task, frozen: bool) -> None:
        # Features and photos that an earlier measure has kept would make this one another.
        os.environ["XDG_CACHE_HOME"] = str(_emptied(task.scratch / "cache"))
        run = _emptied(task.scratch / "run")
        words = [
            "experiment=resnet18",
            f"data.root={task.root}",
            f"data.image_size={task.side}",
            f"data.batch_size={task.batch}",
            f"data.num_workers={task.workers}",
            f"model.weights={task.weights.with_suffix('.safetensors')}",
            f"finetune={'head' if frozen else 'full'}",
            f"trainer.max_epochs={task.epochs}",
            f"run_dir={run}",
        ]
        if main([*words, *self.words]):
            raise RuntimeError("the command failed; its reason is above")


def _without_finish() -> Any:
    return mock.patch("sagelight.training.fit.finish", return_value={})


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    place = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    words, sys.argv[place:] = sys.argv[place + 1 :], []
    serve(Sagelight(words))
