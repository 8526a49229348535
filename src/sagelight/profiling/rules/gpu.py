"""Rules about GPUs that wait. On a machine without one they judge nothing.

Names, parameters and defaults are those of smdebug-rulesconfig 1.0.1, where the Developer Guide's differ.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from sagelight.profiling.profile import Profile, Values
from sagelight.profiling.rules.base import Finding, Judgement, ProfilerRule

CPU, IO_WAIT = "CPUUtilization", "I/OWaitPercentage"
GPU, GPU_MEMORY = "GPUUtilization", "GPUMemoryUtilization"
_PERCENT = 100.0
# Two GPUs whose mean utilisation is nearer than this share the work well, however narrow their histograms are.
UNEVEN_POINTS = 10.0


def without_gpu(profile: Profile) -> str:
    """Why no GPU was measured; empty where one was."""
    if any(metric.dimension == GPU for metric in profile.metrics):
        return ""
    if profile.starts and all(start.device != "cuda" for start in profile.starts):
        return "this training uses no NVIDIA GPU"
    told = [why for start in profile.starts for why in start.missing if "GPU" in why]
    return told[-1] if told else "no GPU was measured"


@dataclass
class GpuRule(ProfilerRule):
    """A rule over the samples of a machine's GPUs; the first `patience` are the training's beginning."""

    patience: int = 1000

    def judge(self, profile: Profile) -> Judgement:
        found = Judgement(reason=without_gpu(profile))
        if found.reason:
            return found
        for node in profile.nodes:
            self._judge_node(profile, node, found)
        if found.points <= self.least:
            found.findings.clear()
            found.reason = (
                f"{found.points} data points, and it judges from {self.least + 1} on: "
                "profiler=short judges earlier, and so does a smaller patience or window"
            )
        return found

    @property
    def least(self) -> int:
        """Data points that are not enough."""
        return self.patience

    @abstractmethod
    def _judge_node(self, profile: Profile, node: str, found: Judgement) -> None:
        """Judge one machine: count its data points, and keep what is wrong."""


@dataclass
class CPUBottleneck(GpuRule):
    """More than `threshold` percent of the samples show a core above `cpu_threshold` and a GPU below `gpu_threshold`."""

    threshold: float = 50.0
    gpu_threshold: float = 10.0
    cpu_threshold: float = 90.0

    means: ClassVar[str] = "the GPU waits for the processor"

    def _judge_node(self, profile: Profile, node: str, found: Judgement) -> None:
        share = _coincidence(profile, node, CPU, self.cpu_threshold, self.gpu_threshold, found)
        if share > self.threshold:
            numbers = (
                f"in {share:.0f} % of the samples a core is above {self.cpu_threshold:g} % and a GPU "
                f"below {self.gpu_threshold:g} %"
            )
            advice = "Type a larger data.num_workers, augment=none or light, a smaller data.image_size, or a machine with more cores."
            found.findings.append(Finding(node, numbers, advice, _up_to(share)))


@dataclass
class IOBottleneck(GpuRule):
    """More than `threshold` percent of the samples show a core that waits for a disk in more than `io_threshold` percent
    of its time, and a GPU below `gpu_threshold`.
    """

    threshold: float = 50.0
    gpu_threshold: float = 10.0
    io_threshold: float = 50.0

    means: ClassVar[str] = "the GPU waits for the disk"

    def _judge_node(self, profile: Profile, node: str, found: Judgement) -> None:
        share = _coincidence(profile, node, IO_WAIT, self.io_threshold, self.gpu_threshold, found)
        if share > self.threshold:
            numbers = (
                f"in {share:.0f} % of the samples a core waits for the disk, and a GPU is below "
                f"{self.gpu_threshold:g} %"
            )
            advice = "Keep the photos on a local SSD, store them smaller, type a larger data.num_workers, or features.cache=on with finetune=head."
            found.findings.append(Finding(node, numbers, advice, _up_to(share)))


@dataclass
class LowGPUUtilization(GpuRule):
    """Over the last `window` samples, a GPU's 95th percentile is below `threshold_p95`, or its 5th is below
    `threshold_p5`: it is used little, or by fits and starts.
    """

    threshold_p95: float = 70.0
    threshold_p5: float = 10.0
    window: int = 500

    means: ClassVar[str] = "a GPU has little to do"

    def _judge_node(self, profile: Profile, node: str, found: Judgement) -> None:
        for name, values in profile.of(GPU, node).items():
            last = values[-self.window :]
            low, high = np.quantile(last, 0.05), np.quantile(last, 0.95)
            found.points = max(found.points, len(values))
            numbers = f"utilisation p5 {low:.0f} %, p95 {high:.0f} %"
            if high < self.threshold_p95:
                advice = "Type a larger data.batch_size, trainer.precision=bf16-mixed, or a smaller instance."
            elif low < self.threshold_p5:
                numbers += ": by fits and starts"
                advice = "Type a larger data.num_workers, so that batches are ready in time."
            else:
                continue
            idle = _PERCENT - float(last.mean())
            found.findings.append(Finding(f"{name} of {node}", numbers, advice, _up_to(idle)))


@dataclass
class GPUMemoryIncrease(GpuRule):
    """The mean memory of `window` samples is above that of the `window` before by more than `increase` points of percent,
    after `patience` samples.
    """

    increase: float = 5.0
    window: int = 10

    means: ClassVar[str] = "a GPU's memory grows while training goes on"

    def _judge_node(self, profile: Profile, node: str, found: Judgement) -> None:
        for name, values in profile.of(GPU_MEMORY, node).items():
            found.points = max(found.points, len(values))
            risen = _risen(values, self.window)[self.patience :]
            if len(risen) and float(risen.max()) > self.increase:
                numbers = (
                    f"memory rose by {risen.max():.1f} points within {self.window} samples, to "
                    f"{values.max():.0f} %"
                )
                advice = "Keep no tensors of past steps (log loss.item(), not loss), or type a smaller data.batch_size."
                gain = "A run that would end out of memory then goes on."
                found.findings.append(Finding(f"{name} of {node}", numbers, advice, gain))


@dataclass
class BatchSize(GpuRule):
    """Over the last `window` samples the 95th percentiles of processor, GPU and GPU memory are all below their
    thresholds: a larger batch has room.
    """

    cpu_threshold_p95: float = 70.0
    gpu_threshold_p95: float = 70.0
    gpu_memory_threshold_p95: float = 70.0
    window: int = 500

    means: ClassVar[str] = "the batch is too small to fill the GPU"

    @property
    def least(self) -> int:
        return max(self.patience, self.window)

    def _judge_node(self, profile: Profile, node: str, found: Judgement) -> None:
        cores = profile.table((CPU,), node).get(CPU)
        if cores is None:
            return
        found.points = max(found.points, cores.shape[1])
        cpu = _p95(cores.mean(axis=0), self.window)
        memories = profile.of(GPU_MEMORY, node)
        for name, values in profile.of(GPU, node).items():
            gpu, memory = _p95(values, self.window), _p95(memories[name], self.window)
            small = gpu < self.gpu_threshold_p95 and memory < self.gpu_memory_threshold_p95
            if cpu < self.cpu_threshold_p95 and small:
                numbers = f"p95 of CPU {cpu:.0f} %, GPU {gpu:.0f} %, GPU memory {memory:.0f} %"
                advice = (
                    "Type a data.batch_size twice as large, with optimizer.lr in proportion, or a "
                    "smaller instance."
                )
                gain = _up_to(_PERCENT - gpu)
                found.findings.append(Finding(f"{name} of {node}", numbers, advice, gain))


@dataclass
class LoadBalancing(GpuRule):
    """The histograms of two GPUs' utilisation are further apart than `threshold`: the Jensen-Shannon distance with the
    natural logarithm, 0 to 0.83. GPUs whose means differ little are balanced, whatever their histograms.
    """

    threshold: float = 0.5

    means: ClassVar[str] = "one GPU works while another waits"

    def judge(self, profile: Profile) -> Judgement:
        reason = without_gpu(profile)
        names = {(m.node, m.name) for m in profile.metrics if m.dimension == GPU}
        if not reason and len(names) < 2:
            reason = "it needs two GPUs or more"
        return Judgement(reason=reason) if reason else super().judge(profile)

    def _judge_node(self, profile: Profile, node: str, found: Judgement) -> None:
        gpus = profile.of(GPU, node)
        found.points = max(found.points, *(len(values) for values in gpus.values()), 0)
        for (one, busy), (other, idle) in combinations(gpus.items(), 2):
            apart = abs(float(busy.mean() - idle.mean()))
            distance = _histogram_distance(busy, idle)
            if distance > self.threshold and apart >= UNEVEN_POINTS:
                numbers = (
                    f"mean utilisation {busy.mean():.0f} and {idle.mean():.0f} %, histograms "
                    f"{distance:.2f} apart"
                )
                advice = "Type a data.batch_size that all GPUs divide evenly, and give each the same model."
                found.findings.append(
                    Finding(f"{one} and {other} of {node}", numbers, advice, _up_to(apart))
                )


def _coincidence(
    profile: Profile, node: str, dimension: str, above: float, gpu_below: float, found: Judgement
) -> float:
    table = profile.table((dimension, GPU), node)
    if not table:
        return 0.0
    busy, waits = table[dimension] > above, table[GPU] < gpu_below
    both = np.logical_and(np.any(busy, axis=0), np.any(waits, axis=0))
    found.points = max(found.points, both.size)
    return _PERCENT * float(both.mean()) if both.size else 0.0


def _risen(values: Values, window: int) -> Values:
    """For each place with `window` values before and from it on, by how much the mean of these is above that of those;
    the place is counted by the last of the values.
    """
    if window == 0 or len(values) < 2 * window:
        return np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means = (sums[window:] - sums[:-window]) / window
    risen = means[window:] - means[:-window]
    return np.concatenate([np.zeros(2 * window - 1), risen])


def _histogram_distance(one: Values, other: Values) -> float:
    bins = np.linspace(0, _PERCENT, 51)
    shares = [np.histogram(values, bins)[0] / max(1, len(values)) for values in (one, other)]
    middle = (shares[0] + shares[1]) / 2
    divergence = sum(
        float(np.sum(share[share > 0] * np.log(share[share > 0] / middle[share > 0])))
        for share in shares
    )
    return float(np.sqrt(max(0.0, divergence / 2)))


def _p95(values: Values, window: int) -> float:
    return float(np.quantile(values[-window:], 0.95)) if len(values) else 0.0


def _up_to(percent: float) -> str:
    return f"Gain: up to {min(percent, 99):.0f} % of the time."
