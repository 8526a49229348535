"""What the processes of tests do together; they find it by its name."""

from __future__ import annotations

import os
import signal
import sys

from sagelight.config.compose import compose
from sagelight.errors import DataError
from sagelight.processes import Processes
from sagelight.training.fit import build, build_trainer
from sagelight.training.prepare import prepare
from sagelight.training.quiet import quiet

NAMES = ("val/loss", "val/accuracy", "val/top5_accuracy", "val/macro_f1")


def measured(photos: str, batch: int, strategy: str) -> dict[str, float]:
    """The figures of validation by an untrained network, of all processes together."""
    config = compose(
        [
            "experiment=smoke",
            "model=resnet18",
            "data=folder",
            f"data.root={photos}",
            "data.image_size=32",
            "data.batch_size=8",
            f"data.eval_batch_size={batch}",
            "data.num_workers=0",
            "trainer.precision=32-true",
            "trainer.limit_val_batches=null",
            f"trainer.strategy={strategy}",
            "debugger=off",
            "profiler=off",
            "run_dir=run",
        ]
    )
    processes = Processes.here()
    with processes.joined():
        prepared = prepare(config, processes)
        model, data = build(config, prepared.index, processes)
        trainer = build_trainer(config, prepared.run, processes)
        trainer.callbacks = [c for c in trainer.callbacks if "Checkpoint" not in type(c).__name__]  # type: ignore[attr-defined]
        with quiet():
            (found,) = trainer.validate(model, data, verbose=False)
    return {name: float(found[name]) for name in NAMES}


def ended(how: str) -> int:
    """The last process ends as said; the first waits for it."""
    processes = Processes.here()
    with processes.joined():
        if processes.rank == processes.size - 1:
            if how == "refusal":
                raise DataError("this photo is broken. Mend it.")
            if how == "fault":
                raise ZeroDivisionError("ours")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "exit":
                sys.exit(3)
        processes.gather(1)
    return 7


def counted(base: int) -> tuple[int, int]:
    processes = Processes.here()
    with processes.joined():
        return base + sum(processes.gather(processes.rank)), processes.size
