"""Scripts that run where smdebug is installed; `make smdebug` makes that environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-smdebug" / "bin" / "python"
NEEDS_SMDEBUG = pytest.mark.skipif(
    not PYTHON.exists(), reason="make smdebug makes smdebug's environment"
)


def smdebug(script: str, *words: str, status: int = 0) -> str:
    """Run one of the scripts beside this file, which must end with that status; what it printed."""
    command = [str(PYTHON), "-W", "ignore", str(HERE / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def read_by_smdebug(folder: Path) -> dict[str, np.ndarray]:
    """Every value of a trial as smdebug's own reader has it, by `MODE|step|tensor` and maybe `|reduction`."""
    smdebug("smdebug_reads.py", str(folder), "read.npz")
    with np.load("read.npz") as found:
        return dict(found)
