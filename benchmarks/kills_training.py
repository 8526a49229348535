"""Trainings that are killed at random moments: does one lose an epoch for good, or end otherwise?

    python benchmarks/kills_training.py kills=500 seed=1 output=runs/kills-training.json

kills that many times: SIGKILL, SIGTERM with 120 seconds and without, Ctrl-C once and twice, no more memory, a power cut
(whatever was not flushed is cut off, emptied, or full of zeros), and files that were copied while they were written.
After a few kills the same command must end the run with the metrics, the bundle, the weights and the optimizer's state
of a run that nobody has killed, to the bit; typed once more, it must leave them alone. Checkpoints are written every
second batch, and a disk that takes 40 ms to flush makes many kills hit one. Started again, the program goes on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from killing import make_photos
from killing_stories import UNKNOWN, Facts, Story, run_stories

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from exporting import traced_once
from sagelight.cli import main as launch
from sagelight.training.resuming import is_whole

EPOCHS = 3
WORDS = [
    "train", "experiment=squeezenet", "model.backbone=squeezenet1_1", "model.weights=none", "data.image_size=32",
    "data.num_workers=0", "data.batch_size=4", "data.root=../../photos", "trainer.precision=32-true",
    "trainer.accelerator=cpu", "run_dir=run", f"trainer.max_epochs={EPOCHS}", "trainer.checkpoint_steps=2",
    "model.dropout=0.2", "hpo.metric=val/loss", "finetune.backbone_lr_scale=1", "optimizer.lr=0.003", "features.folder=features",
    "data.cache_folder=resized", "explain=false",
]  # fmt: skip
MORE = {
    "plain": [],
    "exporting": [],
    "not averaged": ["callbacks=none"],
    "gradual": ["finetune=gradual"],
    "accumulating": ["trainer.accumulate_grad_batches=2"],
    "loaders": ["data.num_workers=2"],
    "head": ["finetune=head", "augment=none"],
    "resized": ["data.cache=memmap"],
    "stopping": ["callbacks=early_stopping", "callbacks.early_stopping_patience=1"],
    "shards": ["data=shards", "data.root=../../shards"],
}  # fmt: skip
CLOCKS = ("train_seconds", "images_per_second", "seconds")


def main() -> None:
    run_stories("kills_training", _prepare, [story_of(name) for name in MORE])


def _prepare(scratch: Path) -> None:
    make_photos(scratch / "photos", 12)
    (scratch / "first" / "two").mkdir(parents=True)
    os.chdir(scratch / "first" / "two")
    launch(["prepare", "data.root=../../photos", "output=../../shards", "shard_mb=1"])
    for run in ("run_dir=one", "run_dir=two"):
        # The second one leaves its graph for those that are killed.
        train([*WORDS, run])


def story_of(name: str) -> Story:
    door = launch if name == "exporting" else train
    return Story(name, [*WORDS, *MORE[name]], facts_of_run, stage_of_run, door, kept_of_run)


def train(words: list[str]) -> int:
    """As `launch`, but the network is not traced again for model.onnx, which would take most of the time."""
    with traced_once():
        return launch(words)


def facts_of_run(folder: Path) -> Facts:
    """Digests of everything that a run has come to, but not of what a clock has measured."""
    run = folder / "run"
    facts = {
        "metrics.json": _digest(_without_clocks(_read(run / "metrics.json"))),
        "metrics.csv": _digest(_table(run / "metrics.csv")),
        "best.ckpt": _weights(run / "checkpoints" / "best.ckpt"),
        "last.ckpt": _weights(run / "checkpoints" / "last.ckpt"),
    }
    for path in sorted((run / "evaluation").iterdir()):
        facts[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    # The card of the model says how long training took.
    bundle = sorted(
        path for path in (run / "bundle").rglob("*") if path.is_file() and path.name != "README.md"
    )
    for path in bundle:
        name = path.relative_to(run).as_posix()
        facts[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = _read(run / "bundle" / "bundle.json")
    del spec["provenance"]["created"]
    facts["bundle/bundle.json"] = _digest(spec)
    facts["bundle/metrics.json"] = _digest(_without_clocks(_read(run / "bundle" / "metrics.json")))
    return facts


def stage_of_run(folder: Path) -> str:
    run = folder / "run"
    if (run / "metrics.json").is_file():
        return "finished"
    if any(any((folder / each).glob(".*.*")) for each in ("features", "resized")):
        return "caching"
    if any((run / "checkpoints").glob(".*.tmp")):
        return "checkpointing"
    if (run / "evaluation").is_dir():
        return "bundling"
    if (run / "checkpoints").is_dir():
        return "training"
    return "starting"


def kept_of_run(folder: Path) -> list[Path]:
    run = folder / "run"
    bundle = [path for path in sorted((run / "bundle").rglob("*")) if path.is_file()]
    return [
        run / "metrics.json",
        run / "checkpoints" / "last.ckpt",
        run / "checkpoints" / "best.ckpt",
        *bundle,
    ]


def _weights(path: Path) -> str:
    """Nothing where it was torn after the last epoch: then nobody needs it any more."""
    import torch

    if not is_whole(path):
        return UNKNOWN
    content = torch.load(path, map_location="cpu", weights_only=True)
    digest = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for each in value.values():
                take(each)
        elif isinstance(value, (list, tuple)):
            for each in value:
                take(each)

    take(content["state_dict"])
    take(content["optimizer_states"])
    return f"{content['global_step']} {digest.hexdigest()}"


def _table(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [_without_clocks(row) for row in csv.DictReader(file)]


def _without_clocks(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in CLOCKS}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    main()
