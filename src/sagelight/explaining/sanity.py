"""Does a map depend on what the network has learned, and on the class that it is asked about?

A map that stays when the weights are replaced by random ones shows the photo, not the network. Source: Adebayo et al.
2018, "Sanity checks for saliency maps": the cascading randomisation, compared by Spearman's rank correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.bundle.spec import BundleSpec
from sagelight.errors import SagelightError
from sagelight.explaining.methods import Method, Occlusion
from sagelight.explaining.occlusion import Heat, Pixels, as_heat
from sagelight.explaining.photos import Explained
from sagelight.explaining.randomised import STEPS, randomised
from sagelight.explaining.rebuilt import probabilities, rebuild_network
from sagelight.explaining.where import rank_correlation
from sagelight.models.network import Network
from sagelight.serving.predictor import Predictor

# How alike maps may be on average; unrelated ones have 0, the same ones 1.
MOST_WITHOUT_WEIGHTS = 0.5
MOST_BETWEEN_CLASSES = 0.9
TRAINED, OTHER = "trained", "another class"

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
        pixels: the first photo (3, H, W).
        examples: its maps: of the trained network for the label, for the other class, and by STEPS.
    """

    name: str
    weights: dict[str, float]
    classes: float
    photos: int
    cold: int
    title: str
    pixels: Pixels
    examples: dict[str, Heat]

    @property
    def follows_weights(self) -> bool:
        return self.weights[STEPS[-1]] <= MOST_WITHOUT_WEIGHTS

    @property
    def follows_class(self) -> bool:
        return self.classes <= MOST_BETWEEN_CLASSES

    @property
    def doubts(self) -> list[str]:
        """What is wrong with the maps, in sentences."""
        if self.cold == self.photos:
            return [f"{self.title}: no map has any heat, so there is nothing to compare."]
        found = []
        if not self.follows_weights:
            found.append(
                f"{self.title}: with all weights random the maps stay much as they were "
                f"({self.weights[STEPS[-1]]:.2f}, more than {MOST_WITHOUT_WEIGHTS:g}): they show the photo, "
                "not what the network has learned."
            )
        if not self.follows_class:
            found.append(
                f"{self.title}: the maps of two classes are much the same ({self.classes:.2f}, more than "
                f"{MOST_BETWEEN_CLASSES:g}): they do not say what speaks for one of them."
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.name,
            "photos": self.photos,
            "cold": self.cold,
            "correlation_between_classes": self.classes,
            "correlation_with_random_weights": self.weights,
            "follows_class": self.follows_class,
            "follows_weights": self.follows_weights,
        }


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
    pairs = [_heats(method, each, each.label, each.other) for each in asked]
    trained = [heats[0] for heats in pairs]
    examples = {TRAINED: trained[0], OTHER: pairs[0][1]}
    weights = {}
    for step, changed in zip(STEPS, randomised(network, spec), strict=True):
        random = make(changed)
        heats = [_heats(random, each, each.label)[0] for each in asked]
        weights[step] = _mean(_likeness(*pair) for pair in zip(trained, heats, strict=True))
        examples[step] = heats[0]
    return Sanity(
        name=method.name,
        title=method.title,
        weights=weights,
        classes=_mean(_likeness(*heats) for heats in pairs),
        photos=len(asked),
        cold=sum(not heat.any() for heat in trained),
        pixels=asked[0].pixels,
        examples=examples,
    )


def comparable_network(folder: Path, predictor: Predictor) -> Network:
    """The network of a bundle whose maps can be compared.

    Raises:
        SagelightError: the bundle has one label only.
        BundleError: the network cannot be rebuilt as it was trained; see `rebuild_network`.
    """
    if len(predictor.labels) < 2:
        raise SagelightError(
            "sanity=true compares two labels, and this bundle has one. Leave it out."
        )
    return rebuild_network(folder, predictor)


def check_bundle(
    network: Network,
    spec: BundleSpec,
    methods: Sequence[Method],
    shown: Sequence[Explained],
    batch: int,
) -> list[Sanity]:
    """`check_sanity` of each method on photos that were explained, with the two best labels of each."""
    makers: dict[str, Maker] = {
        "gradcam": lambda each: _gradcam(each, spec),
        "occlusion": lambda each: Occlusion(NetworkAnswers(each, spec), batch),
    }
    asked = [_question(each, spec.labels) for each in shown]
    return [check_sanity(network, spec, makers[method.name], asked) for method in methods]


def described(checks: Sequence[Sanity]) -> Iterator[str]:
    """The figures as lines to print."""
    columns = ("sanity", "classes", *STEPS)
    yield "rank correlation of each photo's map with that of another class, and with those of random weights:"
    yield "".join(f"  {name:<20}" for name in columns).rstrip()
    for each in checks:
        figures = (each.classes, *each.weights.values())
        yield "".join([f"  {each.name:<20}", *(f"  {value:<20.2f}" for value in figures)]).rstrip()
        for sentence in each.doubts:
            yield f"  {sentence}"


@dataclass(frozen=True)
class NetworkAnswers:
    """A network that answers as a predictor, for occlusion."""

    network: Network
    spec: BundleSpec

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        return probabilities(self.network, pixels)


def _gradcam(network: Network, spec: BundleSpec) -> Method:
    from sagelight.explaining.gradcam import GradCam

    return GradCam(network, spec.backbone, spec.preprocessing.image_size)


def _question(shown: Explained, labels: Sequence[str]) -> Question:
    best, second = (labels.index(label) for label, _ in shown.top[:2])
    return Question(shown.pixels, best, second)


def _heats(method: Method, asked: Question, *targets: int) -> list[Heat]:
    return [as_heat(evidence) for evidence in method.evidence(asked.pixels, targets)]


def _likeness(heat: Heat, other: Heat) -> float:
    """A map that has vanished is unlike one that has heat; beside a map without heat there is nothing to say."""
    if not heat.any():
        return float("nan")
    return rank_correlation(heat, other) if other.any() else 0.0


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")
