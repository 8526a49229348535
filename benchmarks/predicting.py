"""`predict` over a folder against its parts: decoding alone and the network alone, each with all cores.

    python benchmarks/predicting.py [bundle=DIR | backbone=resnet18] [input=DIR] [photos=480] [rounds=5] [output=FILE.json]

Without a bundle a backbone of random weights is exported first, and without photos they are drawn. One process; the
rounds take turns, and who comes first in a round changes. The network alone is given the same batches, decoded
before, in both manners: one batch at a time on all cores, and batches side by side as `predict` does; the faster of
the two counts.

Where decoding and the network use the same cores, no order of work can be faster than the sum of their costs:
1 / (1/decoding + 1/network). So `predict` is compared with that bound too, and with the smaller rate, which a machine
whose network runs elsewhere could reach. The same ratios are worked out from seconds of CPU, which other work on the
machine changes less than it changes the clock; waiting for each other does not show in them.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from serving_bundle import machine, write_random_bundle

from sagelight.serving.batch import PredictSettings
from sagelight.serving.predictor import Predictor
from sagelight.serving.stream import answers, image_files, runs_at_once

TARGET = 0.9
Batches = list[NDArray[np.uint8]]


class Parts:
    """`predict` and its parts over the same photos; each gives the seconds that it took."""

    def __init__(self, bundle: Path, root: Path, files: Sequence[str]) -> None:
        self.usual = PredictSettings()
        self.runs, threads = runs_at_once()
        self.whole = Predictor.load(bundle)
        self.side_by_side = Predictor.load(bundle, threads)
        self.root, self.files = root, list(files)
        preprocessing = self.whole.spec.preprocessing
        pixels = [preprocessing(root / file) for file in self.files]
        size = self.usual.batch_size
        self.batches: Batches = [
            np.stack(pixels[n : n + size]) for n in range(0, len(pixels), size)
        ]

    def decoding(self) -> None:
        preprocessing = self.whole.spec.preprocessing
        with ThreadPoolExecutor(self.usual.num_workers) as pool:
            for _ in pool.map(lambda file: preprocessing(self.root / file), self.files):
                pass

    def network(self) -> None:
        for batch in self.batches:
            self.whole.probabilities(batch)

    def network_side_by_side(self) -> None:
        with ThreadPoolExecutor(self.runs) as pool:
            for _ in pool.map(self.side_by_side.probabilities, self.batches):
                pass

    def predict(self) -> None:
        usual = self.usual
        stream = answers(
            self.side_by_side, self.root, self.files, usual.batch_size, usual.num_workers, self.runs
        )
        for _ in stream:
            pass


def main() -> None:
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as scratch:
        bundle, root = _materials(options, Path(scratch))
        files = image_files(root)
        wanted = int(options.get("photos", "480"))
        files = files[:: max(1, len(files) // wanted)][:wanted]
        parts = Parts(bundle, root, files)
        print(f"{len(files)} photos, {parts.runs} batches side by side, {machine()}")
        rounds = measured(parts, int(options.get("rounds", "5")), len(files))
    found = {"machine": machine(), "photos": len(files), "rounds": rounds, **summary(rounds)}
    if "output" in options:
        Path(options["output"]).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def measured(parts: Parts, rounds: int, photos: int) -> list[dict[str, float]]:
    """Photos a second of each part, round by round."""
    works: list[Callable[[], None]] = [
        parts.decoding,
        parts.network,
        parts.network_side_by_side,
        parts.predict,
    ]
    for work in works:
        work()
    found = []
    for turn in range(rounds):
        rates: dict[str, float] = {}
        first = turn % len(works)
        for work in works[first:] + works[:first]:
            began, used = time.perf_counter(), time.process_time()
            work()
            rates[work.__name__] = photos / (time.perf_counter() - began)
            rates[f"{work.__name__} by CPU"] = photos / (time.process_time() - used)
        found.append(rates)
        print("  " + "  ".join(f"{work.__name__} {rates[work.__name__]:.1f}/s" for work in works))
    return found


def summary(rounds: list[dict[str, float]]) -> dict[str, list[float]]:
    """The ratios of all rounds, printed with their medians and spread."""
    found: dict[str, list[float]] = {}
    for kind in ("", " by CPU"):
        for rates in rounds:
            side_by_side, predict = (
                rates[f"{name}{kind}"] for name in ("network_side_by_side", "predict")
            )
            one, decoding = rates[f"network{kind}"], rates[f"decoding{kind}"]
            network = max(one, side_by_side)
            ratios = {
                "smaller of decoding and network": predict / min(decoding, network),
                "smaller of decoding and network, one batch at a time": predict
                / min(decoding, one),
                "sum of costs": predict * (1 / decoding + 1 / network),
            }
            for name, ratio in ratios.items():
                found.setdefault(f"{name}{kind}", []).append(ratio)
    for name, values in found.items():
        print(
            f"predict / {name}: {statistics.median(values):.3f} "
            f"({min(values):.3f} to {max(values):.3f}; target {TARGET})"
        )
    return found


def _materials(options: dict[str, str], scratch: Path) -> tuple[Path, Path]:
    if "bundle" in options:
        bundle = Path(options["bundle"])
    else:
        bundle = scratch / "bundle"
        write_random_bundle(bundle, options.get("backbone", "resnet18"))
    if "input" in options:
        return bundle, Path(options["input"])
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from images import make_folder

    classes = {f"class {number}": 12 for number in range(10)}
    return bundle, make_folder(scratch / "photos", {"": classes}, (640, 480))


if __name__ == "__main__":
    main()
