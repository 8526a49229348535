"""Rules about weights, gradients and activations.

Names, parameters and defaults are AWS's (Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules").
A rule reads reductions where the trial has them, and computes them from whole tensors where it has not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sagelight.debugging.rules.base import Look, Rule
from sagelight.debugging.trial import Moment, Trial

TRAIN = "TRAIN"
_PERCENT = 100.0


def chosen(trial: Trial, collections: str | None, regex: str | None, default: str) -> list[str]:
    """Names of tensors by a rule's `collection_names` (comma-separated) and `tensor_regex`, or of `default`."""
    if collections is None and regex is None:
        collections = default
    found: set[str] = set()
    if collections is not None:
        for name in collections.split(","):
            found |= set(trial.names(collection=name.strip()))
    if regex is not None:
        found |= set(trial.names(regex=regex))
    return sorted(found)


def trained(trial: Trial) -> list[str]:
    """Names of the weights that learn: those of frozen layers have no gradients."""
    learning = set(trial.names(collection="gradients"))
    return [name for name in trial.names(collection="weights") if f"gradient/{name}" in learning]


def at(trial: Trial, name: str, moment: Moment, reduction: str = "") -> float | None:
    """A reduction of a tensor in a step as a number; None where it was not written then."""
    value = trial.value(name, moment.mode, moment.step, reduction)
    return None if value is None else float(value)


@dataclass
class VanishingGradient(Rule):
    """A gradient's mean magnitude is below `threshold`: its layer does not learn."""

    threshold: float = 1e-7

    means: ClassVar[str] = "a layer's gradients are so small that it does not learn"
    advice: ClassVar[str] = (
        "Use pretrained weights (model.weights=default), a backbone with residual connections, or a larger "
        "optimizer.lr; look for activations that saturate."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode != TRAIN:
            return found
        for name in trial.names(collection="gradients"):
            size = at(trial, name, moment, "abs_mean")
            if size is not None:
                wrong = size < self.threshold
                found.judge(
                    wrong, moment, name, f"mean magnitude {size:.2e}, below {self.threshold:g}"
                )
        return found


@dataclass
class ExplodingTensor(Rule):
    """A tensor holds NaN or, unless `only_nan`, infinity."""

    collection_names: str | None = None
    tensor_regex: str | None = None
    only_nan: bool = False

    means: ClassVar[str] = "numbers have grown beyond what floating point holds"
    advice: ClassVar[str] = (
        "Type a smaller optimizer.lr, trainer.gradient_clip_val=1, a longer schedule.warmup, or "
        "trainer.precision=32-true."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        default = "gradients,weights,biases,losses"
        for name in chosen(trial, self.collection_names, self.tensor_regex, default):
            values = [at(trial, name, moment, each) for each in ("min", "max")]
            known = [value for value in values if value is not None]
            if known:
                bad = np.isnan(known) if self.only_nan else ~np.isfinite(known)
                found.judge(bool(bad.any()), moment, name, f"from {known[0]:g} to {known[-1]:g}")
        return found


@dataclass
class AllZero(Rule):
    """At least `threshold` percent of a tensor are zeros."""

    collection_names: str | None = None
    tensor_regex: str | None = None
    threshold: float = 100.0

    means: ClassVar[str] = "a tensor holds nothing but zeros"
    advice: ClassVar[str] = (
        "A layer that starts from zeros stays there: use model.weights=default, or another initialisation."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        for name in chosen(trial, self.collection_names, self.tensor_regex, "weights"):
            share = self._zeros(trial, name, moment)
            if share is not None:
                found.judge(share >= self.threshold, moment, name, f"{share:.1f} % are zero")
        return found

    def _zeros(self, trial: Trial, name: str, moment: Moment) -> float | None:
        if self.threshold >= _PERCENT:
            largest = at(trial, name, moment, "abs_max")
            return None if largest is None else _PERCENT * (largest == 0)
        whole = trial.value(name, moment.mode, moment.step)
        return None if whole is None else _PERCENT * float(np.mean(whole == 0))


@dataclass
class UnchangedTensor(Rule):
    """A tensor, by default a weight that has a gradient, is the same over `num_steps` of its steps, as numpy's
    allclose sees it.
    """

    collection_names: str | None = None
    tensor_regex: str | None = None
    num_steps: int = 3
    rtol: float = 1e-5
    atol: float = 1e-8
    equal_nan: bool = False
    _past: dict[str, list[NDArray[Any]]] = field(default_factory=dict, repr=False)

    means: ClassVar[str] = "what should learn does not change"
    advice: ClassVar[str] = (
        "Is optimizer.lr zero or far too small, or is the layer frozen on purpose (finetune=head)?"
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode != TRAIN:
            return found
        names = trained(trial)
        if self.collection_names is not None or self.tensor_regex is not None:
            names = chosen(trial, self.collection_names, self.tensor_regex, "")
        for name in names:
            value = _shape_of(trial, name, moment)
            if value is None:
                continue
            past = self._past.setdefault(name, [])
            past.append(value)
            if len(past) > self.num_steps:
                past.pop(0)
            if len(past) == self.num_steps:
                same = all(
                    np.allclose(past[0], each, self.rtol, self.atol, self.equal_nan)
                    for each in past[1:]
                )
                found.judge(same, moment, name, f"the same over {self.num_steps} of its steps")
        return found


@dataclass
class WeightUpdateRatio(Rule):
    """How far weights move in `num_steps` of their steps (None: one), as a share of their size, is too much or too
    little. It needs whole weights.
    """

    num_steps: int | None = None
    large_threshold: float = 10.0
    small_threshold: float = 1e-8
    epsilon: float = 1e-9
    _past: dict[str, list[NDArray[Any]]] = field(default_factory=dict, repr=False)

    means: ClassVar[str] = "the learning rate does not fit the size of the weights"
    advice: ClassVar[str] = (
        "Ratios far above 1: type a smaller optimizer.lr; far below 1e-6: a larger one."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode != TRAIN:
            return found
        for name in trained(trial):
            weights = trial.value(name, moment.mode, moment.step)
            if weights is None:
                continue
            past = self._past.setdefault(name, [])
            past.append(weights)
            if len(past) <= (self.num_steps or 1):
                continue
            moved = np.abs(weights - past.pop(0)).mean()
            ratio = float(moved / (np.abs(weights).mean() + self.epsilon))
            wrong = ratio > self.large_threshold or ratio < self.small_threshold
            found.judge(wrong, moment, name, f"moved by {ratio:.2e} of its size")
        return found

    def lacks(self, trial: Trial) -> str:
        return "the trial holds no whole weights with gradients"


@dataclass
class TensorVariance(Rule):
    """A tensor's variance leaves the range from `min_threshold` to `max_threshold`; without either, none is judged."""

    collection_names: str | None = None
    tensor_regex: str | None = None
    max_threshold: float | None = None
    min_threshold: float | None = None

    means: ClassVar[str] = "a tensor spreads more, or less, than it should"
    advice: ClassVar[str] = "Look at how the layer starts, and at optimizer.lr."

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if self.max_threshold is None and self.min_threshold is None:
            return found
        for name in chosen(trial, self.collection_names, self.tensor_regex, "weights"):
            spread = at(trial, name, moment, "variance")
            if spread is not None:
                high = self.max_threshold is not None and spread > self.max_threshold
                low = self.min_threshold is not None and spread < self.min_threshold
                found.judge(high or low, moment, name, f"variance {spread:.2e}")
        return found

    def lacks(self, trial: Trial) -> str:
        if self.max_threshold is None and self.min_threshold is None:
            return "it needs max_threshold or min_threshold"
        return super().lacks(trial)


def _shape_of(trial: Trial, name: str, moment: Moment) -> NDArray[Any] | None:
    """The whole tensor, or the reductions that stand for it."""
    whole = trial.value(name, moment.mode, moment.step)
    if whole is not None:
        return whole
    reduced = [at(trial, name, moment, each) for each in ("min", "max", "mean", "abs_mean", "std")]
    known = [value for value in reduced if value is not None]
    return np.array(known) if known else None
