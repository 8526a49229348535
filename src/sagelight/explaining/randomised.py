"""A trained network with parts of it as they were before any training.

Source: Adebayo et al. 2018, "Sanity checks for saliency maps": randomisation that cascades from the head downwards.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from sagelight.bundle.spec import BundleSpec
from sagelight.explaining.rebuilt import new_network
from sagelight.models.network import Network

STEPS = ("head", "head and upper half", "all")


def randomised(network: Network, spec: BundleSpec, seed: int = 0) -> list[Network]:
    """Copies of a network with the weights of STEPS as they were before any training."""
    fresh = new_network(spec, layer_norm="head.0.weight" in network.state_dict(), seed=seed)
    half = len(network.stages) // 2
    upper = {name for stage in network.stages[half:] for name in stage}
    chosen: list[Callable[[str], bool]] = [
        lambda name: name.startswith("head."),
        lambda name: name.startswith("head.") or _parameter_of(name, upper),
        lambda name: True,
    ]
    return [_mixed(network, fresh, takes) for takes in chosen]


def _parameter_of(name: str, parameters: set[str]) -> bool:
    """Whether a tensor is one of some parameters of the backbone, or a statistic of the same module."""
    module = name.removeprefix("backbone.").rpartition(".")[0]
    return any(each.rpartition(".")[0] == module for each in parameters)


def _mixed(network: Network, fresh: Network, takes: Callable[[str], bool]) -> Network:
    mixed = copy.deepcopy(network)
    random = fresh.state_dict()
    state = network.state_dict()
    mixed.load_state_dict({name: random[name] if takes(name) else state[name] for name in state})
    return mixed.eval()
