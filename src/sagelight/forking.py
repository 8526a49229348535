"""Processes that have torch when they begin: they are forked from one that has loaded it already."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

FORKING = multiprocessing.get_context("forkserver")


def get_ready(*modules: str) -> None:
    """Begin to load modules where `FORKING` forks from; returns at once, and does nothing when that has begun."""
    FORKING.set_forkserver_preload(["sagelight.forked", *modules])
    forkserver.ensure_running()
