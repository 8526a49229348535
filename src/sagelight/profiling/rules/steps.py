"""Rules about the steps of a training: its loader, its start, and steps that take longer than others.

Names and parameters are AWS's (smdebug-rulesconfig 1.0.1). What is judged here beyond AWS's thresholds is said with
each rule: a rule that speaks of healthy runs is soon read by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sagelight.profiling.phases import Start
from sagelight.profiling.profile import Profile, Step, Worker
from sagelight.profiling.rules.base import Finding, Judgement, ProfilerRule

_PERCENT = 100.0
# The first steps of a start allocate memory and choose kernels.
WARM_STEPS = 3


@dataclass
class Dataloader(ProfilerRule):
    """The loader processes are more than `max_threshold` percent of the cores; or training waits for its batches, which
    fewer of them than `min_threshold` percent may explain.

    AWS finds fewer than `min_threshold` always. Here fewer, and none too, are well where nobody waits. Waiting matters
    above `WAIT_SHARE` of the steps' time over at least `LEAST_STEPS` steps, where it is

    - more than `PHOTO_SECONDS` for each photo and loader process that has a core: decoding a small photo takes a fifth
      of that, and on a CPU, where loading and computing share the cores, little of it can be gained;
    - or, on a GPU, more than `WAIT_TOTAL` seconds together, for there loading costs the computing nothing.

    Time in which the process was ready to work and other processes had the cores is left out.
    """

    min_threshold: float = 70.0
    max_threshold: float = 200.0

    means: ClassVar[str] = "the photos come too slowly, or from too many processes"

    WAIT_SHARE: ClassVar[float] = 0.2
    PHOTO_SECONDS: ClassVar[float] = 0.006
    WAIT_TOTAL: ClassVar[float] = 20.0
    LEAST_STEPS: ClassVar[int] = 10

    def judge(self, profile: Profile) -> Judgement:
        found = Judgement()
        for name, worker in profile.workers.items():
            if not worker.starts:
                continue
            start = worker.starts[-1]
            waits = self._waits(start, worker)
            found.points += len(worker.judged(WARM_STEPS))
            found.numbers[name] = {
                "workers": start.workers * start.processes,
                "cores": start.cores,
                "wait_share": waits.share,
            }
            self._judge_count(start, worker, found)
            if waits.matters:
                found.findings.append(_slow(start, waits, self.min_threshold))
        if found.points < self.LEAST_STEPS:
            found.reason = (
                f"{found.points} steps after the first of each epoch and start, and it judges from "
                f"{self.LEAST_STEPS} on"
            )
        return found

    def _judge_count(self, start: Start, worker: Worker, found: Judgement) -> None:
        running = start.workers * start.processes
        if start.rank > 0 or running <= self.max_threshold / _PERCENT * start.cores:
            return
        fitting = max(1, start.cores // start.processes)
        numbers = f"{running} loader processes on {_cores(start.cores)}"
        advice = f"Type data.num_workers={fitting}."
        firsts = [s.times.data for s in worker.steps if s.batch == 0]
        slowest = f", and their start, up to {max(firsts):.1f} s an epoch" if firsts else ""
        gain = f"Gain: the memory of {running - fitting * start.processes} processes{slowest}."
        found.findings.append(Finding(_process(start), numbers, advice, gain))

    def _waits(self, start: Start, worker: Worker) -> _Waits:
        steps = worker.judged(WARM_STEPS)
        seconds = sum(step.times.data - step.times.data_queued for step in steps)
        total = sum(step.times.total - step.times.queued for step in steps)
        share = seconds / total if total > 0 else 0.0
        parallel = max(1, min(start.workers, start.cores // start.processes))
        photos = max(1.0, len(steps) * start.batch_size)
        long = parallel * _undisturbed(start, seconds, steps) / photos > self.PHOTO_SECONDS
        long = long or (start.device != "cpu" and seconds > self.WAIT_TOTAL)
        enough = len(steps) >= self.LEAST_STEPS
        return _Waits(len(steps), seconds, total, share > self.WAIT_SHARE and long and enough)


@dataclass(frozen=True)
class _Waits:
    steps: int
    seconds: float
    total: float
    matters: bool

    @property
    def share(self) -> float:
        return self.seconds / self.total if self.total > 0 else 0.0


def _undisturbed(start: Start, seconds: float, steps: Sequence[Step]) -> float:
    """The waiting for loader processes without what other processes take from them, by what they take from this one."""
    core = sum(step.times.core for step in steps)
    queued = sum(step.times.queued for step in steps)
    return seconds * core / (core + queued) if start.workers and core > 0 else seconds


def _slow(start: Start, waits: _Waits, min_threshold: float) -> Finding:
    numbers = (
        f"{_PERCENT * waits.share:.0f} % of the steps' time is waiting for photos "
        f"({1000 * waits.seconds / waits.steps:.0f} ms a step)"
    )
    few = start.workers * start.processes < min_threshold / _PERCENT * start.cores
    advised = max(1, start.cores // start.processes)
    if few and advised > start.workers:
        advice = f"Type data.num_workers={advised} (now {start.workers})."
        saved = _saved_by(advised, start.workers, waits)
    else:
        advice = "Keep the photos on a local disk, not much larger than "
        advice += f"data.image_size={start.image_size}; or type augment=none or light"
        advice += ", or features.cache=on." if start.frozen else "."
        saved = waits.share
    gain = f"Gain: up to {_PERCENT * saved:.0f} % of the training time."
    return Finding(_process(start), numbers, advice, gain)


def _saved_by(advised: int, workers: int, waits: _Waits) -> float:
    """The share of a step that more loader processes save at most, when each loads a batch as fast as now."""
    step = waits.total / waits.steps
    computing = step - waits.seconds / waits.steps
    loading = workers * step if workers else waits.seconds / waits.steps
    return max(0.0, 1 - max(computing, loading / advised) / step)


@dataclass
class StepOutlier(ProfilerRule):
    """More than `n_outliers` steps took longer than the mean and `stddev` standard deviations; `mode` None and TRAIN are
    the training steps, and no others are timed.

    As at AWS it takes more than `LEAST_STEPS` steps, and a single stalled step is no finding: the debugger's
    StalledTrainingRule is for that. Besides, the outliers must cost `LOST_SHARE` of the time: among thousands of
    healthy steps on a shared machine, a dozen are that slow. Time without a core is left out, as in `Dataloader`.
    """

    stddev: float = 3.0
    mode: str | None = None
    n_outliers: int = 10

    means: ClassVar[str] = "some steps take much longer than the others"

    LEAST_STEPS: ClassVar[int] = 100
    LOST_SHARE: ClassVar[float] = 0.1

    def judge(self, profile: Profile) -> Judgement:
        found = Judgement()
        if self.mode not in (None, "TRAIN", "ModeKeys.TRAIN"):
            found.reason = f"mode={self.mode}: only the steps of TRAIN are timed"
            return found
        for name, worker in profile.workers.items():
            steps = worker.judged(WARM_STEPS)
            if len(steps) > self.LEAST_STEPS:
                found.points += len(steps)
                self._judge_worker(name, worker, found)
        if not found.points:
            most = max((len(w.judged(WARM_STEPS)) for w in profile.workers.values()), default=0)
            found.reason = f"{most} steps, and it judges from {self.LEAST_STEPS + 1} on"
        return found

    def _judge_worker(self, name: str, worker: Worker, found: Judgement) -> None:
        steps = worker.judged(WARM_STEPS)
        seconds = np.array([step.times.total - step.times.queued for step in steps])
        found.numbers[name] = percentiles(seconds)
        middle = float(np.median(seconds))
        slow = np.flatnonzero(seconds > seconds.mean() + self.stddev * seconds.std())
        lost = float((seconds[slow] - middle).sum() / seconds.sum()) if len(slow) else 0.0
        if len(slow) <= self.n_outliers or lost < self.LOST_SHARE:
            return
        numbers = (
            f"{len(slow)} of {len(seconds)} steps take {seconds[slow].mean():.2f} s on average, the "
            f"median step {middle:.3f} s"
        )
        phase = _what_grew(worker, slow)
        gain = f"Gain: up to {_PERCENT * lost:.0f} % of the training time."
        found.findings.append(Finding(name, numbers, _OUTLIER_ADVICE[phase], gain))


@dataclass
class MaxInitializationTime(ProfilerRule):
    """More than `threshold` minutes passed before the first step, after each start."""

    threshold: float = 20.0

    means: ClassVar[str] = "training begins late"

    def judge(self, profile: Profile) -> Judgement:
        found = Judgement(reason="no step was measured")
        for worker in profile.workers.values():
            reached = {step.start for step in worker.steps}
            for number, start in enumerate(worker.starts):
                if number not in reached or start.rank > 0:
                    continue
                found.points, found.reason = found.points + 1, ""
                minutes = (start.t - start.began) / 60
                found.numbers[f"start {number}"] = {"minutes": minutes}
                if minutes > self.threshold:
                    found.findings.append(_late(start, minutes))
        return found


def percentiles(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> dict[str, float]:
    """p50, p95, p99, least and largest."""
    return {
        "min": float(values.min()),
        **{f"p{q}": float(np.quantile(values, q / _PERCENT)) for q in (50, 95, 99)},
        "max": float(values.max()),
    }


def _late(start: Start, minutes: float) -> Finding:
    numbers = f"{minutes:.0f} minutes before the first step"
    advice = (
        "Is it the download of the photos, their check (type check=off once they are known to be "
        "well), or features that are computed first?"
    )
    return Finding(_process(start), numbers, advice, f"Gain: up to {minutes:.0f} minutes a start.")


def _what_grew(worker: Worker, slow: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> str:
    """The phase that takes the most of what the slow steps take longer."""
    steps = worker.judged(WARM_STEPS)
    grown = {}
    for phase in _OUTLIER_ADVICE:
        seconds = np.array([getattr(step.times, phase) for step in steps])
        grown[phase] = float(seconds[slow].mean() - np.median(seconds))
    return max(grown, key=grown.__getitem__)


def _process(start: Start) -> str:
    return start.node if start.processes == 1 else f"process {start.rank} of {start.node}"


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


_COMPUTING = "The computing itself slows down: does something else run on this machine, or does it run out of memory?"
_OUTLIER_ADVICE = {
    "data": "They wait for photos: type a larger data.num_workers, and keep the photos on a local disk.",
    "forward": _COMPUTING,
    "backward": _COMPUTING,
    "optimizer": _COMPUTING,
    "other": "Something beside the step takes the time: type debugger=off, or a larger debugger.save_interval.",
}
