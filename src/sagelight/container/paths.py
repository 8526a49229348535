"""The folders of a SageMaker training job, as its contract names them.

Source: "How Amazon SageMaker Processes Training Output" and the sagemaker-training toolkit, which moves them below
SAGEMAKER_BASE_DIR when that is set, as the rehearsal does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BASE = "/opt/ml"
CHECKPOINTS = f"{BASE}/checkpoints"
CHANNELS = f"{BASE}/input/data"
# Where SageMaker's Debugger looks for a trial, and uploads it from.
TENSORS = f"{BASE}/output/tensors"
# Resized photos: on the job's disk, and copied nowhere.
RESIZED = f"{BASE}/scratch/photos"
# A hyperparameter: the folder that a training keeps below the checkpoints, whichever attempt it is.
CHECKPOINT_KEY = "sagelight_run"
# Photos travel in archives of this name; {} is a number of five digits.
SHARDS = "photos-{}.tar"
# The names of the input channels.
TRAINING = "training"
WEIGHTS = "weights"
CODE = "code"
# Where a job without a network finds its code.
CODE_ARCHIVE = f"{CHANNELS}/{CODE}/sourcedir.tar.gz"


@dataclass(frozen=True)
class JobPaths:
    """Where a job finds and leaves things."""

    base: Path

    @classmethod
    def here(cls) -> JobPaths:
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR", BASE)))

    @property
    def hyperparameters(self) -> Path:
        return self.base / "input" / "config" / "hyperparameters.json"

    @property
    def resources(self) -> Path:
        return self.base / "input" / "config" / "resourceconfig.json"

    @property
    def hook_config(self) -> Path:
        """What Debugger is to save; there only where the job was asked for it."""
        return self.base / "input" / "config" / "debughookconfig.json"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def output(self) -> Path:
        return self.base / "output" / "data"

    @property
    def failure(self) -> Path:
        return self.base / "output" / "failure"

    @property
    def checkpoints(self) -> Path:
        return self.base / "checkpoints"

    @property
    def scratch(self) -> Path:
        """The job's own: on its disk, and copied nowhere."""
        return self.base / "scratch"

    def channel(self, name: str) -> Path:
        return self.base / "input" / "data" / name

    def inside(self, path: str) -> str:
        """A path of the contract, where this container keeps it; others as they are."""
        below = path == BASE or path.startswith(f"{BASE}/")
        return str(self.base / Path(path).relative_to(BASE)) if below else path
