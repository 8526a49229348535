"""Rules about the loss, and about whether training goes on at all.

Names, parameters and defaults are AWS's (Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import ClassVar

from sagelight.debugging.rules.base import Look, Rule
from sagelight.debugging.rules.reading import EVAL, TRAIN, chosen, loss_at, readings
from sagelight.debugging.trial import Moment, Trial

# Below this share of its first window, a loss has shown that the network learns.
_LEARNED = 0.75


@dataclass
class LossNotDecreasing(Rule):
    """A loss has fallen by less than `diff_percent` over `num_steps` of its steps, or has risen by more than
    `increase_threshold_percent`, from its mean over one window of so many steps to that over the next.

    A fall must be more than the scatter of the batches explains (twice its standard error), or it is none; a rise more
    than three times that, and so many percent of where the loss began too, or batches whose loss is next to nothing would
    make one. A whole window above the first loss of all has risen as well. A standstill is no finding once the loss has
    fallen below three quarters of where it began, which is Overtraining's to judge. Windows follow one another without
    overlap.
    """

    collection_names: str | None = None
    tensor_regex: str | None = None
    use_losses_collection: bool = True
    num_steps: int = 10
    diff_percent: float = 0.1
    increase_threshold_percent: float = 5.0
    mode: str = "GLOBAL"
    _window: dict[tuple[str, str], list[float]] = field(default_factory=dict, repr=False)
    _before: dict[tuple[str, str], list[float]] = field(default_factory=dict, repr=False)
    _first: dict[tuple[str, str], float] = field(default_factory=dict, repr=False)
    _began: dict[tuple[str, str], float] = field(default_factory=dict, repr=False)

    means: ClassVar[str] = "the network is not learning"
    advice: ClassVar[str] = (
        "Is optimizer.lr too small, or so large that the loss jumps? Are the labels right (the check verb, and "
        "the mistakes in the report)?"
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if self.mode not in ("GLOBAL", moment.mode):
            return found
        default = "losses" if self.use_losses_collection else ""
        names = chosen(trial, moment, self.collection_names, self.tensor_regex, default)
        for name, value in readings(trial, moment, names, "mean"):
            key = (moment.mode, name)
            window = self._window.setdefault(key, [])
            window.append(value)
            self._began.setdefault(key, value)
            if len(window) == self.num_steps:
                if key in self._before:
                    self._judge(found, key, window, moment)
                self._before[key] = self._window.pop(key)
                self._first.setdefault(key, fmean(self._before[key]))
        return found

    def _judge(
        self, found: Look, key: tuple[str, str], window: list[float], moment: Moment
    ) -> None:
        before, after, first = fmean(self._before[key]), fmean(window), self._first[key]
        error = math.hypot(_error(self._before[key]), _error(window))
        rise, began = after - before, self._began[key]
        fall = max(self.diff_percent / 100 * abs(before), 2 * error)
        still = -rise < fall and after > _LEARNED * first
        least = self.increase_threshold_percent / 100
        rising = rise > max(least * abs(before), least * abs(first), 3 * error)
        above = min(window) > began and after > (1 + least) * began
        wrong = still or rising or above or not math.isfinite(after)
        numbers = f"mean of {self.num_steps} steps {before:.4g}, of the next {after:.4g}"
        found.judge(wrong, moment, key[1], numbers)


def _error(values: list[float]) -> float:
    """The standard error of their mean; none where a value is not finite."""
    if len(values) < 2 or not all(math.isfinite(value) for value in values):
        return 0.0
    return stdev(values) / math.sqrt(len(values))


@dataclass
class Overfit(Rule):
    """The mean loss of a validation is above that of the training before it by more than `ratio_threshold`, over
    `patience` validations in a row. One that is lower than every validation before is no finding: the network still gets
    better on photos that it does not train on.
    """

    tensor_regex: str | None = None
    start_step: int = 0
    patience: int = 1
    ratio_threshold: float = 0.1
    _train: dict[str, list[float]] = field(default_factory=dict, repr=False)
    _eval: dict[str, list[float]] = field(default_factory=dict, repr=False)
    _bad: dict[str, int] = field(default_factory=dict, repr=False)
    _best: dict[str, float] = field(default_factory=dict, repr=False)
    _last: Moment | None = field(default=None, repr=False)

    means: ClassVar[str] = "the network learns its training photos by heart"
    advice: ClassVar[str] = (
        "Type augment=strong or mixup_cutmix, fewer trainer.max_epochs, callbacks=early_stopping, "
        "finetune=head, or add photos."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode == TRAIN and any(self._eval.values()):
            found = self._judge()
        if moment.mode not in (TRAIN, EVAL) or moment.step < self.start_step:
            return found
        kept = self._train if moment.mode == TRAIN else self._eval
        for name, value in readings(
            trial, moment, chosen(trial, moment, None, self.tensor_regex, "losses"), "mean"
        ):
            kept.setdefault(name, []).append(value)
            self._last = moment
        return found

    def last(self, trial: Trial) -> Look:
        return self._judge()

    def _judge(self) -> Look:
        found = Look()
        for name, validation in self._eval.items():
            training = self._train.get(name)
            if not training or not validation or self._last is None:
                continue
            trained, validated = fmean(training), fmean(validation)
            ratio = (validated - trained) / max(abs(trained), 1e-12)
            better = validated < self._best.get(name, math.inf)
            self._best[name] = min(validated, self._best.get(name, math.inf))
            wrong = ratio > self.ratio_threshold and not better
            self._bad[name] = self._bad.get(name, 0) + 1 if wrong else 0
            numbers = (
                f"validation {validated:.4g}, training {trained:.4g}: {100 * ratio:.0f} % above"
            )
            found.judge(self._bad[name] >= self.patience, self._last, name, numbers)
        self._train.clear()
        self._eval.clear()
        return found

    def lacks(self, trial: Trial) -> str:
        return "the trial holds no losses of both training and validation"


@dataclass
class Overtraining(Rule):
    """The loss has not improved by `delta`, for `patience_train` means of training or `patience_validation` of
    validation in a row.
    """

    patience_train: int = 5
    patience_validation: int = 10
    delta: float = 0.01
    _open: dict[str, list[float]] = field(default_factory=dict, repr=False)
    _best: dict[str, float] = field(default_factory=dict, repr=False)
    _since: dict[str, int] = field(default_factory=dict, repr=False)
    _mode: str = field(default="", repr=False)
    _last: Moment | None = field(default=None, repr=False)

    means: ClassVar[str] = "training goes on, and nothing gets better"
    advice: ClassVar[str] = "Type fewer trainer.max_epochs, or callbacks=early_stopping."

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if moment.mode not in (TRAIN, EVAL):
            return found
        if moment.mode != self._mode:
            found = self._judge()
            self._mode = moment.mode
        loss = loss_at(trial, moment)
        if loss is not None:
            self._open.setdefault(moment.mode, []).append(loss)
            self._last = moment
        return found

    def last(self, trial: Trial) -> Look:
        return self._judge()

    def _judge(self) -> Look:
        found = Look()
        patience = {TRAIN: self.patience_train, EVAL: self.patience_validation}
        for mode, values in self._open.items():
            if not values or self._last is None:
                continue
            mean, best = fmean(values), self._best.get(mode, math.inf)
            self._since[mode] = 0 if mean < best - self.delta else self._since.get(mode, 0) + 1
            self._best[mode] = min(mean, best)
            numbers = f"{mode}: not below {best:.4g} by {self.delta:g}, {self._since[mode]} times in a row"
            found.judge(self._since[mode] >= patience[mode], self._last, "losses", numbers)
        self._open.clear()
        return found
