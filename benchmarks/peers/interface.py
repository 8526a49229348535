"""What every peer of `benchmarks/bench.py` is: a program that reads tasks on stdin and answers each with a line of JSON.

    python benchmarks/peers/torchvision_loop.py             answers until stdin ends
    python benchmarks/peers/torchvision_loop.py TASK        trains by the JSON of one task, and ends after its first backward

What a peer prints otherwise goes to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

# The least share of its area that a random crop keeps of a photo: sagelight's default, for all.
CROP = 0.5


@dataclass(frozen=True)
class Task:
    """One measure.

    Attributes:
        measure: pipeline (epochs of training photos, loaded), frozen (the head trains), full (everything trains) or
            pure (steps on photos that lie on the device).
        root: train/, validation/ and test/, each with a folder a class.
        weights: of torchvision's resnet18, as `torch.save` and as safetensors write them: the path without its suffix.
        scratch: an empty folder for whatever the peer writes.
        device: cpu or cuda.
    """

    measure: str
    root: Path
    weights: Path
    scratch: Path
    side: int
    batch: int
    workers: int
    epochs: int
    device: str

    def line(self) -> str:
        return json.dumps(
            {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        )

    @classmethod
    def read(cls, line: str) -> Task:
        given: dict[str, Any] = json.loads(line)
        return cls(
            **{k: Path(v) if k in ("root", "weights", "scratch") else v for k, v in given.items()}
        )

    @property
    def classes(self) -> list[str]:
        return sorted(folder.name for folder in (self.root / "train").iterdir())

    @property
    def resize(self) -> int:
        """Short side before the centre crop, by the 256:224 of torchvision's recipe."""
        return round(self.side * 256 / 224)


class Clock:
    """Seconds and processor seconds, loader processes included; a peer may begin later and end earlier than its work.

    Attributes:
        notes: other figures that the peer adds to its answer.
    """

    def __init__(self) -> None:
        self.taken: tuple[float, float] | None = None
        self.notes: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        self._began = (time.perf_counter(), _processor_seconds())

    def stop(self) -> None:
        """The first call counts."""
        if self.taken is None:
            self.taken = self.elapsed()

    def elapsed(self) -> tuple[float, float]:
        seconds, processor = self._began
        return time.perf_counter() - seconds, _processor_seconds() - processor


class Peer(Protocol):
    """Loads and trains as its own documentation says; `does` tells what that was, where peers differ."""

    does: str

    def pipeline(self, task: Task, clock: Clock) -> int:
        """Load the training photos `task.epochs` times, normalised and in batches; returns how many there were."""

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        """Train for `task.epochs`; returns how many photos were trained on."""


def serve(peer: Peer) -> None:
    """Answer tasks; see the module."""
    channel = _take_stdout()
    if len(sys.argv) > 1:
        _end_after_backward(channel)
        peer.train(Task.read(sys.argv[1]), Clock(), frozen=False)
        raise RuntimeError("trained without calling Tensor.backward")
    for line in sys.stdin:
        print(json.dumps(_answer(peer, Task.read(line))), file=channel, flush=True)


def _answer(peer: Peer, task: Task) -> dict[str, Any]:
    gc.collect()
    clock = Clock()
    if task.measure == "pipeline":
        photos = peer.pipeline(task, clock)
    else:
        photos = peer.train(task, clock, frozen=task.measure == "frozen")
    clock.stop()
    assert clock.taken is not None
    seconds, processor = clock.taken
    whole, whole_processor = clock.elapsed()
    return {
        "photos": photos,
        "seconds": seconds,
        "processor_seconds": processor,
        "whole_seconds": whole,
        "whole_processor_seconds": whole_processor,
        "does": peer.does,
        **clock.notes,
    }


def _take_stdout() -> TextIO:
    """What stdout was; whatever is printed from now on, by anybody, goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _end_after_backward(channel: TextIO) -> None:
    from torch import Tensor

    backward = Tensor.backward

    def last(self: Tensor, *given: Any, **named: Any) -> None:
        backward(self, *given, **named)
        print("first batch", file=channel, flush=True)
        # Ending in order would take time that is no part of a start.
        os._exit(0)

    Tensor.backward = last  # type: ignore[method-assign]


def _processor_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + _of_living_children()


def _of_living_children() -> float:
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == os.getpid():
            ticks += sum(int(word) for word in words[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")
