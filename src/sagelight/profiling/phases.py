"""Writes where the time of each training step goes, and of what happens between the steps.

`steps.<node>.<rank>.jsonl` holds a line for each start of the training (`Start`), each step, validation and checkpoint:
{"kind": "step", "epoch": 0, "batch": 3, "t": 1591160699.45, "data": 0.01, "forward": ...}, in seconds; `t` is when it
began, in seconds since 1970. `StepTimes` says what each of them is. A continued run goes on with the same file.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sagelight.profiling.clock import PHASES, SCHEDULED, StepTimes
from sagelight.profiling.lines import Watching, append

SECONDS_BETWEEN_WRITES = 2.0


@dataclass(frozen=True)
class Start:
    """What a training is when it begins, or begins again.

    Attributes:
        t: when its first step was waited for, in seconds since 1970.
        began: when the process began, or, in one that had trained before, when that training had ended.
        node, rank: machine and process, `algo-1` and 0 for a single one.
        processes: of this machine.
        cores: that they may use together.
        workers: loader processes of each.
        device: cpu, cuda or mps.
        batch_size: this process's photos in a step, on average.
        image_size: side in pixels.
        frozen: whether the backbone is.
        missing: what could not be measured, in sentences.
    """

    t: float
    began: float
    node: str
    rank: int
    processes: int
    cores: int
    workers: int
    device: str
    batch_size: float
    image_size: int
    frozen: bool
    missing: list[str]


def steps_file(node: str, rank: int) -> str:
    """Name below the profiler's folder of what a process has measured."""
    return f"steps.{node}.{rank}.jsonl"


class StepsFile:
    """Keeps lines for seconds before it writes them, so that steps do not wait for a disk."""

    def __init__(self, path: Path, watching: Watching) -> None:
        self._path, self._watching = path, watching
        self._kept: list[str] = []
        self._written = time.monotonic()

    def start(self, start: Start) -> None:
        self._kept.append(json.dumps({"kind": "start", **asdict(start)}))
        self.flush()

    def step(self, epoch: int, batch: int, times: StepTimes) -> None:
        phases = ",".join(f'"{name}":{getattr(times, name):.6f}' for name in (*PHASES, *SCHEDULED))
        self._add(
            f'{{"kind":"step","epoch":{epoch},"batch":{batch},'
            f'"t":{time.time() - times.total:.3f},{phases}}}'
        )

    def interval(self, kind: str, epoch: int, seconds: float) -> None:
        """A validation, or the writing of checkpoints, that has just ended."""
        self._add(
            f'{{"kind":"{kind}","epoch":{epoch},"t":{time.time() - seconds:.3f},'
            f'"seconds":{seconds:.6f}}}'
        )

    def flush(self) -> None:
        """Write what is kept."""
        self._written = time.monotonic()
        kept, self._kept = self._kept, []
        if self._watching.stopped:
            return
        try:
            append(self._path, kept)
        except OSError as error:
            self._watching.stop_writing(self._path, error)

    def _add(self, line: str) -> None:
        self._kept.append(line)
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self.flush()
