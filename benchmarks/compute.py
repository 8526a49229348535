"""What computing costs: ours against the plain fp32 loop, with random weights on the photos of one folder.

    python benchmarks/compute.py full resnet18 6       # full fine-tuning, by the step
    python benchmarks/compute.py frozen resnet50 6     # a frozen backbone, nothing cached, by the step
    python benchmarks/compute.py overhead resnet18 6   # our whole training around the same network and optimizer
    python benchmarks/compute.py cached resnet18       # five epochs of a head, from the files on, validation included
    python benchmarks/compute.py startup DIR 5         # to the first batch of photos in DIR, against importing torch
    python benchmarks/compute.py isa resnet18 4        # full and frozen under each limit of oneDNN

Ours is what `fit` trains with: Lightning, every callback of the default configuration, our data module. Before a step of
it, the plain loop takes one, on the same photos in memory, in the same process, so that both meet the same machine;
ratios are of processor time, the median over the rounds, with their spread. `THREADS`, 1 unless set, is the number of
threads, and `OUTPUT` a file for the figures. The targets are those of a CPU without AMX.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("THREADS", "1"))

from compute_startup import measure_startup
from compute_training import Measured, five_epochs, in_turn
from serving_bundle import machine, target

LEAST = {"full": 1.15, "frozen": 1.5}
CACHED, OVERHEAD, STARTUP = 8.0, 1.03, 1.35
# What oneDNN may use at most, and what full fine-tuning and a frozen backbone must gain then.
LIMITS = {"AVX2": (1.0, 1.0), "AVX512_CORE": (1.0, 1.5), "ALL": (1.15, 1.5)}


def main() -> None:
    kind, words = sys.argv[1], sys.argv[2:]
    figures: dict[str, Any] = {"kind": kind, "words": words, "machine": machine()}
    print(
        f"{kind} {' '.join(words)}: {machine()}, {os.environ['OMP_NUM_THREADS']} thread(s)",
        flush=True,
    )
    if kind == "isa":
        figures["limits"] = [_limited(limit, words) for limit in LIMITS]
    elif kind == "startup":
        ratio = measure_startup(Path(words[0]), int(words[1]))
        print(ratio)
        name = "first batch against importing torch, torchvision and Lightning"
        figures |= ratio.to_dict() | {"target": target(name, ratio.median, most=STARTUP)}
    elif kind == "cached":
        with tempfile.TemporaryDirectory() as folder:
            measured = five_epochs(words[0], Path(folder))
        figures |= _told(
            measured, target(f"five epochs of {words[0]}", measured.gain, least=CACHED)
        )
    else:
        figures |= _steps(kind, words[0], int(words[1]))
    if "OUTPUT" in os.environ:
        Path(os.environ["OUTPUT"]).write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _steps(kind: str, backbone: str, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        measured = in_turn(kind, backbone, rounds, Path(folder))
    if kind == "overhead":
        cost = 1 / measured.gain
        return _told(
            measured, target(f"{backbone}, training against a bare loop", cost, most=OVERHEAD)
        )
    full, frozen = LIMITS.get(os.environ.get("ONEDNN_MAX_CPU_ISA", ""), tuple(LEAST.values()))
    least = full if kind == "full" else frozen
    return _told(
        measured, target(f"{backbone} {kind}, plain against ours", measured.gain, least=least)
    )


def _told(measured: Measured, held: dict[str, Any]) -> dict[str, Any]:
    print(measured)
    return measured.to_dict() | {"target": held}


def _limited(limit: str, words: list[str]) -> dict[str, Any]:
    """Full and frozen in processes whose oneDNN may use no more than `limit`."""
    found: dict[str, Any] = {"limit": limit}
    print(f"ONEDNN_MAX_CPU_ISA={limit}", flush=True)
    for kind in LEAST:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "figures.json"
            limited = os.environ | {"ONEDNN_MAX_CPU_ISA": limit, "OUTPUT": str(output)}
            subprocess.run([sys.executable, __file__, kind, *words], check=True, env=limited)
            found[kind] = json.loads(output.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
