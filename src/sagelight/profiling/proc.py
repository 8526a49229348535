"""What Linux counts of a machine's work, and rates between two looks at it.

Sources: proc(5) and the kernel's Documentation/admin-guide/iostats.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# /proc/diskstats counts in these, whatever the disk's own sectors are.
SECTOR_BYTES = 512
_PERCENT = 100.0
_DISK = ("IOPS", "ReadThroughputInBytesPerSecond", "WriteThroughputInBytesPerSecond")
_NETWORK = ("ReceiveBytesPerSecond", "TransmitBytesPerSecond")
# Those stand on other devices, which are counted already, or on none.
_NO_DISK = re.compile(r"(loop|ram|zram|dm-|md|sr|fd)\d+")


@dataclass(frozen=True)
class Reading:
    """A metric's value under SageMaker's names: type, name, dimension."""

    type: str
    name: str
    dimension: str
    value: float


@dataclass(frozen=True)
class Counters:
    """What has been counted since the machine started.

    Attributes:
        seconds: on the clock that `rates` divides by.
        cores: by core: ticks of all, ticks idle, ticks idle while waiting for a disk.
        disk: operations, bytes read, bytes written.
        network: bytes received, bytes sent, the loopback left out.
        memory: percent in use, which is no counter.
    """

    seconds: float
    cores: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    disk: tuple[int, int, int] | None = None
    network: tuple[int, int] | None = None
    memory: float | None = None


def has_proc(proc: Path = Path("/proc")) -> bool:
    """Whether this system counts where `count` looks."""
    return (proc / "stat").is_file()


def count(seconds: float, proc: Path = Path("/proc")) -> Counters:
    """Look at the counters; what a system does not have is left out.

    Raises:
        OSError: there is no /proc/stat.
    """
    return Counters(
        seconds,
        dict(_cores((proc / "stat").read_text())),
        _disk(_read(proc / "diskstats")),
        _network(_read(proc / "net" / "dev")),
        _memory(_read(proc / "meminfo")),
    )


def rates(before: Counters, after: Counters) -> Iterator[Reading]:
    """What went on between two looks, in percent, operations and bytes a second."""
    passed = max(after.seconds - before.seconds, 1e-9)
    for name, ticks in after.cores.items():
        if name in before.cores:
            yield from _core(name, before.cores[name], ticks)
    if after.memory is not None:
        yield Reading("memory", "MemoryUsedPercent", "", after.memory)
    if before.disk is not None and after.disk is not None:
        for name, old, new in zip(_DISK, before.disk, after.disk, strict=True):
            yield Reading("i/o", name, "", max(0, new - old) / passed)
    if before.network is not None and after.network is not None:
        for name, old, new in zip(_NETWORK, before.network, after.network, strict=True):
            yield Reading("network", name, "Algorithm", max(0, new - old) / passed)


class OwnTime:
    """What the scheduler counts for the thread that made this: seconds on a core, and seconds ready to run without one.

    The second tells a thread that waits for a disk from one that other processes crowd out. Zeros where Linux does not
    count it. Source: the kernel's Documentation/scheduler/sched-stats.rst.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        try:
            self._file = os.open(proc / "thread-self" / "schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def __call__(self) -> tuple[float, float]:
        if self._file < 0:
            return 0.0, 0.0
        computed, queued, _ = os.pread(self._file, 100, 0).split()
        return int(computed) / 1e9, int(queued) / 1e9

    def close(self) -> None:
        """Count no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def process_started(proc: Path = Path("/proc")) -> float | None:
    """When this process began, in seconds since 1970; None where /proc does not tell."""
    try:
        ticks = int((proc / "self" / "stat").read_text().rpartition(")")[2].split()[19])
        booted = re.search(r"^btime (\d+)$", (proc / "stat").read_text(), re.MULTILINE)
    except (OSError, ValueError, IndexError):
        return None
    return None if booted is None else int(booted[1]) + ticks / os.sysconf("SC_CLK_TCK")


def _core(
    name: str, before: tuple[int, int, int], after: tuple[int, int, int]
) -> Iterator[Reading]:
    # Linux lets the time spent waiting run backwards now and then.
    total, idle, waiting = (max(0, new - old) for old, new in zip(before, after, strict=True))
    if total == 0:
        return
    idle, waiting = min(idle, total), min(waiting, total)
    busy = max(0, total - idle - waiting)
    yield Reading("cpu", name, "CPUUtilization", _PERCENT * busy / total)
    yield Reading("cpu", name, "I/OWaitPercentage", _PERCENT * waiting / total)


def _cores(text: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for line in text.splitlines():
        name, *fields = line.split(maxsplit=11)
        if not name.startswith("cpu"):
            return
        # The first line is the sum. A guest's time, the ninth number and the tenth, is part of the user's.
        if name != "cpu":
            ticks = [int(each) for each in fields[:8]]
            yield name, (sum(ticks), ticks[3], ticks[4])


def _disk(text: str) -> tuple[int, int, int] | None:
    found = [0, 0, 0]
    names: list[str] = []
    for line in text.splitlines():
        _, _, name, *fields = line.split()
        if _NO_DISK.fullmatch(name) or any(_is_partition(name, disk) for disk in names):
            continue
        names.append(name)
        reads, _, sectors_read, _, writes, _, sectors_written = map(int, fields[:7])
        found[0] += reads + writes
        found[1] += sectors_read * SECTOR_BYTES
        found[2] += sectors_written * SECTOR_BYTES
    return (found[0], found[1], found[2]) if names else None


def _is_partition(name: str, disk: str) -> bool:
    return re.fullmatch(rf"{re.escape(disk)}p?\d+", name) is not None


def _network(text: str) -> tuple[int, int] | None:
    received = sent = 0
    lines = [line.partition(":") for line in text.splitlines() if ":" in line]
    for name, _, numbers in lines:
        if name.strip() != "lo":
            fields = numbers.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return (received, sent) if lines else None


def _memory(text: str) -> float | None:
    found = dict(re.findall(r"^(MemTotal|MemAvailable): +(\d+)", text, re.MULTILINE))
    if len(found) < 2 or int(found["MemTotal"]) == 0:
        return None
    return _PERCENT * (1 - int(found["MemAvailable"]) / int(found["MemTotal"]))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
