"""What a person sees of a study while it runs: a live table at a terminal, a line for each end elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Container, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sagelight.progress import SECONDS_BETWEEN_LINES
from sagelight.tuning.study import Study
from sagelight.tuning.trials import Trial, best_trial, short, tuned_names

# Rows of the live table; of more trials the newest are shown.
MOST_ROWS = 15


class StudyView:
    """Shows the trials of a study as they go on."""

    def __init__(self, study: Study, folder: Path, budget: int, maximize: bool) -> None:
        hpo = study.config.hpo
        self._metric, self._budget, self._maximize = hpo.metric, budget, maximize
        self._epochs = study.config.trainer.max_epochs
        self._began = self._said = time.monotonic()
        self._doing = ""
        self._told: set[str] | None = None
        self._title = (
            f"{folder}: {hpo.strategy}, {budget} trials, {hpo.max_parallel_jobs} at a time"
        )
        self._live: Live | None = None
        if sys.stdout.isatty():
            self._live = Live(console=Console(), refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        print(self._title, flush=True)
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def doing(self, label: str, done: int, total: int) -> None:
        """Say how far something has come that no trial shows."""
        self._doing = f"{label}: {done} of {total} batches"
        if self._live is None and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            print(self._doing, flush=True)

    def show(self, trials: Sequence[Trial], waiting: Container[str] = ()) -> None:
        """Bring what is shown up to date; `waiting` names trials that no process works on yet."""
        if self._live:
            self._live.update(self._table(trials, waiting))
            return
        ended = {trial.name for trial in trials if trial.state != "InProgress"}
        if self._told is None:
            self._told = ended
            if ended:
                print(f"going on: {len(ended)} trials have ended before", flush=True)
        for trial in trials:
            if trial.name in ended - self._told:
                print(self._line(trial, trials), flush=True)
        self._told |= ended

    def _line(self, trial: Trial, trials: Sequence[Trial]) -> str:
        values = " ".join(f"{name}={short(text)}" for name, text in trial.values.items())
        score = "-" if trial.objective is None else f"{trial.objective:.4f}"
        best = best_trial(trials, self._maximize)
        so_far = f", best {best.objective:.4f}" if best and best.objective is not None else ""
        why = f": {trial.reason}" if trial.reason else ""
        return f"trial {trial.name}/{self._budget}  {trial.state}  {score}{so_far}  {values}{why}"

    def _table(self, trials: Sequence[Trial], waiting: Container[str]) -> Table:
        best = best_trial(trials, self._maximize)
        names = tuned_names(trials)
        table = Table(title=self._heading(trials, best), title_justify="left", box=None)
        for column in ("trial", "state", "epochs", self._metric, *names):
            table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
        for trial in trials[-MOST_ROWS:]:
            table.add_row(
                trial.name,
                "Waiting" if trial.name in waiting else trial.state,
                str(len(trial.curve)),
                "" if trial.objective is None else f"{trial.objective:.4f}",
                *(short(trial.values.get(name, "")) for name in names),
                style="bold" if trial == best else "dim" if trial.state == "Failed" else "",
            )
        return table

    def _heading(self, trials: Sequence[Trial], best: Trial | None) -> str:
        ended = sum(trial.state != "InProgress" for trial in trials)
        spent = time.monotonic() - self._began
        if not any(trial.curve for trial in trials):
            return self._doing or "getting ready"
        words = [f"{ended} of {self._budget} trials"]
        if best and best.objective is not None:
            words.append(f"best {best.objective:.4f} (trial {best.name})")
        if ended:
            words.append(f"about {spent / ended * (self._budget - ended):.0f} s left")
        return ", ".join(words)
