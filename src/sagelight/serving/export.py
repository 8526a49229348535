"""The `export` verb: a bundle whose network computes in 8-bit integers, and what that costs in accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagelight.bundle.preprocessing import UnreadableImageError
from sagelight.bundle.quantize import quantize_model
from sagelight.bundle.spec import Quantization
from sagelight.bundle.write import derive_bundle
from sagelight.config.setting import group, setting
from sagelight.data.index import ImageIndex, Sample
from sagelight.data.settings import DataSettings
from sagelight.errors import BundleError, DataError, SagelightError
from sagelight.files import scratch_folder
from sagelight.progress import progress
from sagelight.serving.evaluate import index_for
from sagelight.serving.measure import WORKERS, predict_split
from sagelight.serving.predictor import Predictor

Pixels = NDArray[np.uint8]
BATCH = 16


@dataclass
class ExportSettings:
    bundle: str | None = setting(None, "Folder of the bundle: a run leaves RUN_DIR/bundle.")
    output: str | None = setting(None, "Folder of the new bundle; null is BUNDLE-int8.")
    limit: float = setting(
        0.01,
        "Largest loss of accuracy on the validation photos; a bundle that loses more is not written.",
        least=0,
        most=1,
    )
    calibration_photos: int = setting(
        256, "Training photos from which the ranges of activations are taken.", least=1
    )
    # Of these only name and root matter: how photos are cut and preprocessed is in the bundle.
    data: DataSettings = group(DataSettings)


def run_export(settings: ExportSettings) -> None:
    """Quantise a bundle, measure it on the validation photos of `data.root`, and write it when it is good enough.

    Raises:
        SagelightError: a setting is missing, the bundle is unusable or is int8 already, (DataError) the photos do not
            fit it, or (BundleError) int8 loses more accuracy than `settings.limit`.
    """
    if settings.bundle is None or settings.data.root is None:
        missing = "bundle" if settings.bundle is None else "data.root"
        raise SagelightError(f"export needs {missing}. Type export bundle=DIR data.root=DIR")
    source = Path(settings.bundle)
    output = Path(settings.output or f"{source}-int8")
    predictor = Predictor.load(source)
    if predictor.spec.precision != "fp32":
        raise BundleError(f"{source} is {predictor.spec.precision} already. Name the fp32 bundle.")
    _refuse_place(source, output)
    index = index_for(predictor.spec, settings.data)
    output.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(output.with_name(f"{output.name}.model")) as scratch:
        model = scratch / "model.onnx"
        batches = calibration(predictor, index, settings.calibration_photos)
        quantize_model(source / "model.onnx", model, batches, scratch)
        measured = _measure(predictor, model, index, settings.calibration_photos)
        _refuse_loss(measured, settings)
        spec = replace(predictor.spec, quantization=measured)
        derive_bundle(source, output, spec, model, _section(measured))
    print(_summary(measured, source, output))


def calibration(predictor: Predictor, index: ImageIndex, count: int) -> Iterator[Pixels]:
    """Batches of pixels (B, 3, H, W) of at most `count` training photos, spread evenly over all of them.

    Raises:
        DataError: none of them can be read.
    """
    samples = index.splits["train"]
    taken = [samples[place] for place in _spread(len(samples), count)]
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(partial(_pixels, predictor, index), taken)
        readable = (each for each in progress(found, len(taken), "calibrating") if each is not None)
        batch = list(islice(readable, BATCH))
        if not batch:
            raise DataError(
                f"data.root={index.name} has no readable training photos to calibrate on."
            )
        while batch:
            yield np.stack(batch)
            batch = list(islice(readable, BATCH))


def _pixels(predictor: Predictor, index: ImageIndex, sample: Sample) -> Pixels | None:
    try:
        return predictor.pixels(index.content(sample))
    except UnreadableImageError:
        # `check` names those.
        return None


def _spread(length: int, count: int) -> list[int]:
    return sorted({int(place) for place in np.linspace(0, length - 1, min(count, length))})


def _measure(predictor: Predictor, model: Path, index: ImageIndex, photos: int) -> Quantization:
    found = {}
    for name, which in (("fp32", predictor), ("int8", predictor.with_model(model))):
        watch = partial(progress, label=f"measuring {name}")
        found[name] = predict_split(which, index, "validation", BATCH, watch)
    accuracy = {name: each.evaluation(predictor.labels).accuracy for name, each in found.items()}
    return Quantization(
        accuracy["fp32"],
        accuracy["int8"],
        len(found["int8"].rows),
        min(photos, len(index.splits["train"])),
    )


def _refuse_place(source: Path, output: Path) -> None:
    if output.resolve() == source.resolve():
        raise SagelightError(
            f"output={output} is the bundle itself, which stays as it is. Type output=DIR of another folder."
        )
    if output.exists() and not (output / "bundle.json").is_file():
        raise SagelightError(
            f"{output} holds something else, and nothing in it is overwritten. Type output=DIR."
        )


def _refuse_loss(measured: Quantization, settings: ExportSettings) -> None:
    if measured.loss > settings.limit:
        raise BundleError(
            f"int8 loses {measured.loss:.4f} of accuracy on {measured.photos:,} validation photos "
            f"({measured.fp32_accuracy:.4f} to {measured.int8_accuracy:.4f}), more than limit={settings.limit:g}; "
            "nothing was written. Stay with fp32, type more calibration_photos, "
            f"or accept it: limit={math.ceil(measured.loss * 1000) / 1000:g}"
        )


def _section(measured: Quantization) -> str:
    return (
        "## Arithmetic\n\n"
        f"`model.onnx` computes in int8. On {measured.photos:,} validation photos its accuracy is "
        f"{measured.int8_accuracy:.4f}, that of the fp32 network {measured.fp32_accuracy:.4f}. "
        f"The ranges are those of {measured.calibration_photos:,} training photos. "
        "The figures below are those of fp32."
    )


def _summary(measured: Quantization, source: Path, output: Path) -> str:
    sizes = [(folder / "model.onnx").stat().st_size / 1e6 for folder in (source, output)]
    return (
        f"accuracy  {measured.fp32_accuracy:.4f} in fp32, {measured.int8_accuracy:.4f} in int8, "
        f"{measured.photos:,} validation photos\n"
        f"size      {sizes[0]:.1f} MB in fp32, {sizes[1]:.1f} MB in int8\n"
        f"bundle    {output}"
    )
