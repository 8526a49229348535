"""What a run has left in its directory, read as far as it got."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sagelight.bundle.spec import BundleSpec
from sagelight.errors import RunError
from sagelight.metrics.evaluation import Evaluation


@dataclass(frozen=True)
class Photo:
    """One row of evaluation/test.csv; `file` is relative to the data root."""

    file: str
    label: str
    predicted: str
    confidence: float
    label_probability: float


@dataclass(frozen=True)
class Run:
    """The readable content of a run directory; None or empty where the run did not get that far.

    Attributes:
        epochs: a row of metrics.csv each, in order, without its empty cells.
        figures: bundle/metrics.json, and `<split>/<figure>` of every evaluation there is.
        check: the content of check.json.
    """

    folder: Path
    config: dict[str, Any]
    epochs: list[dict[str, float]]
    test: Evaluation | None
    photos: list[Photo] | None
    figures: dict[str, float]
    bundle: BundleSpec | None
    check: dict[str, Any] | None

    def setting(self, dotted: str) -> Any:
        """The setting of that name in config.yaml, or None where it has none."""
        value: Any = self.config
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept, or the best so far in a run that has not finished."""
        if "best_epoch" in self.figures:
            return int(self.figures["best_epoch"])
        metric = self.setting("hpo.metric") or "val/accuracy"
        falls = metric == "val/loss" or self.setting("hpo.direction") == "minimize"
        sign = -1 if falls else 1
        scored = [(sign * row[metric], -row["epoch"]) for row in self.epochs if metric in row]
        scored = [entry for entry in scored if entry[0] == entry[0]]
        return int(-max(scored)[1]) if scored else None


def read_run(folder: Path) -> Run:
    """Read a run directory.

    Raises:
        RunError: no such folder, or a file in it is damaged.
        BundleError: the bundle in it is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no run: there is no such folder. Type run_dir=runs/latest")
    bundle = folder / "bundle"
    test = read_json(folder / "evaluation" / "test.json")
    validation = read_json(folder / "evaluation" / "validation.json")
    with readable(folder / "evaluation" / "test.json"):
        evaluation = Evaluation.from_dict(test) if test else None
    return Run(
        folder=folder,
        config=_config(folder / "config.yaml"),
        epochs=_epochs(folder / "metrics.csv"),
        test=evaluation,
        photos=_photos(folder / "evaluation" / "test.csv"),
        figures={
            **_numbers(read_json(bundle / "metrics.json")),
            **_numbers(validation, "val/"),
            **_numbers(test, "test/"),
        },
        bundle=BundleSpec.read(bundle) if (bundle / "bundle.json").is_file() else None,
        check=read_json(folder / "check.json"),
    )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What is wrong with a file's content is told in a sentence.

    Raises:
        RunError: the file is damaged.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        what = " ".join(str(error).split())
        raise RunError(
            f"{path} is damaged ({what}). Copy the run again, or move this file away: "
            "the report then says what is missing."
        ) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a file; None where there is none.

    Raises:
        RunError: the file is damaged.
    """
    if not path.is_file():
        return None
    with readable(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with readable(path):
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def _numbers(entries: dict[str, Any] | None, prefix: str = "") -> dict[str, float]:
    return {
        prefix + name: value
        for name, value in (entries or {}).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with readable(path), path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, restval=""))


def _epochs(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with readable(path):
        rows = [{name: float(cell) for name, cell in row.items() if cell} for row in _rows(path)]
    return [{"epoch": number, **row} for number, row in enumerate(rows, start=1)]


def _photos(path: Path) -> list[Photo] | None:
    if not path.is_file():
        return None
    with readable(path):
        return [
            Photo(
                row["file"],
                row["label"],
                row["predicted"],
                float(row["confidence"]),
                float(row["label_probability"]),
            )
            for row in _rows(path)
        ]
