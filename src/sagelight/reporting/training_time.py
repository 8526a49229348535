"""The time of a training without the pauses between its starts."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from sagelight.profiling.profile import Profile, Worker

_UNITS = (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0))
# From so many of a unit on, the next one is used.
_MANY = 180.0


@dataclass(frozen=True)
class TrainingTime:
    """From seconds since 1970 to those that a training has run.

    Attributes:
        spans: when each start began, and when the last was heard of it; in order.
    """

    spans: list[tuple[float, float]]

    @classmethod
    def of(cls, profile: Profile) -> TrainingTime | None:
        """None where nothing was measured."""
        heard = sorted(_heard(profile))
        if not heard:
            return None
        begins = [heard[0]]
        begins += [t for t in _restarts(profile) if heard[0] < t <= heard[-1]]
        ends = [heard[bisect_left(heard, begin) - 1] for begin in begins[1:]]
        return cls(list(zip(begins, [*ends, heard[-1]], strict=True)))

    def __call__(self, t: float) -> float:
        """Seconds of training until then; a moment in a pause is the pause's beginning."""
        return sum(min(t, end) - begin for begin, end in self.spans if t > begin)

    @property
    def total(self) -> float:
        return sum(end - begin for begin, end in self.spans)

    @property
    def continued(self) -> list[float]:
        """When the training went on after a pause, in seconds of training."""
        return [self(begin) for begin, _ in self.spans[1:]]

    @property
    def unit(self) -> tuple[str, float]:
        """The unit in which its length is a handy number, and its seconds."""
        return next((unit for unit in _UNITS if self.total < _MANY * unit[1]), _UNITS[-1])


def _restarts(profile: Profile) -> list[float]:
    first = next(iter(profile.workers.values()), Worker())
    return sorted(start.t for start in first.starts[1:])


def _heard(profile: Profile) -> list[float]:
    """Moments of which something was measured."""
    heard = [each for series in profile.metrics.values() for each in series.times]
    for worker in profile.workers.values():
        heard += [start.t for start in worker.starts]
        heard += [step.t + step.times.total for step in worker.steps]
    return heard
