"""Rules about weights and gradients.

Names, parameters and defaults are AWS's (Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules").
A rule reads reductions where the trial has them, and computes them from whole tensors where it has not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sagelight.debugging.rules.base import Look, Rule
from sagelight.debugging.rules.reading import TRAIN, at, chosen, loss_at, readings, trained
from sagelight.debugging.trial import Moment, Trial

_PERCENT = 100.0
# Below this share of its first value, a loss explains why gradients are small.
_LEARNED = 0.1


@dataclass
class VanishingGradient(Rule):
    """The mean magnitude of a weight's gradient is below `threshold`: its layer does not learn.

    Biases are not judged: that of a layer whose output is normalised next has no gradient, because the normalisation takes
    it away. Once the loss has fallen below a tenth of its first value there is little left to learn, and gradients are not judged.
    """

    threshold: float = 1e-7
    _first: float | None = field(default=None, repr=False)
    _loss: float | None = field(default=None, repr=False)

    means: ClassVar[str] = "a layer's gradients are so small that it does not learn"
    advice: ClassVar[str] = (
        "Use pretrained weights (model.weights=default), a backbone with residual connections, or a larger "
        "optimizer.lr; look for activations that saturate."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode != TRAIN:
            return found
        self._loss = loss_at(trial, moment) or self._loss
        self._first = self._first or self._loss
        learned = bool(self._loss and self._first and self._loss < _LEARNED * self._first)
        names = trial.names(collection="gradients", moment=moment)
        weights = [name for name in names if not name.endswith("bias")]
        for name, size in readings(trial, moment, weights, "abs_mean"):
            wrong = size < self.threshold and not learned
            numbers = f"mean magnitude {size:.2e}, below {self.threshold:g}"
            found.judge(wrong, moment, name, numbers)
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
        for name in chosen(trial, moment, self.collection_names, self.tensor_regex, default):
            kept = trial.kept(name, moment)
            if kept is not None:
                values = kept.ravel()
                bad = values[np.isnan(values) if self.only_nan else ~np.isfinite(values)]
                found.judge(bad.size > 0, moment, name, f"holds {bad[0]:g}" if bad.size else "")
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
        for name in chosen(trial, moment, self.collection_names, self.tensor_regex, "weights"):
            share = self._zeros(trial, name, moment)
            if share is not None:
                found.judge(share >= self.threshold, moment, name, f"{share:.1f} % are zero")
        return found

    def _zeros(self, trial: Trial, name: str, moment: Moment) -> float | None:
        if self.threshold >= _PERCENT:
            for reduction in ("abs_mean", "abs_max"):
                size = at(trial, name, moment, reduction)
                if size is not None:
                    return _PERCENT * (size == 0)
        whole = trial.value(name, moment.mode, moment.step)
        return None if whole is None else _PERCENT * float(np.mean(whole == 0))


@dataclass
class UnchangedTensor(Rule):
    """A tensor, by default a weight that has a gradient, is the same over `num_steps` of its steps, as numpy's
    allclose sees it. Where the trial says how far weights were moved instead, it must have been nothing at all.
    """

    collection_names: str | None = None
    tensor_regex: str | None = None
    num_steps: int = 3
    rtol: float = 1e-5
    atol: float = 1e-8
    equal_nan: bool = False
    _past: dict[str, list[NDArray[Any]]] = field(default_factory=dict, repr=False)
    _still: dict[str, int] = field(default_factory=dict, repr=False)

    means: ClassVar[str] = "what should learn does not change"
    advice: ClassVar[str] = (
        "Is optimizer.lr zero or far too small, or is the layer frozen on purpose (finetune=head)?"
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode != TRAIN:
            return found
        numbers = f"the same over {self.num_steps} of its steps"
        chosen_by_user = self.collection_names is not None or self.tensor_regex is not None
        names = trained(trial, moment)
        if chosen_by_user:
            names = chosen(trial, moment, self.collection_names, self.tensor_regex)
        for name in names:
            moved = None if chosen_by_user else at(trial, f"update/{name}", moment, "abs_mean")
            same = self._same(name, moved, trial, moment)
            if same is not None:
                found.judge(same, moment, name, numbers)
        return found

    def _same(self, name: str, moved: float | None, trial: Trial, moment: Moment) -> bool | None:
        if moved is not None:
            self._still[name] = self._still.get(name, 0) + 1 if moved == 0 else 0
            return self._still[name] >= self.num_steps
        value = trial.kept(name, moment)
        if value is None:
            return None
        past = self._past.setdefault(name, [])
        past.append(value)
        if len(past) > self.num_steps:
            past.pop(0)
        if len(past) < self.num_steps:
            return None
        return all(
            np.allclose(past[0], each, self.rtol, self.atol, self.equal_nan) for each in past[1:]
        )


@dataclass
class WeightUpdateRatio(Rule):
    """How far weights move in `num_steps` of their steps (None: one), as a share of their size, is too much or too
    little. It needs whole weights, or for one step how far they were moved.
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
        for name in trained(trial, moment):
            ratio = self._ratio(name, trial, moment)
            if ratio is not None:
                wrong = ratio > self.large_threshold or ratio < self.small_threshold
                found.judge(wrong, moment, name, f"moved by {ratio:.2e} of its size")
        return found

    def _ratio(self, name: str, trial: Trial, moment: Moment) -> float | None:
        if self.num_steps is None:
            moved = at(trial, f"update/{name}", moment, "abs_mean")
            size = at(trial, name, moment, "abs_mean")
            if moved is not None and size is not None:
                return moved / (size + self.epsilon)
        weights = trial.value(name, moment.mode, moment.step)
        if weights is None:
            return None
        past = self._past.setdefault(name, [])
        past.append(weights)
        if len(past) <= (self.num_steps or 1):
            return None
        return float(np.abs(weights - past.pop(0)).mean() / (np.abs(weights).mean() + self.epsilon))

    def lacks(self, trial: Trial) -> str:
        return "the trial holds neither whole weights with gradients nor how far they were moved"


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
        for name in chosen(trial, moment, self.collection_names, self.tensor_regex, "weights"):
            spread = _variance(trial, name, moment)
            if spread is not None:
                high = self.max_threshold is not None and spread > self.max_threshold
                low = self.min_threshold is not None and spread < self.min_threshold
                found.judge(high or low, moment, name, f"variance {spread:.2e}")
        return found

    def lacks(self, trial: Trial) -> str:
        if self.max_threshold is None and self.min_threshold is None:
            return "it needs max_threshold or min_threshold"
        return super().lacks(trial)


def _variance(trial: Trial, name: str, moment: Moment) -> float | None:
    spread = at(trial, name, moment, "variance")
    if spread is None:
        deviation = at(trial, name, moment, "std")
        spread = None if deviation is None else deviation**2
    return spread
