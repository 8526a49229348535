"""A process of its own that holds a run's lock; spawned, so it is found by its module's name."""

from __future__ import annotations

from multiprocessing.synchronize import Event
from pathlib import Path

from sagelight.training.run import locked


def hold(folder: str, ready: Event, leave: Event) -> None:
    """Hold the lock of `folder` from `ready` until `leave`, a minute at most."""
    with locked(Path(folder)):
        ready.set()
        leave.wait(60)
