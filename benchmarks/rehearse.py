"""The whole SageMaker journey on this machine, and what it costs over the plain run.

    python benchmarks/rehearse.py runs/rehearsed

rehearses experiment=digits with hpo=true: four trials, two at a time, the best trained again and fetched. The same
overrides are then trained by launch/local.py, and the test accuracy must be equal to the last digit. Last, a single
short training runs in both places in turn, three times, which tells what a rehearsed job costs on top.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from sagelight.bundle.provenance import cpu_name
from sagelight.files import write_json

ROOT = Path(__file__).resolve().parents[1]
STUDY = [
    "experiment=digits",
    "hpo=true",
    "hpo.max_jobs=4",
    "hpo.max_parallel_jobs=2",
    "hpo.retrain=true",
]
SHORT = ["experiment=smoke"]
TURNS = 3


def main() -> None:
    base, began = Path(sys.argv[1]), time.monotonic()
    study = base / "study"
    _run("sagemaker", *STUDY, "cloud=rehearsal", f"run_dir={study}")
    local = base / "local"
    _run("local", f"experiment={study / 'best.yaml'}", f"run_dir={local}")
    accuracies = [
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["test/accuracy"]
        for folder in (study / "retrained", local)
    ]
    print(f"test accuracy: rehearsed {accuracies[0]!r}, local {accuracies[1]!r}")
    overheads = []
    for turn in range(TURNS):
        there = _run(
            "sagemaker", *SHORT, "cloud=rehearsal", f"seed={turn}", f"run_dir={base}/there-{turn}"
        )
        here = _run("local", *SHORT, f"seed={turn}", f"run_dir={base}/here-{turn}")
        overheads.append(there - here)
        print(f"a short job: rehearsed {there:.1f} s, local {here:.1f} s")
    print(
        f"overhead a job: {min(overheads):.1f} to {max(overheads):.1f} s on {os.cpu_count()} cores, {cpu_name()}"
    )
    print(f"the whole way: {(time.monotonic() - began) / 60:.1f} minutes")
    write_json(base / "rehearsed.json", {"accuracies": accuracies, "overhead_seconds": overheads})
    sys.exit(accuracies[0] != accuracies[1])


def _run(door: str, *words: str) -> float:
    started = time.monotonic()
    subprocess.run(
        [sys.executable, str(ROOT / "launch" / f"{door}.py"), *words],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - started


if __name__ == "__main__":
    main()
