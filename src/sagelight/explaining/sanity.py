"""Does a map depend on what the network has learned, and on the class that it is asked about?

A map that stays when the weights are replaced by random ones shows the photo, not the network. Source: Adebayo et al.
2018, "Sanity checks for saliency maps": the cascading randomisation, compared by Spearman's rank correlation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sagelight.bundle.spec import BundleSpec
from sagelight.explaining.methods import Method
from sagelight.explaining.occlusion import Heat, Pixels, as_heat
from sagelight.explaining.rebuilt import new_network, probabilities
from sagelight.explaining.where import rank_correlation
from sagelight.models.network import Network

# How alike maps may be on average; unrelated ones have 0, the same ones 1.
MOST_WITHOUT_WEIGHTS = 0.5
MOST_BETWEEN_CLASSES = 0.9
STEPS = ("head", "head and upper half", "all")

Maker = Callable[[Network], Method]


@dataclass(frozen=True)
class Question:
    """A photo (3, H, W), and the two classes whose maps are compared; the first is the label given."""

    pixels: Pixels
    label: int
    other: int


@dataclass(frozen=True)
class Sanity:
    """What one method's maps depend on; each figure is a mean rank correlation over photos.

    Attributes:
        name: of the method.
        weights: between the trained network's maps and those after parts of it were made random, by STEPS.
        classes: between the maps of two classes of the same photo.
        photos: how many were asked about.
        cold: photos left out because the trained network's map has no heat.
    """

    name: str
    weights: dict[str, float]
    classes: float
    photos: int
    cold: int

    @property
    def follows_weights(self) -> bool:
        return self.weights[STEPS[-1]] <= MOST_WITHOUT_WEIGHTS

    @property
    def follows_class(self) -> bool:
        return self.classes <= MOST_BETWEEN_CLASSES


def check_sanity(
    network: Network, spec: BundleSpec, make: Maker, asked: Sequence[Question]
) -> Sanity:
    """Compare a method's maps of some photos with those of the same network made random, from the head downwards.

    Args:
        network: the trained network.
        make: the method, of any network of this kind.
        asked: at least one.

    Returns:
        The figures; not a number where none of the trained network's maps has heat.
    """
    method = make(network)
    trained = [_heat(method, each.pixels, each.label) for each in asked]
    others = [_heat(method, each.pixels, each.other) for each in asked]
    between = [_likeness(*pair) for pair in zip(trained, others, strict=True)]
    weights = {}
    for step, changed in zip(STEPS, randomised(network, spec), strict=True):
        method = make(changed)
        weights[step] = [
            _likeness(heat, _heat(method, each.pixels, each.label))
            for heat, each in zip(trained, asked, strict=True)
        ]
    return Sanity(
        method.name,
        {step: _mean(values) for step, values in weights.items()},
        _mean(between),
        len(asked),
        sum(not heat.any() for heat in trained),
    )


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


@dataclass(frozen=True)
class NetworkAnswers:
    """A network that answers as a predictor, for occlusion."""

    network: Network
    spec: BundleSpec

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        return probabilities(self.network, pixels)


def _heat(method: Method, pixels: Pixels, target: int) -> Heat:
    return as_heat(method.evidence(pixels, [target])[0])


def _likeness(heat: Heat, other: Heat) -> float:
    """A map that has vanished is unlike one that has heat; beside a map without heat there is nothing to say."""
    if not heat.any():
        return float("nan")
    return rank_correlation(heat, other) if other.any() else 0.0


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")
