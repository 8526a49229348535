"""A map must follow the weights and the class; one that shows the photo alone is found out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from explaining.networks import FromNetwork, pixels_of, small
from sagelight.explaining.gradcam import GradCam
from sagelight.explaining.methods import Occlusion
from sagelight.explaining.randomised import STEPS, randomised
from sagelight.explaining.sanity import NetworkAnswers, Question, check_sanity, described
from sagelight.explaining.where import place_of, rank_correlation

SIDE = 64
ASKED = [Question(pixels_of(SIDE, seed), 0, 1) for seed in range(3)]


@pytest.fixture(scope="module")
def made() -> FromNetwork:
    return small("squeezenet1_1", SIDE, seed=5)


class Edges:
    """Shows where the photo has edges, whatever the network and the class: what the check is there to find."""

    name, title = "edges", "Edges"

    def evidence(self, pixels: np.ndarray, targets: Sequence[int]) -> np.ndarray:
        grey = pixels.astype(np.float32).mean(axis=0)
        return np.stack([np.hypot(*np.gradient(grey))] * len(targets))

    def facts(self) -> dict[str, Any]:
        return {}


def test_a_map_that_ignores_the_network_is_found_out(made: FromNetwork) -> None:
    found = check_sanity(made.network, made.spec, lambda _: Edges(), ASKED)
    assert (found.follows_weights, found.follows_class) == (False, False)
    assert found.weights == dict.fromkeys(STEPS, pytest.approx(1))
    weights, classes = found.doubts
    assert weights.startswith("Edges: with all weights random the maps stay")
    assert classes.startswith("Edges: the maps of two classes are much the same")
    assert {f"  {sentence}" for sentence in found.doubts} < {*described([found])}
    assert found.to_dict()["follows_weights"] is False


def test_gradcam_and_occlusion_follow_weights_and_class(made: FromNetwork) -> None:
    methods = [
        lambda network: GradCam(network, "squeezenet1_1", SIDE),
        lambda network: Occlusion(NetworkAnswers(network, made.spec)),
    ]
    for make in methods:
        found = check_sanity(made.network, made.spec, make, ASKED[:2])
        assert found.weights["all"] <= 0.5
        assert found.classes <= 0.9
        assert found.doubts == []
        assert found.photos == 2
        assert list(found.examples) == ["trained", "another class", *STEPS]


def test_the_cascade_begins_at_the_head_and_ends_with_everything(made: FromNetwork) -> None:
    before = made.network.state_dict()
    changed = []
    for network in randomised(made.network, made.spec):
        state = network.state_dict()
        changed.append({key for key in before if not torch.equal(before[key], state[key])})
    head, half, every = changed
    assert head == {"head.2.weight", "head.2.bias"}
    weights = {key for key in before if key.endswith("weight") and key.startswith("backbone.")}
    assert head < half < every
    assert 0 < len(half & weights) < len(weights)
    assert weights < every
    assert "backbone.features.0.weight" not in half


def test_maps_that_vanish_are_unlike_and_those_that_never_were_are_left_out(
    made: FromNetwork,
) -> None:
    class Cold(Edges):
        def __init__(self, trained: bool) -> None:
            self.trained = trained

        def evidence(self, pixels: np.ndarray, targets: Sequence[int]) -> np.ndarray:
            blank = pixels[0, 0, 0] == ASKED[0].pixels[0, 0, 0]
            found = super().evidence(pixels, targets)
            return found if self.trained and not blank else 0 * found

    found = check_sanity(
        made.network, made.spec, lambda network: Cold(network is made.network), ASKED
    )
    assert found.cold == 1
    assert found.weights == dict.fromkeys(STEPS, 0)
    cold = check_sanity(made.network, made.spec, lambda _: Cold(False), ASKED[:1])
    assert cold.doubts == ["Edges: no map has any heat, so there is nothing to compare."]
    assert (cold.follows_weights, cold.follows_class) == (False, False)


def test_rank_correlation_is_spearmans() -> None:
    # Pearson's of the ranks; equal values share theirs.
    one = np.array([[1, 5, 5, 9]], np.float32)
    other = np.array([[3, 2, 7, 7]], np.float32)
    ranks = np.corrcoef([1, 2.5, 2.5, 4], [2, 1, 3.5, 3.5])[0, 1]
    assert rank_correlation(one, other) == pytest.approx(ranks)
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert np.isnan(rank_correlation(one, np.ones_like(one)))


def test_where_the_heat_is() -> None:
    corner = np.zeros((8, 8), np.float32)
    corner[6, 0] = 1
    place = place_of(corner)
    assert place.centre == (0.0625, 0.8125)
    assert place.central_share == 0
    assert place.half_area == pytest.approx(1 / 64, abs=1e-4)
    even = place_of(np.ones((8, 8), np.float32))
    assert (even.centre, even.central_share, even.half_area) == ((0.5, 0.5), 0.25, 0.5)
    assert place_of(0 * corner).centre is None
