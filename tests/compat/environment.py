"""Scripts that run where smdebug or AWS's inference toolkits are installed, each in an environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
TOOLKITS = HERE.parents[1] / ".venv-toolkits"
PYTHON = HERE.parents[1] / ".venv-smdebug" / "bin" / "python"
NEEDS_SMDEBUG = pytest.mark.skipif(
    not PYTHON.exists(), reason="make smdebug makes smdebug's environment"
)
NEEDS_TOOLKITS = pytest.mark.skipif(
    not (TOOLKITS / ".installed").exists(), reason="make toolkits makes the toolkits' environment"
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


def toolkit(script: str, *words: str, carried: bool, **variables: str) -> str:
    """Run a script with the released sagemaker_inference, or with the copy that sagemaker_pytorch_inference carries."""
    command = [str(TOOLKITS / "bin" / "python"), "-W", "ignore", str(HERE / script), *words]
    path = {"PYTHONPATH": str(TOOLKITS / "carried")} if carried else {}
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | path | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
