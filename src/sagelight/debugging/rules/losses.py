"""Rules about the loss, and about whether training goes on at all.

Names, parameters and defaults are AWS's (Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar

from sagelight.debugging.rules.base import Look, Rule
from sagelight.debugging.rules.tensors import TRAIN, at, chosen
from sagelight.debugging.trial import Moment, Trial

EVAL = "EVAL"


@dataclass
class LossNotDecreasing(Rule):
    """A loss has fallen by less than `diff_percent` over `num_steps` of its steps, or has risen by more than
    `increase_threshold_percent`. The means over a window before and after are compared, so that one batch that is
    harder than another is no finding. To allow a standstill and no rise, give a `diff_percent` below zero.
    """

    collection_names: str | None = None
    tensor_regex: str | None = None
    use_losses_collection: bool = True
    num_steps: int = 10
    diff_percent: float = 0.1
    increase_threshold_percent: float = 5.0
    mode: str = "GLOBAL"
    _past: dict[tuple[str, str], list[float]] = field(default_factory=dict, repr=False)

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
        for name in chosen(trial, self.collection_names, self.tensor_regex, default):
            value = at(trial, name, moment, "mean")
            if value is None:
                continue
            past = self._past.setdefault((moment.mode, name), [])
            past.append(value)
            if len(past) > 2 * self.num_steps:
                past.pop(0)
            if len(past) == 2 * self.num_steps:
                before, after = fmean(past[: self.num_steps]), fmean(past[self.num_steps :])
                fallen = 100 * (before - after) / max(abs(before), 1e-12)
                wrong = fallen < self.diff_percent or fallen < -self.increase_threshold_percent
                numbers = f"mean of {self.num_steps} steps {before:.4g}, of the next {after:.4g}"
                found.judge(wrong, moment, name, numbers)
        return found


@dataclass
class Overfit(Rule):
    """The mean loss of a validation is above that of the training before it by more than `ratio_threshold`, over
    `patience` validations in a row.
    """

    tensor_regex: str | None = None
    start_step: int = 0
    patience: int = 1
    ratio_threshold: float = 0.1
    _train: dict[str, list[float]] = field(default_factory=dict, repr=False)
    _eval: dict[str, list[float]] = field(default_factory=dict, repr=False)
    _bad: dict[str, int] = field(default_factory=dict, repr=False)
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
        for name in chosen(trial, None if self.tensor_regex else "losses", self.tensor_regex, ""):
            value = at(trial, name, moment, "mean")
            if (
                value is not None
                and moment.mode in (TRAIN, EVAL)
                and moment.step >= self.start_step
            ):
                kept = self._train if moment.mode == TRAIN else self._eval
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
            self._bad[name] = self._bad.get(name, 0) + 1 if ratio > self.ratio_threshold else 0
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
        values = [at(trial, name, moment, "mean") for name in trial.names(collection="losses")]
        known = [value for value in values if value is not None]
        if known:
            self._open.setdefault(moment.mode, []).append(fmean(known))
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
