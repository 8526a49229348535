"""How long a plan takes, from a fresh process to its end.

    python benchmarks/dry_run.py data.root=photos

runs `launch/sagemaker.py experiment=resnet50 hpo=true dry_run=true` with the words given, once to warm up and then
five times.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from sagelight.bundle.provenance import cpu_name

DOOR = Path(__file__).resolve().parents[1] / "launch" / "sagemaker.py"
PLAN = ["experiment=resnet50", "hpo=true", "dry_run=true", "cloud.region=us-east-1"]
TURNS = 5


def main() -> None:
    seconds = []
    for _ in range(1 + TURNS):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(DOOR), *PLAN, *sys.argv[1:]], capture_output=True
        )
        if done.returncode:
            sys.exit(done.stderr.decode())
        seconds.append(time.monotonic() - started)
    low, *_, high = sorted(seconds[1:])
    print(f"{low:.2f} to {high:.2f} s on {os.cpu_count()} cores, {cpu_name()}")


if __name__ == "__main__":
    main()
