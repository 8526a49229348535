"""One self-contained HTML page about one hyperparameter study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagelight import __version__
from sagelight.files import write_text
from sagelight.reporting.headline import Fact
from sagelight.reporting.rendering import asset, render
from sagelight.reporting.study_axis import setting_axes
from sagelight.reporting.study_drawn import drawn, drawn_note
from sagelight.reporting.study_importance import importances
from sagelight.reporting.study_marks import WORDS, called
from sagelight.reporting.study_objective import Objective, best_of, levels, scored
from sagelight.reporting.study_progress import history, trial_curves
from sagelight.reporting.study_settings import parallel, slices
from sagelight.reporting.text import FILTERS, NOTHING, duration, plural, whole
from sagelight.tuning.space import Space
from sagelight.tuning.trials import State, Trial, short, tuned_names


@dataclass(frozen=True)
class StudyFacts:
    """What a study was about.

    Attributes:
        metric: what its trials are compared by, `val/accuracy` for example.
        strategy: bayesian, random, hyperband or grid.
        notes: sentences to show under the headline.
    """

    name: str
    metric: str
    maximize: bool
    strategy: str
    space: Space
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A trial in the table of all, written out."""

    name: str
    state: str
    objective: str
    values: list[str]
    seconds: str
    reason: str
    best: bool


def write_study_report(folder: Path, facts: StudyFacts, trials: Sequence[Trial]) -> Path:
    """Write `folder/report.html` about the trials so far, in their order, and return its path."""
    path = folder / "report.html"
    write_text(
        path, render("study.html.j2", _content(facts, trials), {**FILTERS, "called": called})
    )
    return path


def _content(facts: StudyFacts, trials: Sequence[Trial]) -> dict[str, Any]:
    objective = Objective(facts.metric, facts.maximize)
    found = scored(trials)
    scale = levels([value for _, value in found], objective)
    axes = setting_axes(facts.space, trials)
    best = best_of(trials, objective)
    shown = drawn(trials, objective)
    return {
        "study": replace(facts, notes=(*facts.notes, *drawn_note(shown, trials))),
        "objective": objective,
        "version": __version__,
        "style": asset("report.css", "study.css"),
        "trials": len(trials),
        "scored": len(found),
        "completed": sum(trial.state == "Completed" for trial, _ in found),
        "best": best,
        "best_values": _values(best) if best else [],
        "facts": _facts(facts, trials),
        "scale_note": scale.note("trial"),
        "history": history(trials, objective, scale, shown),
        "curves": trial_curves(shown, objective),
        "importances": importances(trials, axes, scale),
        "parallel": parallel(shown, axes, objective, scale),
        "slices": slices(shown, axes, objective, scale),
        "columns": _columns(facts, trials),
        "rows": _rows(_columns(facts, trials), shown, best, objective),
    }


def _values(trial: Trial) -> list[Fact]:
    return [Fact(name, short(text)) for name, text in trial.values.items()]


def _facts(facts: StudyFacts, trials: Sequence[Trial]) -> list[Fact]:
    counts = Counter(trial.state for trial in trials)
    names: dict[State, str] = {
        "Completed": "Completed",
        "Stopped": "Stopped early",
        "Failed": "Failed",
    }
    states = [Fact(name, whole(counts[state])) for state, name in names.items()]
    if counts["InProgress"]:
        states.append(Fact("In progress", whole(counts["InProgress"])))
    return [
        Fact("Strategy", facts.strategy),
        Fact("Settings varied", whole(len(facts.space.dimensions))),
        Fact("Trials", whole(len(trials))),
        *states,
        Fact("Training time of all trials", _total_time(trials)),
    ]


def _total_time(trials: Sequence[Trial]) -> str:
    known = [trial.seconds for trial in trials if trial.seconds is not None]
    if not known:
        return NOTHING
    unknown = len(trials) - len(known)
    rest = f", {plural(unknown, 'trial')} not counted" if unknown else ""
    return duration(sum(known)) + rest


def _columns(facts: StudyFacts, trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys([*facts.space.names, *tuned_names(trials)]))


def _rows(
    names: Sequence[str], trials: Sequence[Trial], best: Trial | None, objective: Objective
) -> list[Row]:
    return [
        Row(
            name=trial.name,
            state=WORDS[trial.state],
            objective=objective.write(trial.objective),
            values=[short(trial.values.get(name, NOTHING)) for name in names],
            seconds=NOTHING if trial.seconds is None else duration(trial.seconds),
            reason=trial.reason,
            best=trial is best,
        )
        for trial in trials
    ]
