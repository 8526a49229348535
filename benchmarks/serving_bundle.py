"""What the servers are measured with: a network, photos, and how a target is written down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sagelight.bundle.provenance import cpu_name
from sagelight.bundle.spec import BundleSpec
from sagelight.data.settings import DataSettings
from sagelight.serving.evaluate import index_for

LABELS = [f"label {number}" for number in range(10)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_random_bundle(folder: Path, backbone: str = "resnet18", side: int = 224) -> None:
    """A network of random weights, exported as training exports one."""
    from sagelight.bundle.card import CardFacts
    from sagelight.bundle.export import write_model
    from sagelight.bundle.preprocessing import Preprocessing
    from sagelight.bundle.provenance import provenance
    from sagelight.bundle.spec import Splits
    from sagelight.bundle.write import write_bundle
    from sagelight.models.network import Network
    from sagelight.models.settings import ModelSettings

    settings = ModelSettings(backbone=backbone, weights="none")
    network = Network(settings, len(LABELS), side, MEAN, STD)
    spec = BundleSpec(
        labels=LABELS,
        preprocessing=Preprocessing(side * 256 // 224, side, MEAN, STD),
        backbone=backbone,
        fingerprint="0" * 64,
        splits=Splits(0.15, 0.15, 0, ["validation", "test"]),
        provenance=provenance("none", "0" * 64, "benchmarks/serving.py bundle"),
    )
    facts = CardFacts(f"random {backbone}", {"train": [0] * len(LABELS)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(folder, spec, {}, lambda scratch: write_model(network, side, scratch), facts)


def test_photos(bundle: Path, options: dict[str, str]) -> tuple[Path, list[str]]:
    """The root of the photos, and the test photos below it."""
    spec = BundleSpec.read(bundle)
    index = index_for(spec, DataSettings(root=options["data.root"]))
    return index.root, [sample.path for sample in index.splits["test"]]


def jpegs(bundle: Path, options: dict[str, str], count: int = 64) -> list[bytes]:
    """That many of the test photos, spread over all of them."""
    root, paths = test_photos(bundle, options)
    chosen = [path for path in paths if path.lower().endswith((".jpg", ".jpeg"))]
    step = max(1, len(chosen) // count)
    return [(root / path).read_bytes() for path in chosen[::step][:count]]


def target(
    name: str, found: float, least: float | None = None, most: float | None = None
) -> dict[str, Any]:
    """A figure beside what it must be, printed and kept."""
    held = (least is None or found >= least) and (most is None or found <= most)
    wanted = f">= {least:g}" if least is not None else f"<= {most:g}"
    print(f"  {'holds ' if held else 'MISSED'}  {name}: {found:.3g} (target {wanted})")
    return {"name": name, "found": found, "least": least, "most": most, "held": held}


def machine() -> str:
    return f"{len(os.sched_getaffinity(0))} cores, {cpu_name()}"
