"""Photos to batches on one core: ours against ImageFolder with Pillow, and against decoding alone.

    python benchmarks/pipeline.py [data.root=DIR] [rounds=7] [photos=192] [large=6] [output=FILE.json]

The photos are pieces of scikit-learn's two, with noise: as many of 500 x 375 pixels as `photos` says, and `large` ones of
12 megapixels; with data.root, some of that folder's training photos too. Each way makes batches of 32 on one thread:

- peer: torchvision's ImageFolder, its transforms on Pillow pictures, float32 and normalised, as its references do it;
- ours: the loaders of a training, uint8, which the device normalises; with the same crops and mirroring;
- decode: every photo by torchvision's decoder, and nothing else.

All ways take turns in every round, and who is first changes. What counts is CPU time of the process; printed are the median
of the rounds' ratios, and the smallest and largest. The pixels of validation are compared with what serving computes.
Ends with 1 where a target is missed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pipeline_photos import PhotoSet, large_photos, photos_of, usual_photos
from serving_bundle import MEAN, STD, machine, target
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.io import decode_jpeg

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.index import index_images
from sagelight.data.module import PhotoDataModule
from sagelight.data.settings import AugmentSettings, DataSettings
from sagelight.files import write_json
from sagelight.training.machine import keep_freed_memory

SPEC = Preprocessing(256, 224, MEAN, STD)
AUGMENT = AugmentSettings()
BATCH = 32
USUAL, LARGE, REAL = "500 x 375", "12 megapixels", "data.root"
# Seconds of CPU that a way takes for all photos of a set, in a round.
Way = Callable[[PhotoSet, int], float]


@dataclass(frozen=True)
class Target:
    """One way over another, by the photos a second of CPU."""

    way: str
    against: str
    photos: str
    least: float


TARGETS = [
    Target("ours, training", "peer, training", USUAL, 1.8),
    Target("ours, evaluation", "peer, evaluation", USUAL, 2.2),
    Target("ours, training", "peer, training", LARGE, 5),
    Target("ours, evaluation", "peer, evaluation", LARGE, 5),
    Target("ours, training", "decode", USUAL, 0.5),
    Target("ours, evaluation", "decode", USUAL, 0.5),
]


def peer(varied: bool) -> Way:
    first: list[Any] = [transforms.Resize(256), transforms.CenterCrop(224)]
    if varied:
        ratio = (1 / AUGMENT.crop_ratio, AUGMENT.crop_ratio)
        crop = transforms.RandomResizedCrop(224, scale=(AUGMENT.crop_scale, 1), ratio=ratio)
        first = [crop, transforms.RandomHorizontalFlip(AUGMENT.horizontal_flip)]
    steps = transforms.Compose(
        [*first, transforms.ToTensor(), transforms.Normalize(MEAN, STD)],
    )

    def measure(photos: PhotoSet, number: int) -> float:
        torch.manual_seed(number)
        dataset = ImageFolder(str(photos.root / "train"), steps)
        return seconds(DataLoader(dataset, BATCH, shuffle=varied))

    return measure


def module(photos: PhotoSet) -> PhotoDataModule:
    settings = DataSettings(
        root=str(photos.root),
        batch_size=min(BATCH, photos.count),
        eval_batch_size=BATCH,
        num_workers=0,
        pin_memory="off",
    )
    return PhotoDataModule(index_images(photos.root), settings, AUGMENT, SPEC, seed=0)


def ours_in_training(photos: PhotoSet, number: int) -> float:
    loader = module(photos).train_dataloader()
    loader.batch_sampler.sampler.set_epoch(number)  # type: ignore[union-attr]
    return seconds(loader)


def ours_in_evaluation(photos: PhotoSet, number: int) -> float:
    return seconds(module(photos).val_dataloader())


def decode(photos: PhotoSet, number: int) -> float:
    contents = [bytearray(path.read_bytes()) for path in photos.files]
    start = time.process_time()
    for content in contents:
        decode_jpeg(torch.frombuffer(content, dtype=torch.uint8), mode="RGB")
    return time.process_time() - start


WAYS: dict[str, Way] = {
    "peer, training": peer(varied=True),
    "ours, training": ours_in_training,
    "peer, evaluation": peer(varied=False),
    "ours, evaluation": ours_in_evaluation,
    "decode": decode,
}


def seconds(loader: Any) -> float:
    start = time.process_time()
    for _ in loader:
        pass
    return time.process_time() - start


def measure(photos: PhotoSet, rounds: int) -> dict[str, list[float]]:
    """Photos a second of CPU, by way and round."""
    names = list(WAYS)
    found: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        WAYS[name](photos, 0)
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            found[name].append(photos.count / WAYS[name](photos, number + 1))
    return found


def pixels(photos: PhotoSet) -> dict[str, float]:
    """How far validation while training goes on is from what serving computes, in levels of 255."""
    data = module(photos)
    exact = torch.cat([batch.images for batch in data.eval_loader("validation")]).double()
    quick = torch.cat([batch.images for batch in data.val_dataloader()]).double()
    difference = (exact - quick).abs()
    errors = difference.square().mean(dim=(1, 2, 3)).clamp(min=1e-9)
    return {
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
        "least_decibels": float(10 * torch.log10(255**2 / errors.max())),
    }


def ratios(rates: dict[str, list[float]], way: str, against: str) -> list[float]:
    return [ours / theirs for ours, theirs in zip(rates[way], rates[against], strict=True)]


def show(photos: PhotoSet, rates: dict[str, list[float]]) -> dict[str, Any]:
    print(f"\n{photos.name}: {photos.count} photos, {photos.kilobytes:,.0f} kB each")
    table = {}
    for name, found in rates.items():
        against = f"peer, {name.split(', ')[1]}" if name.startswith("ours") else "decode"
        each = ratios(rates, name, against)
        median = statistics.median(each)
        print(
            f"  {name:<18}{statistics.median(found):>9,.1f} photos/s  x{median:.2f} of {against}"
            f" ({min(each):.2f} to {max(each):.2f})"
        )
        table[name] = {"rates": found, "against": against, "ratio": median}
    return table


def judge(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    print()
    judged = []
    for each in TARGETS:
        rates = {name: row["rates"] for name, row in results[each.photos]["ways"].items()}
        ratio = statistics.median(ratios(rates, each.way, each.against))
        judged.append(
            target(f"{each.photos}: {each.way} / {each.against}", ratio, least=each.least)
        )
    usual, large = results[USUAL]["pixels"], results[LARGE]["pixels"]
    return [
        *judged,
        target(f"{USUAL}: largest difference of a pixel, in levels", usual["largest"], most=1),
        target(f"{USUAL}: mean difference of pixels, in levels", usual["mean"], most=0.01),
        target(f"{LARGE}: decibels of the worst photo", large["least_decibels"], least=45),
    ]


def main() -> None:
    options = dict(option.split("=", 1) for option in sys.argv[1:])
    rounds, count = int(options.get("rounds", 7)), int(options.get("photos", 192))
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sets = [
            usual_photos(Path(folder, "usual"), USUAL, count),
            large_photos(Path(folder, "large"), LARGE, int(options.get("large", 6))),
        ]
        if "data.root" in options:
            sets.append(photos_of(Path(folder, "real"), REAL, Path(options["data.root"]), count))
        for photos in sets:
            ways = show(photos, measure(photos, rounds))
            results[photos.name] = {
                "photos": photos.count,
                "kilobytes": photos.kilobytes,
                "ways": ways,
                "pixels": pixels(photos),
            }
    targets = judge(results)
    output = Path(options.get("output", "runs/benchmarks/pipeline.json"))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, {"machine": machine(), "results": results, "targets": targets})
    print(f"\nwritten: {output}")
    sys.exit(any(not each["held"] for each in targets))


if __name__ == "__main__":
    main()
