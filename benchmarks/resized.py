"""Loading from the resized cache against torchvision's ImageFolder and its transforms on Pillow, on one core.

    OMP_NUM_THREADS=1 python benchmarks/resized.py data.root=DIR [photos=400] [rounds=5] [output=FILE.json]

One process without loader processes; batches of 32, ImageFolder's as normalised floats, the cache's as uint8, which
the network normalises. The rounds take turns, and who comes first in a round changes; ratios are of processor seconds
of the same round. Memory that was freed is kept, as in training. The cache is built once before, and its cost told in
passes over the photos by ImageFolder.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from serving_bundle import machine
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.augment import training_transform
from sagelight.data.dataset import Draw, PhotoDataset, collate
from sagelight.data.index import ImageIndex, Sample, index_images
from sagelight.data.module import PhotoDataModule
from sagelight.data.prepare import IMAGENET_MEAN, IMAGENET_STD
from sagelight.data.resized import open_cache
from sagelight.data.settings import AugmentSettings, DataSettings
from sagelight.training.machine import keep_freed_memory

BATCH, SIDE, SHORT = 32, 224, 256
# A pass over the cache is too short to be measured alone.
EVAL_PASSES = 10
SPEC = Preprocessing(SHORT, SIDE, IMAGENET_MEAN, IMAGENET_STD)
TARGETS = {"train": 6.0, "eval": 50.0}


@dataclass(frozen=True)
class Pass:
    """Something that loads all photos, `times` times over."""

    run: Callable[[], None]
    times: int = 1

    def seconds(self) -> float:
        """Processor seconds of one pass."""
        used = time.process_time()
        for _ in range(self.times):
            self.run()
        return (time.process_time() - used) / self.times


def main() -> None:
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    torch.set_num_threads(1)
    keep_freed_memory()
    folder = ImageFolder(_training_folder(Path(options["data.root"])))
    wanted = int(options.get("photos", "400"))
    chosen = range(0, len(folder), max(1, len(folder) // wanted))[:wanted]
    theirs = baseline(folder, list(chosen))
    with tempfile.TemporaryDirectory() as scratch:
        used = time.process_time()
        ours = resized([Path(folder.samples[n][0]) for n in chosen], Path(scratch))
        building = time.process_time() - used
        rounds = measured(theirs, ours, int(options.get("rounds", "5")))
    print(f"{len(chosen)} photos of {folder.root}, {machine()}")
    ratios = summary(rounds)
    passes = building / statistics.median(seconds["train ImageFolder"] for seconds in rounds)
    print(f"building it: {passes:.2f} passes of ImageFolder for training")
    found = {"machine": machine(), "photos": len(chosen), "rounds": rounds, "ratios": ratios}
    if "output" in options:
        content = json.dumps({**found, "building_passes": passes}, indent=2)
        Path(options["output"]).write_text(content + "\n", encoding="utf-8")


def baseline(folder: ImageFolder, chosen: list[int]) -> dict[str, Pass]:
    """What torchvision's references do: Pillow, a float tensor for each photo, normalised."""
    end = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    augment = AugmentSettings()
    ratio = (1 / augment.crop_ratio, augment.crop_ratio)
    ways = {
        "train": [
            transforms.RandomResizedCrop(SIDE, (augment.crop_scale, 1), ratio),
            transforms.RandomHorizontalFlip(),
        ],
        "eval": [transforms.Resize(SHORT), transforms.CenterCrop(SIDE)],
    }

    def loading(way: str) -> Callable[[], None]:
        transform = transforms.Compose([*ways[way], *end])

        def run() -> None:
            folder.transform = transform
            _drain(DataLoader(Subset(folder, chosen), BATCH, num_workers=0))

        return run

    return {way: Pass(loading(way)) for way in ways}


def resized(photos: list[Path], scratch: Path) -> dict[str, Pass]:
    """The same photos from a cache below `scratch`, which is built here."""
    root = photos[0].parents[1]
    samples = [Sample(photo.relative_to(root).as_posix(), 0) for photo in sorted(photos)]
    index = ImageIndex(root, ["photo"], {"train": samples, "validation": [], "test": []})
    cache = open_cache(DataSettings(cache="memmap", cache_folder=str(scratch)), index, SPEC)
    assert cache is not None
    source = cache.source(samples)
    varied = PhotoDataset(source, training_transform(AugmentSettings(), SIDE))
    draws: Any = [Draw(n, n) for n in range(len(samples))]

    def train() -> None:
        _drain(DataLoader(varied, BATCH, sampler=draws, num_workers=0, collate_fn=collate))

    def evaluate() -> None:
        _drain(DataLoader(PhotoDataset(source), BATCH, num_workers=0, collate_fn=collate))

    return {"train": Pass(train), "eval": Pass(evaluate, EVAL_PASSES)}


def cache_ways() -> dict[str, Callable[[Any, int], float]]:
    """The cache's loaders of a training for benchmarks/pipeline.py: photos a processor second, by way.

    Each takes a set of photos, whose `root` has a folder for each split, and the number of the epoch. The cache is
    built beside the photos at the first call, which is not to be counted.
    """

    def opened(root: Path) -> PhotoDataModule:
        index = index_images(root)
        settings = DataSettings(
            root=str(root),
            batch_size=min(BATCH, len(index.splits["train"])),
            eval_batch_size=BATCH,
            num_workers=0,
            prefetch=2,
            pin_memory="off",
            cache="memmap",
            cache_folder=str(root.with_name(f"{root.name}-resized")),
        )
        data = PhotoDataModule(index, settings, AugmentSettings(), SPEC, seed=0)
        data.open_cache()
        return data

    def training(photos: Any, number: int) -> float:
        loader = opened(photos.root).train_dataloader()
        loader.batch_sampler.sampler.set_epoch(number)  # type: ignore[union-attr]
        return len(loader.dataset) / Pass(lambda: _drain(loader)).seconds()  # type: ignore[arg-type]

    def evaluation(photos: Any, number: int) -> float:
        loader = opened(photos.root).val_dataloader()
        return len(loader.dataset) / Pass(lambda: _drain(loader), EVAL_PASSES).seconds()  # type: ignore[arg-type]

    return {"ours resized, training": training, "ours resized, evaluation": evaluation}


def measured(theirs: dict[str, Pass], ours: dict[str, Pass], rounds: int) -> list[dict[str, float]]:
    """Processor seconds of each pass, round by round."""
    works = {f"{way} ImageFolder": each for way, each in theirs.items()}
    works |= {f"{way} resized": each for way, each in ours.items()}
    names = list(works)
    for name in names:
        works[name].seconds()
    found = []
    for turn in range(rounds):
        first = turn % len(names)
        found.append({name: works[name].seconds() for name in names[first:] + names[:first]})
    return found


def summary(rounds: list[dict[str, float]]) -> dict[str, list[float]]:
    """The ratios of all rounds, printed with their medians and spread."""
    found = {}
    for way, target in TARGETS.items():
        values = [seconds[f"{way} ImageFolder"] / seconds[f"{way} resized"] for seconds in rounds]
        print(
            f"{way}: resized {statistics.median(values):.1f} times as fast as ImageFolder "
            f"({min(values):.1f} to {max(values):.1f}; target {target:g})"
        )
        found[way] = values
    return found


def _drain(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def _training_folder(root: Path) -> Path:
    return root / "train" if (root / "train").is_dir() else root


if __name__ == "__main__":
    main()
