"""A process of its own that wants an array of a store; spawned, so it is found by its module's name."""

from __future__ import annotations

import os
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.features.store import FeatureStore


def get(folder: str, start: Barrier, seconds: float) -> None:
    """Get an array that takes `seconds` to compute, and leave a file for each time that it was computed."""
    marks = Path(folder) / "computed"

    def compute(target: NDArray[Any]) -> dict[str, Any]:
        (marks / str(os.getpid())).touch()
        time.sleep(seconds)
        target[:] = 7
        return {"unreadable": {}}

    start.wait(60)
    values, _ = FeatureStore(Path(folder) / "store", 1e9).get(
        {"what": "sevens"}, (3, 4), "float32", compute
    )
    assert np.all(values == 7)
