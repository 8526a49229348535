"""The cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and no more than a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, quota()))


def quota(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that a control group (version 2 or 1) grants, rounded up; all of them without a limit."""
    try:
        words = (root / "cpu.max").read_text().split()
    except OSError:
        try:
            old = root / "cpu"
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = [(old / name).read_text().strip() for name in names]
        except OSError:
            return os.cpu_count() or 1
    quota, period = words
    unlimited = quota in ("max", "-1")
    return os.cpu_count() or 1 if unlimited else math.ceil(int(quota) / int(period))
