"""Makes a small run directory, complete, with photos and a hostile class name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.bundle.spec import BundleSpec, Splits
from sagelight.files import write_csv, write_json, write_text
from sagelight.metrics.evaluation import evaluate

HOSTILE = '"><script>alert("x")</script>'
LABELS = [HOSTILE, "cat_long_hair", "dog"]
COLUMNS = [
    "epoch",
    "seconds",
    "lr",
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "val/macro_f1",
]
EPOCHS = [
    [1, 3.2, 0.001, 1.5, 0.30, 1.2, 0.40, 0.38],
    [2, 3.1, 0.001, 0.9, 0.62, 0.8, 0.75, 0.71],
    [3, 3.1, 0.0005, 0.5, 0.85, 0.9, 0.70, 0.69],
]
CHECK = {
    "fingerprint": "f" * 64,
    "full": True,
    "counts": {"train": {HOSTILE: 20, "dog": 40}, "test": {HOSTILE: 3, "cat_long_hair": 3}},
    "problems": [
        {"code": "imbalance", "severity": "note", "message": "Uneven.", "count": 2, "files": []},
        {
            "code": "leak",
            "severity": "error",
            "message": "Test photos are training photos.",
            "count": 30,
            "files": [f"test/dog/<b>{number}.png" for number in range(25)],
        },
    ],
}


@dataclass(frozen=True)
class Made:
    folder: Path
    data_root: Path


def write_evaluation(folder: Path, labels: list[str], chances: Any, targets: Any) -> list[str]:
    """Write evaluation/test.json and test.csv; returns the photos' files in order."""
    probabilities, targets = np.asarray(chances), np.asarray(targets)
    names = [f"test/{target}/{number}.png" for number, target in enumerate(targets)]
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    result = evaluate(probabilities, targets, labels).to_dict()
    write_json(folder / "evaluation" / "test.json", result)
    rows = [
        [name, labels[target], labels[row.argmax()], f"{row.max():.6f}", f"{row[target]:.6f}"]
        for name, target, row in zip(names, targets, probabilities, strict=True)
    ]
    columns = ["file", "label", "predicted", "confidence", "label_probability"]
    write_csv(folder / "evaluation" / "test.csv", columns, rows)
    return names


def write_photos(root: Path, names: list[str], side: int) -> None:
    noise = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / name)


def make_run(tmp_path: Path) -> Made:
    """Nine photos of three classes, four of them misclassified; 8 x 8 pixels each."""
    folder, root = tmp_path / "runs" / "pets" / "first", tmp_path / "photos"
    (folder / "bundle").mkdir(parents=True)
    hostile_for_cat, cat, dog = [0.2, 0.75, 0.05], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]
    chances = [[0.9, 0.05, 0.05], hostile_for_cat, hostile_for_cat, cat, cat, dog, dog, dog, cat]
    names = write_evaluation(folder, LABELS, chances, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    write_photos(root, names, 8)
    write_csv(folder / "metrics.csv", COLUMNS, EPOCHS)
    write_text(folder / "config.yaml", yaml.safe_dump(_config()))
    write_json(folder / "check.json", CHECK)
    write_json(folder / "bundle" / "bundle.json", _bundle())
    write_json(
        folder / "bundle" / "metrics.json",
        {"best_epoch": 2, "train_seconds": 192.0, "images_per_second": 1234.5, "val/ece": 0.25},
    )
    return Made(folder, root)


def _config() -> dict[str, Any]:
    return {
        "name": "pets",
        "resume": None,
        "model": {"backbone": "resnet18", "extra": {"deep": [1, 2.5]}},
        "finetune": {"name": "gradual"},
        "trainer": {"max_epochs": 3, "deterministic": True},
        "hpo": {"metric": "val/accuracy", "direction": "maximize"},
    }


def _bundle() -> dict[str, Any]:
    third = (0.5, 0.5, 0.5)
    spec = BundleSpec(
        labels=LABELS,
        preprocessing=Preprocessing(8, 8, third, third),
        backbone="resnet18",
        fingerprint="f" * 64,
        splits=Splits(0.15, 0.15, 0),
        provenance={
            "run": "first",
            "created": "2026-03-04 12:01",
            "command": ["python", "launch/local.py", "data.root=my photos"],
            "git_commit": "9c1e77",
            "versions": {"torch": "2.14.0"},
        },
    )
    return spec.to_dict()
