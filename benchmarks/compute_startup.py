"""How long a person waits for the first batch, against what importing PyTorch and Lightning takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_IMPORTS = """
import time, torch, torchvision, pytorch_lightning
print("at", time.process_time(), time.time())
"""
# The command itself; when the loop hands out its first batch, the process says so and ends.
_FIRST_BATCH = """
import os, sys, time
from sagelight import cli
import sagelight.training.command as command

train = command._train

def watched(*given):
    import sagelight.training.fit as fitting
    from pytorch_lightning.callbacks import Callback

    class Stop(Callback):
        def on_train_batch_start(self, *_):
            print("at", time.process_time(), time.time(), flush=True)
            os._exit(0)

    build = fitting.build_trainer
    fitting.build_trainer = lambda config, run, processes, watchers: build(
        config, run, processes, [Stop(), *watchers]
    )
    return train(*given)

command._train = watched
sys.exit(cli.main(sys.argv[1:]))
"""


@dataclass
class Startup:
    """Seconds of each round, processor's and the clock's, of both."""

    imports: list[tuple[float, float]]
    first: list[tuple[float, float]]

    @property
    def median(self) -> float:
        """By processor time, which others on the machine change less than the clock."""
        return self._ratio(0)

    def _ratio(self, which: int) -> float:
        pairs = zip(self.first, self.imports, strict=True)
        return statistics.median(first[which] / imports[which] for first, imports in pairs)

    def __str__(self) -> str:
        lines = []
        for which, name in enumerate(("processor time", "by the clock")):
            imports, first = (
                statistics.median(each[which] for each in rounds)
                for rounds in (self.imports, self.first)
            )
            lines.append(
                f"  {name}: imports {imports:.2f} s, first batch {first:.2f} s, ratio {self._ratio(which):.2f}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {"imports": self.imports, "first": self.first, "ratio": self.median}


def measure_startup(photos: Path, rounds: int) -> Startup:
    """Processes in turn: one that imports, one that trains ResNet-18 with random weights on `photos`."""
    found = Startup([], [])
    words = ["train", "experiment=resnet18", "model.weights=none", f"data.root={photos.absolute()}"]
    with tempfile.TemporaryDirectory() as folder:
        # The first round only fills the disk's cache.
        for place in range(rounds + 1):
            imports, first = _timed(_IMPORTS, [], folder), _timed(_FIRST_BATCH, words, folder)
            if place:
                found.imports.append(imports)
                found.first.append(first)
    return found


def _timed(code: str, words: list[str], folder: str) -> tuple[float, float]:
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("at "))
    seconds, clock = (float(word) for word in said.split()[1:])
    return seconds, clock - began
