from __future__ import annotations

import os
from pathlib import Path

import pytest

from images import make_folder
from sagelight.forking import get_ready

# One thread a process: the test processes share the cores, and waiting for each other's threads costs more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

# The rehearsal and the studies of one test process fork from the same server, which loads what both need once.
get_ready("torch", "boto3", "sagelight.tuning.worker")

CLASSES = {"blue": 14, "green": 12, "red": 10}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in an empty folder with a cache of its own, so nothing lands in the checkout or at home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / f".{tmp_path.name}.cache"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 small photos of three learnable classes, without split folders."""
    return make_folder(tmp_path_factory.mktemp("photos"), {"": CLASSES})
