"""Runs where smdebug is installed: opens a trial with its own reader, and leaves what it has read in an .npz file.

python smdebug_reads.py TRIAL FILE.npz
"""

from __future__ import annotations

import sys

import numpy as np

from sagelight.debugging.smdebug_sink import help_smdebug

help_smdebug()

from smdebug import modes  # noqa: E402
from smdebug.exceptions import TensorUnavailableForStep  # noqa: E402
from smdebug.trials import create_trial  # noqa: E402


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
                except TensorUnavailableForStep:
                    kept = tensor.reduction_values(step, mode=mode)
                    for (reduction, absolute), value in kept.items():
                        found[f"{key}|{'abs_' * absolute}{reduction}"] = value
    for name in ("losses", "weights", "gradients"):
        found[f"collection|{name}"] = np.array(sorted(trial.tensor_names(collection=name)))
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
