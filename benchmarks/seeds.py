"""One recipe over several seeds: the mean of its figures and their spread.

    python benchmarks/seeds.py runs/squeezenet-head 3 experiment=squeezenet finetune=head data.root=photos

trains into runs/squeezenet-head-0, -1 and -2 and writes runs/squeezenet-head.json. A seed that is finished
is not trained again, so an interrupted benchmark continues.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from sagelight.bundle.provenance import cpu_name
from sagelight.files import write_json

LOCAL = Path(__file__).resolve().parents[1] / "launch" / "local.py"
FIGURES = ("test/accuracy", "test/macro_f1", "test/ece", "val/accuracy", "train_seconds")


def main() -> None:
    base, seeds, *words = sys.argv[1:]
    found = []
    for seed in range(int(seeds)):
        folder = Path(f"{base}-{seed}")
        command = [sys.executable, str(LOCAL), *words, f"seed={seed}", f"run_dir={folder}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found.append(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    summary = {name: _summary([metrics[name] for metrics in found]) for name in FIGURES}
    machine = f"{os.cpu_count()} cores, {cpu_name()}"
    print(f"{' '.join(words)}\n{seeds} seeds, {machine}")
    for name, row in summary.items():
        print(f"  {name:<16} mean {row['mean']:.4f}  from {row['low']:.4f} to {row['high']:.4f}")
    write_json(Path(f"{base}.json"), {"words": words, "machine": machine, "figures": summary})


def _summary(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "low": min(values), "high": max(values)}


if __name__ == "__main__":
    main()
