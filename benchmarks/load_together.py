"""Rows of the load table about two studies and two trainings at once: one folder of runs, one cache, one machine."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from load_index import WORDS, photos
from load_measure import Figures, Row, Watched, measured, watch

LOCAL = Path(__file__).resolve().parents[1] / "launch" / "local.py"
PHOTOS, CLASSES = 4000, 10
STARTED = b"squeezenet1_1"
# Nothing of these is the same twice.
CLOCKS = ("seconds", "train_seconds", "images_per_second")


def commands(root: Path, cache: Path, size: float) -> dict[str, list[str]]:
    """What four people type; the runs lie in runs/squeezenet of the folder in which they do."""
    limit = f"trainer.limit_train_batches={max(2, round(40 * size))}"
    caches = [f"data.cache_folder={cache / 'photos'}", f"features.folder={cache / 'features'}"]
    common = [*WORDS, f"data.root={root}", "check=warn", "explain=false", *caches]
    training = ["train", *common, limit, "trainer.max_epochs=4", "finetune=full"]
    study = [*common, "finetune=head", "augment=none", "callbacks.ema_decay=0", "trainer.max_epochs=4"]  # fmt: skip
    jobs = f"hpo.max_jobs={max(4, round(20 * size))}"
    rates = ["optimizer.lr=tag(log,interval(0.0005,0.05))", "model.dropout=interval(0.0,0.5)", jobs]
    return {
        "training 0": [*training, "seed=0", "run_dir=runs/training-0"],
        "training 1": [*training, "seed=1", "run_dir=runs/training-1"],
        "study 0": [*study, "seed=0", "run_dir=runs/study-0", *rates, "-m"],
        "study 1": [*study, "seed=0", "run_dir=runs/study-1", *rates, "hpo.strategy=random", "-m"],
    }


def make(folder: Path, size: float) -> None:
    photos(folder, max(200, round(PHOTOS * size)), CLASSES)
    for name in ("alone", "together"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()


def typed(name: str, words: list[str], home: Path) -> Watched:
    program = f"import os, runpy, sys; os.chdir({str(home)!r}); sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"  # fmt: skip
    seen = watch([sys.executable, "-c", program, str(LOCAL), *words], since=STARTED)
    if seen.status:
        raise RuntimeError(f"{name} ended with {seen.status}: {seen.said.decode()[-2000:]}")
    return seen


def results(home: Path) -> dict[str, Any]:
    """What each run and study came to, without what a clock has measured."""
    found: dict[str, Any] = {}
    for run in sorted((home / "runs").glob("training-*")):
        figures = json.loads((run / "metrics.json").read_text())
        found[run.name] = {k: v for k, v in figures.items() if k not in CLOCKS}
    for study in sorted((home / "runs").glob("study-*")):
        with (study / "trials.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found[study.name] = [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]
    return found


@contextmanager
def memory_of_all() -> Iterator[list[float]]:
    """MB of this process and all below it, with shared pages counted once, looked at twice a second."""
    seen, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            seen.append(sum(map(_proportional, _descendants(os.getpid()))))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _descendants(process: int) -> Iterator[int]:
    yield process
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        children = [each for task in tasks for each in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from _descendants(int(child))


def _proportional(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def at_once(folder: Path, size: float) -> Figures:
    root = photos(folder, max(200, round(PHOTOS * size)), CLASSES)
    alone, together = folder / "alone", folder / "together"
    began = time.monotonic()
    for name, words in commands(root, alone / "cache", size).items():
        typed(name, words, alone)
    one_by_one = time.monotonic() - began
    work = commands(root, together / "cache", size)
    with measured() as figures, memory_of_all() as megabytes, ThreadPoolExecutor(len(work)) as pool:
        seen = list(pool.map(lambda each: typed(*each, together), work.items()))
    mine, theirs = results(alone), results(together)
    assert len(mine) == len(work)
    different = sum(mine[name] != theirs.get(name) for name in mine)
    return {
        **figures,
        "different_from_alone": different,
        "times_one_by_one": figures["seconds"] / one_by_one,
        "megabytes_of_all": max(megabytes),
        "seconds_without_movement": max(each.gap for each in seen),
    }


ROWS = [
    Row(
        "together: two studies and two trainings at once",
        at_once,
        {
            "different_from_alone": 0,
            "times_one_by_one": 1.5,
            "megabytes_of_all": 6000,
            "seconds_without_movement": 30,
        },
        make,
    )
]
