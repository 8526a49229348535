"""Measures the machine at an interval, in the lines and files of SageMaker's system metrics.

A line of `system/incremental/<hour>/<minute>.<node>.json`, hour as YYYYMMDDHH and minute in seconds since 1970, is
{"Type": "cpu", "Name": "cpu0", "Dimension": "CPUUtilization", "Value": 4.76, "NodeId": "algo-1", "Timestamp": ...}.
Names, dimensions and layout are those that smdebug 1.0.34 reads (profiler/system_metrics_reader). Unlike there, the
time in which a core waits for a disk is no part of its utilisation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sagelight.profiling.gpu import Gpus
from sagelight.profiling.lines import Watching, append
from sagelight.profiling.proc import Counters, Reading, count, has_proc, rates

SYSTEM = Path("system") / "incremental"
SECONDS_BETWEEN_WRITES = 10.0
_MINUTE = 60


class Sampler:
    """A thread that measures until it is stopped; it ends with its process.

    Attributes:
        missing: what this system does not let it measure, in sentences.
    """

    def __init__(
        self,
        folder: Path,
        node: str,
        interval: float,
        watching: Watching,
        gpus: Gpus | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        """Prepare to measure every `interval` seconds; `folder` is the profiler's."""
        self._folder, self._node, self._interval = folder, node, interval
        self._watching, self._gpus, self._proc = watching, gpus, proc
        self._has_proc = has_proc(proc)
        self._before: Counters | None = None
        self._kept: dict[int, list[str]] = {}
        self._written = time.monotonic()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def missing(self) -> list[str]:
        found = [] if self._has_proc else ["this system has no /proc: CPU and disk go unmeasured"]
        return found + ([self._gpus.missing] if self._gpus and self._gpus.missing else [])

    def start(self) -> None:
        """Begin to measure in the background, where there is anything to measure."""
        if self._has_proc or (self._gpus is not None and not self._gpus.missing):
            self._thread = threading.Thread(target=self._run, name="profiler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, and write what it still held."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
            self.flush()

    def sample(self, clock: Callable[[], float] = time.time) -> None:
        """Measure once. The first time only counts, for a rate needs two looks."""
        readings: list[Reading] = []
        if self._has_proc:
            after = count(time.monotonic(), self._proc)
            if self._before is not None:
                readings += rates(self._before, after)
            self._before = after
        if self._gpus is not None:
            readings += self._gpus.readings()
        now = clock()
        minute = int(now) // _MINUTE * _MINUTE
        self._kept.setdefault(minute, []).extend(as_lines(readings, self._node, now))

    def flush(self) -> None:
        """Write what was measured, each minute into its file."""
        self._written = time.monotonic()
        kept, self._kept = self._kept, {}
        for minute, lines in kept.items():
            path = self._folder / metrics_file(minute, self._node)
            if self._watching.stopped:
                return
            try:
                append(path, lines)
            except OSError as error:
                self._watching.stop_writing(path, error)

    def _run(self) -> None:
        try:
            while not self._watching.stopped:
                self.sample()
                if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
                    self.flush()
                if self._end.wait(self._interval):
                    return
        except Exception as error:  # Whatever it is, training must not end with it.
            self._watching.stop(f"the machine could not be measured: {error}")


def as_lines(readings: Iterable[Reading], node: str, timestamp: float) -> Iterable[str]:
    """JSON, a line for each reading. Names come from the kernel or from here, and need no escaping."""
    end = f'"NodeId":"{node}","Timestamp":{timestamp:.3f}}}'
    for each in readings:
        yield (
            f'{{"Type":"{each.type}","Name":"{each.name}","Dimension":"{each.dimension}",'
            f'"Value":{each.value:.2f},{end}'
        )


def metrics_file(minute: int, node: str) -> Path:
    """Path below the profiler's folder of what was measured in a minute."""
    hour = time.strftime("%Y%m%d%H", time.gmtime(minute))
    return SYSTEM / hour / f"{minute}.{node}.json"
