"""How much each setting matters for the objective, as a random forest sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sagelight.reporting.study_axis import ChoiceAxis, SettingAxis
from sagelight.reporting.study_objective import Levels, scored
from sagelight.tuning.trials import Trial

FEWEST_TRIALS = 4
# A forest tells as much from so many of tens of thousands, in a fraction of the time.
MOST_TRIALS = 1000
TREES = 100
REPEATS = 10


@dataclass(frozen=True)
class Importance:
    """A setting's share of what all settings explain, 0..1."""

    name: str
    share: float


@dataclass(frozen=True)
class Importances:
    """The settings, most important first, or why that is not known.

    Attributes:
        trials: from how many trials it was estimated.
        explained: the R² of the forest on trials that it was not fitted to; at most 1.
        lack: a sentence, empty where there are settings.
    """

    settings: list[Importance]
    trials: int
    explained: float
    lack: str


def importances(trials: Sequence[Trial], axes: Sequence[SettingAxis], scale: Levels) -> Importances:
    """Permutation importance of each setting in a random forest fitted to the trials with a score.

    Scores beyond the charts' scale count as its edge: how badly a trial diverged says little.
    """
    found = scored(trials)
    found = found[:: max(1, -(-len(found) // MOST_TRIALS))]
    goals = [scale.clip(value) for _, value in found]
    lack = _lack(goals, axes)
    if lack:
        return Importances([], len(found), 0.0, lack)
    columns = [_columns(axis, [trial for trial, _ in found]) for axis in axes]
    drops, explained = _forest(columns, goals)
    if sum(drops) <= 0:
        lack = "The objective does not visibly depend on any one setting."
        return Importances([], len(found), explained, lack)
    shares = [
        Importance(axis.name, drop / sum(drops)) for axis, drop in zip(axes, drops, strict=True)
    ]
    shares.sort(key=lambda entry: -entry.share)
    return Importances(shares, len(found), explained, "")


def _lack(goals: list[float], axes: Sequence[SettingAxis]) -> str:
    if not axes:
        return "The study varied no setting."
    if len(axes) == 1:
        return "There is nothing to compare: the study varied one setting only."
    if len(goals) < FEWEST_TRIALS:
        return (
            f"An estimate takes at least {FEWEST_TRIALS} measured trials; there are {len(goals)}."
        )
    if min(goals) == max(goals):
        return "All measured trials are equal, so no setting made a difference."
    return ""


def _columns(axis: SettingAxis, trials: Sequence[Trial]) -> list[list[float]]:
    """A setting as columns of the forest's input, each with a number a trial: one, or one a choice."""
    texts = [trial.values.get(axis.name) for trial in trials]
    if isinstance(axis, ChoiceAxis):
        return [[float(text == value) for text in texts] for value in axis.values]
    places = [axis.place(text) for text in texts]
    return [[float("nan") if place is None else place for place in places]]


def _forest(columns: list[list[list[float]]], goals: list[float]) -> tuple[list[float], float]:
    """What shuffling each setting costs, at least 0, and the forest's R² out of the bag."""
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = np.array([column for setting in columns for column in setting]).T
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=0).fit(inputs, goals)
    measured = permutation_importance(forest, inputs, goals, n_repeats=REPEATS, random_state=0)
    costs = iter(measured.importances_mean)
    drops = [max(0.0, sum(float(next(costs)) for _ in setting)) for setting in columns]
    return drops, float(forest.oob_score_)
