"""Rows of the load table about a folder of thousands of runs, where a start looks for an unfinished one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from load_measure import Figures, Row, measured

from sagelight.config.compose import compose
from sagelight.config.save import config_digest, save
from sagelight.config.schema import Config
from sagelight.training.run import choose_run

FINISHED, UNFINISHED = 2000, 200


def _config(folder: Path, *more: str) -> Config:
    runs = folder / "runs" / "many" / "2030"
    return compose(["model.weights=none", "data.root=photos", f"run_dir={runs}", *more])


def make(folder: Path, size: float) -> None:
    """Finished runs of the same configuration and photos, and unfinished ones of another configuration."""
    home = folder / "runs" / "many"
    shutil.rmtree(home, ignore_errors=True)
    save_as(home / "first", _config(folder))
    save_as(home / "other", _config(folder, "seed=7"))
    for kind, count in (("finished", FINISHED), ("unfinished", UNFINISHED)):
        for number in range(max(1, round(count * size))):
            run = home / f"{kind}-{number:04d}"
            shutil.copytree(home / ("first" if kind == "finished" else "other"), run)
            if kind == "finished":
                (run / "metrics.json").write_text("{}")
    for each in ("first", "other"):
        shutil.rmtree(home / each)


def save_as(folder: Path, config: Config) -> None:
    folder.mkdir(parents=True)
    save(config, folder / "config.yaml")
    labels = {f"class {number}": 100 for number in range(1000)}
    counts = {"train": labels, "validation": labels, "test": labels}
    (folder / "check.json").write_text(json.dumps({"fingerprint": "f", "counts": counts}, indent=2))


def looked(folder: Path, size: float) -> Figures:
    config = _config(folder)
    with measured() as figures:
        run = choose_run(config, True, "f")
    assert run.checkpoint is None, config_digest(config)
    return {**figures, "found": float(run.folder.exists())}


ROWS = [
    Row(
        "runs: a start looks through 2,000 finished and 200 unfinished ones",
        looked,
        {"processor_seconds": 6, "megabytes_more": 50, "found": 0},
        make,
    )
]
