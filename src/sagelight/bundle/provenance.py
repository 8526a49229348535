"""Where a bundle came from: run, command, code and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    "sagelight",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "numpy",
    "pillow",
    "onnxruntime",
)


# Names the commit where the code runs outside its checkout, as in a SageMaker job.
COMMIT_VARIABLE = "SAGELIGHT_COMMIT"


def provenance(run: str, config_digest: str, command: str) -> dict[str, Any]:
    """What bundle.json records, as plain values.

    Args:
        run: the run's directory.
        config_digest: hex SHA-256 of the configuration.
        command: what the person typed.
    """
    return {
        "run": run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "config_digest": config_digest,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def git_commit() -> str | None:
    """The commit of the checkout that this code lies in, `+changes` when edited; None when nobody knows it."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return os.environ.get(COMMIT_VARIABLE)
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changes" if _git(root, "status", "--porcelain", "-uno") else "")


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def cpu_name() -> str:
    """The processor's name as its vendor writes it, where Linux tells; else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
