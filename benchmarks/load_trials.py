"""Rows of the load table about a study of 10,000 trials, some of which failed, were stopped, or were lost."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from load_measure import Figures, Row, browser_seconds, measured

from sagelight.reporting.study import StudyFacts, write_study_report
from sagelight.tuning.proposals import DATABASE, Proposals
from sagelight.tuning.study import Study, read_study
from sagelight.tuning.trials import best_trial, read_trials, write_trials
from sagelight.tuning.view import StudyView

TRIALS, EPOCHS, LOST = 10_000, 5, 100
SPACE = [
    "optimizer.lr=tag(log,interval(0.001,0.1))", "model.dropout=interval(0.0,0.5)",
    "optimizer.weight_decay=tag(log,interval(0.000001,0.01))", "data.batch_size=tag(log,range(4,65))",
    "augment=none,light",
]  # fmt: skip
GRID = ["data.batch_size=range(4,104)", "trainer.max_epochs=range(1,101)"]
PHOTOS = "of these photos"


@cache
def study(strategy: str = "random") -> Study:
    space = GRID if strategy == "grid" else SPACE
    hpo = [f"hpo.strategy={strategy}", f"hpo.max_jobs={2 * TRIALS}"]
    return read_study(["-m", "data.root=photos", *space, *hpo])


def place(folder: Path, name: str, size: float) -> Path:
    return folder / f"study-{name}-{size:g}"


def make(folder: Path, size: float) -> None:
    lay_out(place(folder, "random", size), "random", round(TRIALS * size), 0)


def make_bayesian(folder: Path, size: float) -> None:
    lay_out(place(folder, "bayesian", size), "bayesian", round(TRIALS * size), 0)


def make_lost(folder: Path, size: float) -> None:
    count = round(TRIALS * size)
    lay_out(place(folder, "lost", size), "random", count, max(1, round(LOST * size)))


def lay_out(folder: Path, strategy: str, count: int, lost: int) -> None:
    """A study with so many trials that have ended; row by row, because Optuna flushes the disk a dozen times a trial."""
    path = folder / DATABASE
    if path.exists():
        path.unlink()
    folder.mkdir(exist_ok=True)
    proposals = Proposals(study(strategy), folder, PHOTOS)
    asked = proposals.ask()
    proposals.report(asked.number, 1, 0.5)
    proposals.complete(asked.number, 0.5, 1.0)
    del proposals
    with closing(sqlite3.connect(path)) as database:
        texts = dict(database.execute("SELECT param_name, distribution_json FROM trial_params"))
        for number in range(1, count):
            state = "RUNNING" if number >= count - lost else _state(number)
            for table, rows in _rows(number, state, texts):
                marks = ", ".join("?" * len(rows[0]))
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        database.commit()


def _state(number: int) -> str:
    return "FAIL" if number % 20 == 0 else "PRUNED" if number % 6 == 0 else "COMPLETE"


def _rows(
    number: int, state: str, distributions: dict[str, str]
) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """A trial's rows of each of Optuna's tables."""
    draw, trial, now = random.Random(number), number + 1, "2026-01-01 00:00:00.000000"
    numbers = {
        "optimizer.lr": 10 ** draw.uniform(-3, -1), "model.dropout": draw.uniform(0, 0.5),
        "optimizer.weight_decay": 10 ** draw.uniform(-6, -2), "data.batch_size": draw.randint(4, 64),
    }  # fmt: skip
    augment = draw.randint(0, 1)
    values = {name: repr(value) for name, value in numbers.items()}
    values["augment"] = ("none", "light")[augment]
    curve = sorted(draw.random() for _ in range(EPOCHS))
    attributes = {"place": number, "values": values}
    if state != "RUNNING":
        attributes["seconds"] = 60.0
    if state == "FAIL":
        attributes["reason"] = "out of memory: a batch of so many photos does not fit " * 3
    yield "trials", [(trial, number, 1, state, now, now)]
    yield (
        "trial_params",
        [
            (None, trial, name, value, distributions[name])
            for name, value in (numbers | {"augment": augment}).items()
        ],
    )
    yield (
        "trial_user_attributes",
        [(None, trial, key, json.dumps(value)) for key, value in attributes.items()],
    )
    if state != "FAIL":
        yield (
            "trial_intermediate_values",
            [(None, trial, epoch, value, "FINITE") for epoch, value in enumerate(curve, start=1)],
        )
    if state in ("COMPLETE", "PRUNED"):
        yield "trial_values", [(None, trial, 0, curve[-1], "FINITE")]


def opened(folder: Path, size: float) -> Figures:
    with measured() as figures:
        proposals = Proposals(study(), place(folder, "random", size), PHOTOS)
        trials = proposals.trials()
    return {**figures, "trials": len(trials)}


def lost(folder: Path, size: float) -> Figures:
    """Trials that nobody works on any more are put back, to be tried again with the same values."""
    with measured() as figures:
        proposals = Proposals(study(), place(folder, "lost", size), PHOTOS)
    first = proposals.ask()
    expected = round(TRIALS * size) - max(1, round(LOST * size))
    return {**figures, "tried_again_late": first.place - expected}


def tried(folder: Path, size: float, strategy: str) -> Figures:
    """Twenty more trials, of five epochs each: all that the parent does for one, flushing the disk left out."""
    proposals = Proposals(study(strategy), place(folder, strategy, size), PHOTOS)
    proposals.ask()
    count = 20
    with measured() as figures:
        for _ in range(count):
            asked = proposals.ask()
            for epoch in range(1, EPOCHS + 1):
                proposals.report(asked.number, epoch, 0.5)
                proposals.trials()
            proposals.complete(asked.number, 0.5, 1.0)
            write_trials(proposals.trials(), place(folder, strategy, size))
            proposals.remaining()
    return {**figures, "processor_seconds_a_trial": figures["processor_seconds"] / count}


def tried_at_random(folder: Path, size: float) -> Figures:
    return tried(folder, size, "random")


def tried_by_bayes(folder: Path, size: float) -> Figures:
    return tried(folder, size, "bayesian")


def gridded(folder: Path, size: float) -> Figures:
    """A grid of 10,000 combinations: from the command to its first trial."""
    where = place(folder, "grid", size)
    where.mkdir(exist_ok=True)
    (where / DATABASE).unlink(missing_ok=True)
    of = study("grid")
    with measured() as figures:
        proposals = Proposals(of, where, PHOTOS)
        assert proposals.budget == TRIALS
        proposals.ask()
    return figures


def tables(folder: Path, size: float) -> Figures:
    """trials.csv written once and read back, the best found, and what a terminal shows brought up to date."""
    where = place(folder, "random", size)
    trials = Proposals(study(), where, PHOTOS).trials()
    with measured() as figures:
        write_trials(trials, where)
    figures["bytes"] = (where / "trials.csv").stat().st_size
    assert len(read_trials(where)) == len(trials)
    assert best_trial(trials, True) is not None
    view = StudyView(study(), where, TRIALS, True)
    began = time.process_time()
    view._table(trials, ())
    return {**figures, "processor_seconds_shown": time.process_time() - began}


def reported(folder: Path, size: float) -> Figures:
    where = place(folder, "random", size)
    trials = Proposals(study(), where, PHOTOS).trials()
    facts = StudyFacts("many", "val/accuracy", True, "random", study().space)
    with measured() as figures:
        page = write_study_report(where, facts, trials)
    return {**figures, "bytes": page.stat().st_size, **browser_seconds(page)}


ROWS = [
    Row("trials: a study of 10,000 opened again", opened, {"processor_seconds": 20, "megabytes": 500}, make),
    Row("trials: 100 of them were lost", lost, {"processor_seconds": 30, "megabytes": 500, "tried_again_late": 0}, make_lost),
    Row("trials: the next one, at random", tried_at_random, {"processor_seconds_a_trial": 0.5, "megabytes": 500}, make),
    Row("trials: the next one, bayesian", tried_by_bayes, {"processor_seconds_a_trial": 2, "megabytes": 700}, make_bayesian),
    Row("trials: a grid of 10,000 begun", gridded, {"processor_seconds": 5, "megabytes": 400}),
    Row("trials: trials.csv and the terminal's table", tables, {"processor_seconds": 2, "bytes": 2_500_000, "processor_seconds_shown": 0.5}, make),
    Row("trials: the report", reported, {"processor_seconds": 60, "bytes": 3_000_000, "browser_seconds": 10, "megabytes": 700}, make),
]  # fmt: skip
