"""Runs where smdebug is installed: a small training watched by smdebug's own hook.

python smdebug_writes.py TRIAL LEARNING_RATE [reductions]
"""

from __future__ import annotations

import sys

import torch

from sagelight.debugging.smdebug_sink import help_smdebug

help_smdebug()

import smdebug.pytorch as smd  # noqa: E402
from smdebug import modes  # noqa: E402


def main() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    criterion = torch.nn.CrossEntropyLoss()
    reductions = None
    if sys.argv[3:]:
        reductions = smd.ReductionConfig(["min", "max", "mean", "std"], ["mean", "max"])
    hook = smd.Hook(
        out_dir=sys.argv[1],
        reduction_config=reductions,
        save_config=smd.SaveConfig(save_interval=1),
        include_collections=["weights", "biases", "gradients", "losses"],
    )
    hook.register_module(network)
    hook.register_loss(criterion)
    optimizer = torch.optim.SGD(network.parameters(), lr=float(sys.argv[2]))
    photos = torch.randn(64, 8)
    labels = photos[:, :3].argmax(1)
    for _ in range(5):
        hook.set_mode(modes.TRAIN)
        for batch in range(4):
            part = slice(16 * batch, 16 * batch + 16)
            optimizer.zero_grad()
            criterion(network(photos[part]), labels[part]).backward()
            optimizer.step()
        hook.set_mode(modes.EVAL)
        with torch.no_grad():
            criterion(network(photos), labels)
    hook.close()


if __name__ == "__main__":
    main()
