"""Rules about the course of a training as a whole: does it go on, and as another one did?

Names, parameters and defaults are AWS's (Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from sagelight.debugging.rules.base import Look, Rule
from sagelight.debugging.rules.reading import chosen
from sagelight.debugging.trial import Moment, Trial


@dataclass
class StalledTraining(Rule):
    """Between two steps that were written, more than `threshold` seconds passed; the pause before a run was continued is
    none.

    AWS calls it StalledTrainingRule. Its `stop_training_on_fire` is the action `stop` here, and its
    `training_job_name_prefix` has no meaning where the training is known.
    """

    threshold: float = 1800.0
    stop_training_on_fire: bool = False
    training_job_name_prefix: str | None = None
    _before: tuple[Moment, float] | None = field(default=None, repr=False)

    means: ClassVar[str] = "training stood still"
    advice: ClassVar[str] = (
        "Does a photo lie on a slow or lost disk, or does a loader hang? Type data.num_workers=0 to see where."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        seconds = trial.seconds(moment)
        if seconds is None:
            return found
        if self._before is not None:
            gap = seconds - self._before[1]
            numbers = f"{gap:.1f} s after step {self._before[0].step} of {self._before[0].mode}"
            wrong = gap > self.threshold and not trial.continued(self._before[1], seconds)
            found.judge(wrong, moment, "training", numbers)
        self._before = (moment, seconds)
        return found

    def lacks(self, trial: Trial) -> str:
        return "the trial holds fewer than two steps"


@dataclass
class SimilarAcrossRuns(Rule):
    """A tensor, by default a loss or a weight, differs from that of another trial (its folder) in the same step, as
    numpy's allclose sees it.
    """

    other_trials: str | None = None
    collection_names: str | None = None
    tensor_regex: str | None = None
    _other: Trial | None = field(default=None, repr=False)

    means: ClassVar[str] = "this training does not go as the other did"
    advice: ClassVar[str] = (
        "Compare the two config.yaml and the data fingerprints in check.json; the same seed gives the same losses."
    )

    def look(self, trial: Trial, moment: Moment) -> Look:
        found = Look()
        if self.other_trials is None:
            return found
        if self._other is None:
            self._other = Trial.open(Path(self.other_trials))
        for name in chosen(
            trial, moment, self.collection_names, self.tensor_regex, "losses,weights"
        ):
            mine, theirs = trial.kept(name, moment), self._other.kept(name, moment)
            if mine is None or theirs is None or mine.shape != theirs.shape:
                continue
            difference = float(np.max(np.abs(mine - theirs))) if mine.size else 0.0
            same = np.allclose(mine, theirs, equal_nan=True)
            found.judge(not same, moment, name, f"differs by {difference:.2e}")
        return found

    def lacks(self, trial: Trial) -> str:
        if self.other_trials is None:
            return "it needs other_trials, the folder of another trial"
        return "the two trials have no tensor of the same step in common"
