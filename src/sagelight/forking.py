"""Processes that have torch when they begin: they are forked from one that has loaded it already."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing import forkserver

FORKING = multiprocessing.get_context("forkserver")


def get_ready(*modules: str) -> None:
    """Begin to load modules where `FORKING` forks from; returns at once, and does nothing when that has begun."""
    FORKING.set_forkserver_preload(["sagelight.forked", *modules])
    forkserver.ensure_running()


def end_with_parent() -> None:
    """End this process as soon as the one that asked for it has ended; nobody would want what it does."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
