"""What a study costs with cached features and batched heads, against the same study without.

    python benchmarks/tuning.py price runs/price data.root=clothing     the seeds' study: wall time, photos through the backbone
    python benchmarks/tuning.py heads runs/heads data.root=clothing     a head-epoch: twenty heads in one pass, and each alone
    python benchmarks/tuning.py best runs/best data.root=clothing       the best validation accuracy, three seeds
    python benchmarks/tuning.py idle runs/idle                          two processes with trials of unequal length

Each leaves its figures in DIR/figures.json. Words after the folder are added to every command.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sagelight.bundle.provenance import cpu_name
from sagelight.config.compose import compose
from sagelight.files import write_json

DOOR = Path(__file__).resolve().parents[1] / "launch" / "local.py"
FROZEN = ["finetune=head", "augment=none", "callbacks.ema_decay=0"]
TURNS = 3


def main() -> None:
    kind, folder, words = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    measure = {"price": price, "heads": heads, "best": best, "idle": idle}[kind]
    figures = {**measure(folder, words), "cpu": cpu_name(), "cores": os.cpu_count()}
    write_json(folder / "figures.json", figures)
    print(json.dumps(figures, indent=2))


def price(folder: Path, words: list[str]) -> dict[str, Any]:
    """The seeds' study: a frozen resnet50 from random weights, 20 trials of 2 to 10 epochs."""
    base = ["experiment=resnet50", "model.weights=none", *FROZEN, *words]
    store = f"features.folder={folder / 'features'}"
    seconds, said = _study(folder / "cached", [*base, "hpo=true", store])
    rows = _rows(folder / "cached" / "trials.csv")
    photos = int(
        next(line for line in said.splitlines() if "through the backbone" in line).split()[0]
    )
    each = [_seconds_per_photo(folder / f"naive-{n}", base) for n in range(2)]
    check = json.loads((folder / "naive-0" / "check.json").read_text(encoding="utf-8"))
    counts = {split: sum(found.values()) for split, found in check["counts"].items()}
    epochs = sum(int(row["trainer.max_epochs"]) for row in rows)
    naive_photos = epochs * (counts["train"] + counts["validation"])
    naive = [naive_photos * value for value in each]
    by_hand = [naive_photos * value for value in _by_hand(words)]
    return {
        "photos": sum(counts.values()),
        "through the backbone": photos,
        "cached seconds": seconds,
        "naive photos": naive_photos,
        "naive seconds, scaled from two short trials": naive,
        "ratio": [value / seconds for value in naive],
        "by hand, with Lightning and Optuna, scaled from two short trials": by_hand,
        "ratio to that": [value / seconds for value in by_hand],
    }


def heads(folder: Path, words: list[str]) -> dict[str, Any]:
    """Seconds of a head's epoch: twenty heads with their own rates in one pass, and one head alone, in turn."""
    import torch

    from sagelight.config.resolve import resolve
    from sagelight.features.heads import Features, HeadTrial, train_heads
    from sagelight.training.machine import probe
    from sagelight.training.trials import prepare_frozen

    base = ["experiment=resnet50", "model.weights=none", *FROZEN, "trainer.max_epochs=2", *words]
    store = f"features.folder={folder / 'features'}"
    frozen = prepare_frozen(compose([*base, store]))
    targets = {
        split: torch.tensor([s.target for s in frozen.index.splits[split]])
        for split in ("train", "validation")
    }
    features = Features(
        frozen.served["train"].tensor(),
        targets["train"],
        frozen.served["validation"].tensor()[0],
        targets["validation"],
        frozen.index.counts("train"),
    )
    found: dict[str, Any] = {}
    for size in (64, 512):
        trials = []
        for number in range(20):
            rate = f"optimizer.lr={0.001 * 1.25**number}"
            config = compose([*base, rate, f"data.batch_size={size}", f"run_dir={folder}/none"])
            resolve(config, probe(), len(targets["train"]))
            trials.append(HeadTrial(number, config, frozen.network.head))
        ratios = []
        for _ in range(TURNS):
            started = time.monotonic()
            train_heads(trials, features, lambda number, row: False)
            together = (time.monotonic() - started) / 40
            started = time.monotonic()
            for trial in trials[:4]:
                train_heads([trial], features, lambda number, row: False)
            ratios.append((time.monotonic() - started) / 8 / together)
        found[f"batch size {size}: alone / together"] = sorted(ratios)
    return found


def best(folder: Path, words: list[str]) -> dict[str, Any]:
    """The best validation accuracy of the same trials with cached features and without."""
    base = ["experiment=squeezenet", *FROZEN, "hpo=true", *words]
    found: dict[str, list[float]] = {"cached": [], "naive": []}
    for seed in range(TURNS):
        for name, cache in (("cached", "on"), ("naive", "off")):
            place = folder / f"{name}-{seed}"
            _study(place, [*base, f"seed={seed}", f"features.cache={cache}"])
            scores = [
                float(row["objective"]) for row in _rows(place / "trials.csv") if row["objective"]
            ]
            found[name].append(max(scores))
    return found


def idle(folder: Path, words: list[str]) -> dict[str, Any]:
    """The share of two processes' time in which they had no trial, until the last one began."""
    from sagelight.tuning import local, pool

    spans: list[list[float]] = []
    start = pool.Pool.start

    def watched(self: pool.Pool, task: pool.Task) -> None:
        start(self, task)
        spans.append([time.monotonic(), self.workers[-1].process.sentinel, 0.0])

    messages = pool.Pool.messages

    def listened(self: pool.Pool, seconds: float) -> Any:
        before = list(self.workers)
        yield from messages(self, seconds)
        for worker in before:
            if worker not in self.workers:
                span = next(s for s in spans if s[1] == worker.process.sentinel and not s[2])
                span[2] = time.monotonic()

    pool.Pool.start, pool.Pool.messages = watched, listened  # type: ignore[method-assign]
    from sagelight.tuning.study import read_study

    study = read_study(
        [
            "experiment=smoke",
            "hpo=true",
            "hpo.strategy=random",
            "optimizer.lr=0.01",
            "data.batch_size=32",
            "trainer.limit_train_batches=null",
            "trainer.max_epochs=range(1,6)",
            "hpo.max_jobs=8",
            f"run_dir={folder / 'study'}",
            *words,
        ]
    )
    local.run_study(study)
    last = max(span[0] for span in spans)
    wall = last - min(span[0] for span in spans)
    busy = sum(min(span[2], last) - span[0] for span in spans)
    return {"idle share": 1 - busy / (2 * wall), "trials": len(spans), "seconds": wall}


def _study(folder: Path, words: list[str]) -> tuple[float, str]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(DOOR), *words, f"run_dir={folder}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return time.monotonic() - started, done.stdout


def _seconds_per_photo(folder: Path, base: list[str]) -> float:
    """A short training without a cache; the first batches, which warm up, do not count."""
    limits = [
        "trainer.limit_train_batches=6",
        "trainer.limit_val_batches=1",
        "trainer.max_epochs=2",
    ]
    subprocess.run(
        [sys.executable, str(DOOR), *base, *limits, "features.cache=off", f"run_dir={folder}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return 1 / statistics.median(
        float(row["images_per_second"]) for row in _rows(folder / "metrics.csv")
    )


def _by_hand(words: list[str]) -> list[float]:
    """Seconds per photo of the study that benchmarks/by_hand.py writes out, of two trials."""
    root = compose(["experiment=resnet50", *words]).data.root
    assert root is not None
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("by_hand.py")), root, "2"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
