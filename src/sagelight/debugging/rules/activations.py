"""Rules about activations, the images that go in, and how a network starts.

Names, parameters and defaults are AWS's (Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules"). Of
activations our own bridge keeps what these rules ask, by channel: the share of positive outputs (`..._active`, shape
(C,)), and the levels that 1 % and 99 % of the inputs lie below (`..._range`, shape (2, C)). Whole tensors of another
writer are judged the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sagelight.debugging.rules.base import Look, Rule
from sagelight.debugging.rules.reading import TRAIN, at, chosen, loss_at, readings
from sagelight.debugging.trial import Moment, Trial

_PERCENT = 100.0
ACTIVE, RANGE = "_active", "_range"
# Half the width of the middle 90 % of a normal distribution, in standard deviations.
_MIDDLE = 1.645


@dataclass
class DeadRelu(Rule):
    """In more than `threshold_layer` percent of a layer's channels, less than `threshold_inactivity` percent of the
    outputs are positive.
    """

    tensor_regex: str = ".*relu_output"
    threshold_inactivity: float = 1.0
    threshold_layer: float = 50.0

    means: ClassVar[str] = "most of a layer gives nothing but zeros, and cannot learn"
    advice: ClassVar[str] = (
        "Type a smaller optimizer.lr or a longer schedule.warmup; use model.weights=default."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        for name in chosen(trial, moment, "relu_output", self.tensor_regex):
            share = _active(trial, name, moment)
            if share is not None:
                dead = _PERCENT * float(np.mean(_PERCENT * share < self.threshold_inactivity))
                numbers = f"{dead:.0f} % of {share.size} channels are inactive"
                found.judge(dead > self.threshold_layer, moment, name, numbers)
        return found

    def lacks(self, trial: Trial) -> str:
        return "the trial holds no outputs of ReLU modules"


@dataclass
class SaturatedActivation(Rule):
    """In more than `threshold_layer` percent of a layer's channels, less than `threshold_inactivity` percent of the
    inputs lie where tanh or sigmoid still has a slope.
    """

    collection_names: str | None = None
    tensor_regex: str = r".*tanh_input|.*sigmoid_input"
    threshold_tanh_min: float = -9.4999
    threshold_tanh_max: float = 9.4999
    threshold_sigmoid_min: float = -23.0
    threshold_sigmoid_max: float = 16.99999
    threshold_inactivity: float = 1.0
    threshold_layer: float = 50.0

    means: ClassVar[str] = "most of a layer sits where its activation is flat, and cannot learn"
    advice: ClassVar[str] = (
        "Type a smaller optimizer.lr; use model.weights=default, or a backbone without tanh and sigmoid."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        collections = self.collection_names or "saturation"
        for name in chosen(trial, moment, collections, self.tensor_regex):
            values = trial.value(name, moment.mode, moment.step)
            if values is None or values.size == 0:
                continue
            flat = _PERCENT * float(np.mean(self._flat(name, values)))
            numbers = f"{flat:.0f} % of the channels are saturated"
            found.judge(flat > self.threshold_layer, moment, name, numbers)
        return found

    def _flat(self, name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
        """By channel, whether fewer of its inputs than `threshold_inactivity` percent meet a slope."""
        low, high = self.threshold_sigmoid_min, self.threshold_sigmoid_max
        if "tanh" in name:
            low, high = self.threshold_tanh_min, self.threshold_tanh_max
        if name.endswith(RANGE):
            return np.asarray((values[0] > high) | (values[1] < low))
        channels = by_channel(values)
        inside = np.mean((channels >= low) & (channels <= high), axis=1)
        return np.asarray(_PERCENT * inside < self.threshold_inactivity)

    def lacks(self, trial: Trial) -> str:
        return "the trial holds no inputs of tanh or sigmoid modules"


@dataclass
class PoorWeightInitialization(Rule):
    """A network starts so that it cannot learn well.

    Within the first `steps` training steps, either all channels of a layer do exactly the same, or what goes into a ReLU
    does not vary at all, or the loss finds no new minimum in `patience` of its steps while the variance of activation inputs differs between layers by more than
    `threshold` times, or no layer's gradients spread (5th to 95th percentile) by `distribution_range`.
    """

    activation_inputs_regex: str = ".*relu_input"
    threshold: float = 10.0
    distribution_range: float = 0.001
    patience: int = 5
    steps: int = 10
    _best: float | None = field(default=None, repr=False)
    _since: int = field(default=0, repr=False)
    _signs: dict[str, str] = field(default_factory=dict, repr=False)

    means: ClassVar[str] = "the weights start so that the network cannot learn well"
    advice: ClassVar[str] = "Use model.weights=default, or check the weights that you gave."

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode != TRAIN or moment.step >= self.steps:
            return found
        for name in trial.names(regex=f"{ACTIVE}$", moment=moment):
            share = trial.value(name, moment.mode, moment.step)
            if share is not None:
                found.judge(_all_alike(share), moment, name, "all its channels do the same")
        self._read_signs(found, trial, moment)
        loss = loss_at(trial, moment)
        if loss is None:
            return found
        better = self._best is None or loss < self._best
        self._best = loss if better else self._best
        self._since = 0 if better else self._since + 1
        stuck = self._since >= self.patience
        for name, sign in self._signs.items():
            numbers = f"{sign}; no lower loss than {self._best:.4g} in {self._since} steps"
            found.judge(stuck, moment, name, numbers)
        return found

    def _read_signs(self, found: Look, trial: Trial, moment: Moment) -> None:
        inputs = chosen(trial, moment, "relu_input", self.activation_inputs_regex)
        spreads = dict(readings(trial, moment, inputs, "variance"))
        for name, spread in spreads.items():
            found.judge(spread == 0, moment, name, "its inputs are all the same")
        if len(spreads) > 1 and max(spreads.values()) > self.threshold * min(spreads.values()):
            low, high = min(spreads.values()), max(spreads.values())
            self._signs["relu_input"] = f"variances from {low:.2e} to {high:.2e}"
        gradients = trial.names(collection="gradients", moment=moment)
        widths = [_width(trial, name, moment) for name in gradients]
        known = [width for width in widths if width is not None]
        if known and max(known) < self.distribution_range:
            self._signs["gradients"] = f"they spread by {max(known):.2e} at most"

    def lacks(self, trial: Trial) -> str:
        return f"the trial holds none of what it looks at in the first {self.steps} steps"


@dataclass
class CheckInputImages(Rule):
    """Over at least `threshold_samples` images, the mean of a channel is further from 0 than `threshold_mean`: they
    were not normalised as they should be.

    `channel` is the axis of the channels, 1 in PyTorch.
    """

    threshold_mean: float = 0.2
    threshold_samples: int = 500
    regex: str = r".*hybridsequential0_input_0"
    channel: int = 1
    _sums: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    _images: dict[str, int] = field(default_factory=dict, repr=False)

    means: ClassVar[str] = "the images that go in are not centred"
    advice: ClassVar[str] = (
        "Type data.normalize=dataset, or give the mean and standard deviation that the weights were trained with."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        for name in trial.names(regex=self.regex, moment=moment):
            images = trial.value(name, moment.mode, moment.step)
            if images is None or images.ndim <= self.channel:
                continue
            others = tuple(axis for axis in range(images.ndim) if axis not in (0, self.channel))
            means = images.astype(np.float64).mean(axis=others).sum(axis=0)
            self._sums[name] = self._sums.get(name, np.zeros_like(means)) + means
            self._images[name] = self._images.get(name, 0) + len(images)
            if self._images[name] >= self.threshold_samples:
                mean = self._sums[name] / self._images[name]
                wrong = bool(np.any(np.abs(mean) > self.threshold_mean))
                shown = ", ".join(f"{value:.2f}" for value in mean)
                found.judge(wrong, moment, name, f"means {shown} over {self._images[name]} images")
        return found

    def lacks(self, trial: Trial) -> str:
        seen = max(self._images.values(), default=0)
        return f"the trial holds {seen} images of the {self.threshold_samples} that it needs"


def by_channel(values: NDArray[Any]) -> NDArray[Any]:
    """(B, C, ...) to (C, values of the channel)."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


def _active(trial: Trial, name: str, moment: Moment) -> NDArray[Any] | None:
    values = trial.value(name, moment.mode, moment.step)
    if values is None or name.endswith(ACTIVE):
        return values
    return np.asarray(np.mean(by_channel(values) > 0, axis=1)) if values.ndim > 1 else None


def _all_alike(share: NDArray[Any]) -> bool:
    """Whether channels that are neither all silent nor all on are positive equally often, to the last bit."""
    return share.size > 1 and bool(np.ptp(share) == 0) and 0 < float(share.flat[0]) < 1


def _width(trial: Trial, name: str, moment: Moment) -> float | None:
    whole = trial.value(name, moment.mode, moment.step)
    if whole is not None:
        return float(np.percentile(whole, 95) - np.percentile(whole, 5))
    deviation = at(trial, name, moment, "std")
    return None if deviation is None else 2 * _MIDDLE * deviation
