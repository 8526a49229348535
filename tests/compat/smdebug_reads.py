"""Runs where smdebug is installed: opens a trial with its own reader, and leaves what it has read in an .npz file.

python smdebug_reads.py TRIAL FILE.npz
"""

from __future__ import annotations

import sys

import numpy as np
from smdebug import modes
from smdebug.trials import create_trial

REDUCTIONS = [
    ("mean", True),
    ("mean", False),
    ("min", False),
    ("max", False),
    ("std", False),
    ("max", True),
]


def main() -> None:
    trial = create_trial(sys.argv[1])
    found = {}
    for name in trial.tensor_names():
        tensor = trial.tensor(name)
        for mode in (modes.TRAIN, modes.EVAL):
            for step in tensor.steps(mode=mode):
                key = f"{mode.name}|{step}|{name}"
                try:
                    found[key] = tensor.value(step, mode=mode)
                except Exception:
                    for reduction, absolute in REDUCTIONS:
                        value = tensor.reduction_value(step, reduction, mode=mode, abs=absolute)
                        found[f"{key}|{'abs_' * absolute}{reduction}"] = value
    for name in ("losses", "weights", "gradients"):
        found[f"collection|{name}"] = np.array(sorted(trial.tensor_names(collection=name)))
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
