"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

PHASES = ("data", "forward", "backward", "optimizer", "other")
SCHEDULED = ("data_queued", "queued", "core")


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one step; they add up to `total`.

    Attributes:
        data: waiting for the batch, and moving it to the device.
        forward: from the batch to the loss.
        backward: gradients, and with several processes their exchange.
        optimizer: clipping and the step; 0 in a batch whose gradients are only added up.
        other: the rest, as what other callbacks do.
        data_queued, queued: how much of `data`, and of all, the process was ready to work and had no core to do it on.
        core: how much of all it was on a core; 0 where the system does not count it.
    """

    data: float
    forward: float
    backward: float
    optimizer: float
    other: float
    data_queued: float = 0.0
    queued: float = 0.0
    core: float = 0.0

    @property
    def total(self) -> float:
        return self.data + self.forward + self.backward + self.optimizer + self.other


class StepClock:
    """Marks the moments of a step, in their order; what does not happen in a step is left out.

    On CUDA a mark is the moment in which work was handed to the GPU, which does it later: the phases tell where the
    process spends its time, and a slow backward may show as a long optimizer. Their sum over many steps is right.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        own: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
    ) -> None:
        """Use `now` for the time, and `own` for the thread's seconds on a core and in the queue for one."""
        self._now, self._own = now, own
        self._waiting: float | None = None
        self._began = self._loaded = (0.0, 0.0)
        self._marks: dict[str, float] = {}

    def wait(self) -> None:
        """The next batch is waited for from here."""
        self._began = self._own()
        self._waiting = self._now()

    def loaded(self) -> None:
        """The batch is there."""
        self._loaded = self._own()
        self.mark("loaded")

    def mark(self, moment: str) -> None:
        """One of computed, backward, differentiated, update, updated; the first of each counts."""
        self._marks.setdefault(moment, self._now())

    def end(self) -> StepTimes | None:
        """The step is over, and the next batch is waited for; None without a beginning."""
        ended, marks, own = self._now(), self._marks, self._own()
        waiting, began = self._waiting, self._began
        self._waiting, self._began, self._marks = ended, own, {}
        if waiting is None or "loaded" not in marks:
            return None
        data = marks["loaded"] - waiting
        forward = _between(marks, "loaded", "computed" if "computed" in marks else "backward")
        backward = _between(marks, "backward", "differentiated")
        marks.setdefault("updated", ended)
        optimizer = _between(marks, "update", "updated")
        other = max(0.0, ended - waiting - data - forward - backward - optimizer)
        data_queued, queued = self._loaded[1] - began[1], own[1] - began[1]
        core = own[0] - began[0]
        return StepTimes(data, forward, backward, optimizer, other, data_queued, queued, core)


def _between(marks: dict[str, float], first: str, second: str) -> float:
    return max(0.0, marks[second] - marks[first]) if first in marks and second in marks else 0.0
