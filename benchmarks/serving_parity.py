"""The same test photos by every way: is the first label equal, and how far apart are the probabilities."""

from __future__ import annotations

import base64
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from serving_bundle import machine, target, test_photos
from serving_peers import PATH, ROOT, TOOLKITS, ours

from sagelight.serving.predictor import Predictor, ranked

MOST_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Answer:
    """The first label, and the probabilities of the labels that this way tells."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Photos:
    """The bundle, and the test photos by their path below the root."""

    bundle: Path
    root: Path
    paths: list[str]
    labels: list[str]

    def answer(self, found: dict[str, Any]) -> Answer:
        told = dict(zip(self.labels, found["probabilities"], strict=True))
        return Answer(found["label"], told)


Answers = dict[str, Answer]


def predictor(photos: Photos, scratch: Path) -> Answers:
    loaded = Predictor.load(photos.bundle)
    found = {}
    for path in photos.paths:
        pixels = loaded.spec.preprocessing(photos.root / path)
        [row] = loaded.probabilities(pixels[None])
        told = dict(zip(loaded.labels, map(float, row), strict=True))
        found[path] = Answer(ranked(loaded.labels, row, 1).label, told)
    return found


def training(photos: Photos, scratch: Path) -> Answers:
    """What the run measured with PyTorch; its table has the probabilities of two labels, to six digits."""
    with (photos.bundle.parent / "evaluation" / "test.csv").open(encoding="utf-8") as file:
        return {
            row["file"]: Answer(
                row["predicted"],
                {
                    row["label"]: float(row["label_probability"]),
                    row["predicted"]: float(row["confidence"]),
                },
            )
            for row in csv.DictReader(file)
        }


def predict(photos: Photos, scratch: Path) -> Answers:
    """The verb, whose table is by file name."""
    output = scratch / "labels.jsonl"
    words = [f"bundle={photos.bundle}", f"input={photos.root}", f"output={output}"]
    command = [sys.executable, str(ROOT / "launch" / "local.py"), "predict", *words]
    most = f"top_k={len(photos.labels)}"
    subprocess.run([*command, most], check=True, capture_output=True)
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return {
        line["file"]: Answer(line["label"], {e["label"]: e["confidence"] for e in line["top"]})
        for line in lines
    }


def transform(photos: Photos, scratch: Path) -> Answers:
    """Batch transform, in the rehearsal of SageMaker; its table is that of `predict`."""
    # Not all photos where the test photos have a folder of their own.
    shared = os.path.commonpath(photos.paths)
    output = scratch / "transformed.jsonl"
    words = [f"bundle={photos.bundle}", f"input={photos.root / shared}", f"output={output}"]
    more = [f"top_k={len(photos.labels)}", "cloud=rehearsal"]
    command = [sys.executable, str(ROOT / "launch" / "sagemaker.py"), "transform", *words, *more]
    subprocess.run(command, check=True, capture_output=True)
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return {
        (Path(shared) / line["file"]).as_posix(): Answer(
            line["label"], {e["label"]: e["confidence"] for e in line["top"]}
        )
        for line in lines
    }


def server(photos: Photos, scratch: Path) -> Answers:
    first = (photos.root / photos.paths[0]).read_bytes()
    found = {}
    with ours(photos.bundle, scratch, first) as running, requests.Session() as session:
        for path in photos.paths:
            body = (photos.root / path).read_bytes()
            url = f"http://127.0.0.1:{running.port}{PATH}"
            answer = session.post(url, body, headers={"Content-Type": "image/jpeg"}, timeout=60)
            answer.raise_for_status()
            found[path] = photos.answer(answer.json())
    return found


def toolkit(photos: Photos, scratch: Path) -> Answers:
    """AWS's handler in process, as tests/compat has it."""
    asked = [
        {
            "headers": {"Content-Type": "image/jpeg", "Accept": "application/json"},
            "name": "body",
            "body": base64.b64encode((photos.root / path).read_bytes()).decode(),
        }
        for path in photos.paths
    ]
    (scratch / "asked.json").write_text(json.dumps(asked))
    script = str(ROOT / "tests" / "compat" / "toolkit_answers.py")
    words = [str(photos.bundle), str(scratch / "asked.json"), str(scratch / "answers.json")]
    command = [str(TOOLKITS / "python"), "-W", "ignore", script, *words]
    subprocess.run(command, check=True, capture_output=True)
    answers = json.loads((scratch / "answers.json").read_text())
    assert {answer["status"] for answer in answers} == {200}
    bodies = [json.loads(answer["body"]) for answer in answers]
    return dict(zip(photos.paths, map(photos.answer, bodies), strict=True))


WAYS: dict[str, Callable[[Photos, Path], Answers]] = {
    "training's evaluation": training,
    "local predict": predict,
    "batch transform": transform,
    "server": server,
    "AWS's toolkit": toolkit,
}


def parity(bundle: Path, options: dict[str, str]) -> dict[str, Any]:
    """Compare every way with the Predictor, on every test photo."""
    root, paths = test_photos(bundle, options)
    photos = Photos(bundle.resolve(), root, paths, Predictor.load(bundle).labels)
    rows, targets = [], []
    with tempfile.TemporaryDirectory() as scratch:
        reference = predictor(photos, Path(scratch))
        print(f"{len(paths)} test photos against the Predictor, {machine()}")
        for name, way in WAYS.items():
            row = {"way": name, **_compared(reference, way(photos, Path(scratch)))}
            rows.append(row)
            targets.append(target(f"{name}: photos with another first label", row["other"], most=0))
            targets.append(
                target(f"{name}: largest difference", row["largest"], most=MOST_DIFFERENCE)
            )
    return {"machine": machine(), "photos": len(paths), "rows": rows, "targets": targets}


def _compared(reference: Answers, found: Answers) -> dict[str, Any]:
    missing = [path for path in reference if path not in found]
    if missing:
        raise SystemExit(f"{len(missing)} photos have no answer, {missing[0]} among them")
    pairs = [(reference[path], found[path]) for path in reference]
    return {
        "other": sum(one.label != other.label for one, other in pairs),
        "largest": max(
            abs(one.probabilities[label] - probability)
            for one, other in pairs
            for label, probability in other.probabilities.items()
        ),
    }
