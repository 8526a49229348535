"""Spot trainings in the rehearsal whose machines are taken away at random seconds: is anything lost?

    python benchmarks/kills_spot.py kills=200 seed=1 output=runs/kills-spot.json

takes that many machines away, one to five of each job, wherever it is: downloading, training, copying checkpoints to the
bucket, bundling. The job goes on on another machine, in another folder, with what the bucket has by then, and must end
with the metrics and the bundle of a job that nobody has interrupted, to the bit. How often checkpoints are copied is
drawn, too. Started again, the program goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from killing import make_photos
from killing_stories import Facts, Journal, Told, arguments, differing, print_table

from sagelight.cloud.door import main as cloud
from sagelight.rehearsal import training
from sagelight.rehearsal.command import ROLE
from sagelight.rehearsal.server import rehearsal

EPOCHS = 6
MOST = 5
# Of the time that a job takes which nobody interrupts.
LONGEST_LIFE = 0.7
LONGEST_SECONDS = 1200.0
WORDS = [
    "train", "experiment=squeezenet", "model.backbone=squeezenet1_1", "model.weights=none", "data.image_size=32",
    "data.batch_size=4", "data.root=photos", "trainer.precision=32-true", f"trainer.max_epochs={EPOCHS}",
    "trainer.checkpoint_steps=2", "model.dropout=0.2", "hpo.metric=val/loss", "finetune.backbone_lr_scale=1",
    "optimizer.lr=0.003", "explain=false", "cloud.spot=true", "cloud.follow=false", f"cloud.role={ROLE}",
]  # fmt: skip


def main() -> None:
    asked = arguments("kills_spot")
    journal = Journal(asked.output, asked.about)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch, rehearsal() as running:
        os.environ.update(running.environment)
        os.chdir(scratch)
        make_photos(Path("photos"), 12)
        story = Spot(running)
        if journal.kills() < asked.kills:
            # The first job waits for torch, too.
            story.job(1, [])
            whole, seconds = story.job(2, []), story.seconds
        while journal.kills() < asked.kills:
            number = len(journal.told)
            chance = random.Random(f"{asked.seed} {number}")
            machines = chance.randint(1, MOST)
            waits = [chance.uniform(0, LONGEST_LIFE * seconds) for _ in range(machines)]
            training.SYNC_SECONDS = chance.uniform(0.2, 2)
            facts = story.job(number + 3, waits)
            told = Told(number, "spot", kills=story.kills)
            if facts is None:
                told.outcome, told.detail = "lost", story.why
            elif other := differing(facts, whole or {}):
                told.outcome, told.detail = "different", ", ".join(other)
            journal.add(told, Path("fetched"))
        os.chdir(here)
    print(f"{asked.about}\n")
    sys.exit(not print_table(journal.told))


class Spot:
    """Jobs of one configuration, one after the other.

    Attributes:
        seconds: how long the last one took.
        kills: in which state each of its machines was taken away.
        why: what the service says of a job that failed.
    """

    def __init__(self, running: Any) -> None:
        self._running = running
        self.seconds = 0.0
        self.kills: list[tuple[str, str]] = []
        self.why = ""

    def job(self, attempt: int, waits: list[float]) -> Facts | None:
        """Run one, and take its machine away after each of so many seconds; gives what it came to, if anything."""
        self._forget()
        self.kills, began = [], time.monotonic()
        before = set(self._running.sagemaker.training)
        assert cloud([*WORDS, f"cloud.attempt={attempt}"]) == 0
        [name] = set(self._running.sagemaker.training) - before
        job = self._running.sagemaker.training[name]
        for seconds in waits:
            job.thread.join(seconds)
            if job.done:
                break
            self.kills.append((job.secondary, "spot interruption"))
            job.interrupt()
        job.thread.join(LONGEST_SECONDS)
        self.seconds = time.monotonic() - began
        if job.status != "Completed":
            self.why = f"{job.status}: {job.reason}"
            return None
        shutil.rmtree("fetched", ignore_errors=True)
        assert cloud(["fetch", f"job={name}", "output=fetched"]) == 0
        return _facts(Path("fetched"))

    def _forget(self) -> None:
        """Empty the buckets of what jobs have left: another attempt would go on with that."""
        s3 = self._running.sagemaker.clients.s3
        for bucket in s3.list_buckets()["Buckets"]:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
                for entry in page.get("Contents", ()):
                    s3.delete_object(Bucket=bucket["Name"], Key=entry["Key"])


def _facts(run: Path) -> Facts:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    facts = {
        n: repr(v) for n, v in metrics.items() if n not in ("train_seconds", "images_per_second")
    }
    for name in ("bundle/model.onnx", "bundle/model.safetensors", "evaluation/test.csv"):
        facts[name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
    return facts


if __name__ == "__main__":
    main()
