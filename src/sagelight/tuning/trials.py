"""What became of each trial of a study, and the files that every kind of study leaves: trials.csv and best.yaml."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from sagelight.config.grammar import parse_override
from sagelight.config.save import CHOOSING, PLACE
from sagelight.files import write_csv, write_text
from sagelight.tuning.best import experiment_file

TABLE = "trials.csv"
State = Literal["Completed", "Stopped", "Failed", "InProgress"]


@dataclass(frozen=True)
class Trial:
    """One trial, wherever it ran.

    Attributes:
        name: its number, or the name of its training job.
        state: as SageMaker calls it; `Stopped` was ended early.
        objective: its best `hpo.metric`; None when it measured none.
        values: Hydra text by name of setting.
        seconds: how long it trained.
        curve: the objective after each epoch, where it is known.
        reason: why it failed, or an empty text.
    """

    name: str
    state: State
    objective: float | None
    values: dict[str, str]
    seconds: float | None = None
    curve: tuple[float, ...] = ()
    reason: str = ""


def tuned_names(trials: Sequence[Trial]) -> list[str]:
    """The settings that the trials vary, in the order in which they are first met."""
    return list(dict.fromkeys(name for trial in trials for name in trial.values))


def best_trial(trials: Sequence[Trial], maximize: bool) -> Trial | None:
    """The completed trial with the best objective, the first among equals."""
    scored = [t for t in trials if t.state == "Completed" and t.objective is not None]
    sign = 1.0 if maximize else -1.0
    return max(scored, key=lambda t: sign * (t.objective or 0.0), default=None)


def write_trials(trials: Sequence[Trial], folder: Path) -> None:
    """Leave trials.csv: trial, state, objective, every tuned value, seconds, and why it failed."""
    names = tuned_names(trials)
    write_csv(
        folder / TABLE,
        ["trial", "state", "objective", *names, "seconds", "reason"],
        [
            [
                trial.name,
                trial.state,
                trial.objective,
                *(trial.values.get(name) for name in names),
                None if trial.seconds is None else round(trial.seconds, 1),
                trial.reason,
            ]
            for trial in trials
        ],
    )


def read_trials(folder: Path) -> list[Trial]:
    """What `write_trials` has left; curves are not in it."""
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Trial(
            row.pop("trial"),
            cast("State", row.pop("state")),
            _number(row.pop("objective")),
            seconds=_number(row.pop("seconds")),
            reason=row.pop("reason"),
            values={name: text for name, text in row.items() if text},
        )
        for row in rows
    ]


def _number(text: str) -> float | None:
    return float(text) if text else None


def write_best(trial: Trial, fixed: Sequence[str], study: str, folder: Path) -> Path:
    """Leave best.yaml, an experiment file that trains this trial again.

    Args:
        fixed: the overrides that all trials share.
    """
    path = folder / "best.yaml"
    tuned = [f"{name}={text}" for name, text in trial.values.items()]
    shared = [text for text in fixed if not of_study(text)]
    write_text(path, experiment_file([*shared, *tuned], study))
    return path


def of_study(text: str) -> bool:
    """Whether an override says where or how the study ran, not what its trials compute."""
    group, _, key = parse_override(text).key_or_group.partition(".")
    return group in PLACE or (group == "hpo" and key not in CHOOSING)


def table(trials: Sequence[Trial]) -> str:
    """The trials for a terminal, a line each."""
    names = tuned_names(trials)
    cells = [["trial", "state", "objective", *names]]
    for trial in trials:
        score = "-" if trial.objective is None else f"{trial.objective:.4f}"
        tuned = (short(trial.values.get(name, "")) for name in names)
        cells.append([trial.name, trial.state, score, *tuned])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  "
        + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def short(text: str) -> str:
    """A Hydra text with numbers cut to six digits."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text
