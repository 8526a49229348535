"""How busy the GPU was, as NVIDIA's own program sees it."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

QUERY = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0", "-lms", "200"]


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Filled at the end with the mean percentage of the time inside; left empty where there is no nvidia-smi."""
    found: list[float] = []
    program = shutil.which("nvidia-smi")
    if program is None:
        yield found
        return
    process = subprocess.Popen([program, *QUERY], stdout=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        process.terminate()
        lines = process.communicate()[0].split()
        samples = [float(line) for line in lines if line.isdecimal()]
        found += [statistics.mean(samples)] if samples else []
