"""Runs where smdebug is installed: a training by its words, and whether anything of smdebug is left on its network.

python smdebug_trains.py WORD...
"""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any
from unittest import mock

import torch

from sagelight.cli import main
from sagelight.training import fit


def look(config: Any, run: Any, model: Any, *others: Any) -> dict[str, float]:
    """The end of a training, looking at the network first."""
    network, size = model.network, config.data.image_size
    for module in network.modules():
        assert not module._forward_hooks, module
        assert not module._forward_pre_hooks, module
        assert "_module_name" not in vars(module), module
    assert not any(parameter._backward_hooks for parameter in network.parameters())
    photos = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    copied = copy.deepcopy(network).eval()
    expected = network.eval()(photos)
    assert torch.equal(copied(photos), expected)
    assert torch.allclose(torch.export.export(copied, (photos,)).module()(photos), expected)
    assert b"smdebug" not in pickle.dumps(network)
    found: dict[str, float] = finish(config, run, model, *others)
    return found


finish = fit.finish
if __name__ == "__main__":
    with mock.patch.object(fit, "finish", look):
        sys.exit(main(sys.argv[1:]))
