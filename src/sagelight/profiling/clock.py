"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

PHASES = ("data", "forward", "backward", "optimizer", "other")


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one step; they add up to `total`.

    Attributes:
        data: waiting for the batch, and moving it to the device.
        forward: from the batch to the loss.
        backward: gradients, and with several processes their exchange.
        optimizer: clipping and the step; 0 in a batch whose gradients are only added up.
        other: the rest, as what other callbacks do.
    """

    data: float
    forward: float
    backward: float
    optimizer: float
    other: float

    @property
    def total(self) -> float:
        return self.data + self.forward + self.backward + self.optimizer + self.other


class StepClock:
    """Marks the moments of a step, in their order; what does not happen in a step is left out.

    On CUDA a mark is the moment in which work was handed to the GPU, which does it later: the phases tell where the
    process spends its time, and a slow backward may show as a long optimizer. Their sum over many steps is right.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._waiting: float | None = None
        self._marks: dict[str, float] = {}

    def wait(self) -> None:
        """The next batch is waited for from here."""
        self._waiting = self._now()

    def mark(self, moment: str) -> None:
        """One of loaded, computed, backward, differentiated, update, updated; the first of each counts."""
        self._marks.setdefault(moment, self._now())

    def end(self) -> StepTimes | None:
        """The step is over, and the next batch is waited for; None without a beginning."""
        ended, marks = self._now(), self._marks
        began, self._waiting, self._marks = self._waiting, ended, {}
        if began is None or "loaded" not in marks:
            return None
        data = marks["loaded"] - began
        forward = _between(marks, "loaded", "computed" if "computed" in marks else "backward")
        backward = _between(marks, "backward", "differentiated")
        marks.setdefault("updated", ended)
        optimizer = _between(marks, "update", "updated")
        other = ended - began - data - forward - backward - optimizer
        return StepTimes(data, forward, backward, optimizer, max(0.0, other))


def _between(marks: dict[str, float], first: str, second: str) -> float:
    return max(0.0, marks[second] - marks[first]) if first in marks and second in marks else 0.0
