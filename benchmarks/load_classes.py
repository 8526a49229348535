"""Rows of the load table about 1,000 classes: what grows with them, and with their square."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
from load_index import WORDS, photos
from load_measure import Figures, Row, browser_seconds, measured
from numpy.typing import NDArray

from sagelight.files import write_csv, write_json
from sagelight.metrics.evaluation import evaluate
from sagelight.reporting.report import write_report
from sagelight.serving.inference import answer

CLASSES, PHOTOS_A_CLASS, TESTED = 1000, 8, 50_000


def count(size: float) -> int:
    return max(10, round(CLASSES * size))


def run_folder(folder: Path, size: float) -> Path:
    return folder / f"run-of-{count(size)}-classes"


def make(folder: Path, size: float) -> None:
    photos(folder, PHOTOS_A_CLASS * count(size), count(size))
    shutil.rmtree(run_folder(folder, size), ignore_errors=True)


def trained(folder: Path, size: float) -> Figures:
    """An epoch of a small network, validated, tested, exported, bundled and reported."""
    from sagelight.cli import main

    root = photos(folder, PHOTOS_A_CLASS * count(size), count(size))
    run = run_folder(folder, size)
    words = ["trainer.max_epochs=1", "trainer.limit_train_batches=5", "explain=false", "check=warn"]
    said = io.StringIO()
    with measured() as figures, contextlib.redirect_stdout(said):
        places = [f"data.root={root}", f"run_dir={run}", f"data.cache_folder={folder / 'resized'}"]
        status = main(["train", *WORDS, *words, *places])
    assert status == 0, said.getvalue()
    files = {
        "report_bytes": "report.html", "evaluation_bytes": "evaluation/test.json",
        "check_bytes": "check.json", "card_bytes": "bundle/README.md", "bundle_json_bytes": "bundle/bundle.json",
    }  # fmt: skip
    sizes = {name: float((run / file).stat().st_size) for name, file in files.items()}
    longest = max(map(len, said.getvalue().splitlines()))
    return {**figures, **sizes, "longest_line": longest}


def guesses(size: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities that are right in half of the photos, and labels."""
    rng = np.random.default_rng(0)
    classes, tested = count(size), max(100, round(TESTED * size))
    targets = rng.integers(0, classes, tested)
    chances = rng.random((tested, classes), dtype=np.float32)
    chances[np.arange(tested), np.where(rng.random(tested) < 0.5, targets, 0)] += 1
    chances /= chances.sum(axis=1, keepdims=True)
    return chances, targets


def evaluated(folder: Path, size: float) -> Figures:
    chances, targets = guesses(size)
    with measured() as figures:
        found = evaluate(chances, targets, [f"class {n:04d}" for n in range(chances.shape[1])])
    return {**figures, "photos": found.count}


def reported(folder: Path, size: float) -> Figures:
    """evaluation/ of 50,000 test photos written, and the page about them."""
    run = run_folder(folder, size) / "tested"
    chances, targets = guesses(size)
    labels = [f"class {number:04d}" for number in range(count(size))]
    found = evaluate(chances, targets, labels)
    (run / "evaluation").mkdir(parents=True, exist_ok=True)
    columns = ("file", "label", "predicted", "confidence", "label_probability")
    rows = [
        (f"{at}.jpg", labels[target], labels[row.argmax()], row.max(), row[target])
        for at, (row, target) in enumerate(zip(chances, targets, strict=True))
    ]
    with measured() as figures:
        write_json(run / "evaluation" / "test.json", found.to_dict())
        write_csv(run / "evaluation" / "test.csv", columns, rows)
        page = write_report(run, None)
    sizes = {
        "evaluation_bytes": (run / "evaluation" / "test.json").stat().st_size,
        "bytes": page.stat().st_size,
    }
    return {**figures, **sizes, **browser_seconds(page)}


def answered(folder: Path, size: float) -> Figures:
    """The answer that a server, an endpoint and a bundle's own code give to a photo."""
    chances, _ = guesses(size / 50)
    labels = [f"class {number:04d}" for number in range(count(size))]
    row = np.resize(chances[0], len(labels)).astype(np.float32)
    with measured() as figures:
        for _ in range(1000):
            text = json.dumps(answer(labels, row, 5))
    return {
        "milliseconds_of_processor": figures["processor_seconds"],
        "bytes": len(text),
    }


ROWS = [
    Row(
        "classes: a training of 1,000, bundled and reported", trained,
        {
            "processor_seconds": 240, "megabytes": 1500, "report_bytes": 1_500_000, "evaluation_bytes": 12_000_000,
            "check_bytes": 300_000, "card_bytes": 200_000, "bundle_json_bytes": 60_000, "longest_line": 2000,
        },
        make,
    ),
    Row("classes: figures of 50,000 photos of 1,000", evaluated, {"processor_seconds": 60, "megabytes_more": 200}),
    Row(
        "classes: the report of 50,000 photos of 1,000", reported,
        {"processor_seconds": 30, "megabytes_more": 400, "evaluation_bytes": 12_000_000, "bytes": 1_500_000, "browser_seconds": 10},
    ),
    Row("classes: an answer of 1,000", answered, {"milliseconds_of_processor": 5, "bytes": 30_000}),
]  # fmt: skip
