"""The `evaluate` verb: how good a bundle is on labelled photos."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sagelight.bundle.spec import BundleSpec
from sagelight.config.setting import group, setting
from sagelight.data.index import ImageIndex
from sagelight.data.prepare import open_index
from sagelight.data.settings import DataSettings
from sagelight.errors import SagelightError
from sagelight.files import write_csv, write_json
from sagelight.metrics.evaluation import Evaluation
from sagelight.progress import progress
from sagelight.serving.evaluate_report import text_report
from sagelight.serving.folders import figures_content
from sagelight.serving.measure import PredictionRow, SplitPredictions, predict_split
from sagelight.serving.predictor import Predictor
from sagelight.serving.stream import Answer
from sagelight.serving.views import VIEWS


@dataclass
class EvaluateSettings:
    bundle: str | None = setting(None, "Folder of the bundle: a run leaves RUN_DIR/bundle.")
    split: str = setting("test", "Photos to measure on.", choices=("train", "validation", "test"))
    output: str | None = setting(
        None, "FILE.json for the figures; one row a photo goes to FILE.predictions.csv beside it."
    )
    batch_size: int = setting(32, "Photos to one run of the network.", least=1)
    tta: str = setting(
        "none",
        "Test-time augmentation, whose probabilities are averaged: flip sees each photo twice, crops ten times.",
        choices=tuple(VIEWS),
    )
    # Of these only name and root matter: how photos are cut and preprocessed is in the bundle.
    data: DataSettings = group(DataSettings)


def run_evaluate(settings: EvaluateSettings) -> None:
    """Measure a bundle on a split of `data.root`, cut as the bundle's own run cut it.

    Raises:
        SagelightError: a setting is missing or wrong, the bundle is unusable, or (DataError) the
            photos have classes that the bundle does not know.
    """
    if settings.bundle is None or settings.data.root is None:
        missing = "bundle" if settings.bundle is None else "data.root"
        raise SagelightError(f"evaluate needs {missing}. Type evaluate bundle=DIR data.root=DIR")
    output = _output(settings.output)
    predictor = Predictor.load(settings.bundle, tta=settings.tta)
    index = index_for(predictor.spec, settings.data)
    found = predict_split(predictor, index, settings.split, settings.batch_size, _watched)
    evaluation = found.evaluation(predictor.labels)
    for photo in found.unreadable:
        print(f"left out: {photo.path}: {photo.reason}", file=sys.stderr)
    if settings.split in index.cut and index.fingerprint != predictor.spec.fingerprint:
        print(
            "These are not exactly the photos of the bundle's run, so the cut may have taken some "
            f"that it was trained on. Put photos to measure on under {index.root}/test/CLASS/.",
            file=sys.stderr,
        )
    print(text_report(evaluation, settings.bundle, index.root, settings.split, found.unreadable))
    if output is not None:
        _write(output, settings, index, found, evaluation)
        print(f"Written: {output} and {_beside(output)}", file=sys.stderr)


def index_for(spec: BundleSpec, data: DataSettings) -> ImageIndex:
    """The photos of `data.root`, split by the fractions and the seed that the bundle recorded."""
    cut = spec.splits
    return open_index(
        replace(
            data,
            validation_fraction=cut.validation_fraction,
            test_fraction=cut.test_fraction,
            split_seed=cut.split_seed,
        )
    )


def _watched(stream: Iterable[Answer], total: int) -> Iterator[Answer]:
    return progress(stream, total, "evaluate")


def _output(output: str | None) -> Path | None:
    if output is not None and not output.endswith(".json"):
        raise SagelightError(
            f"output={output}: the figures are written as JSON. "
            f"Type output={Path(output).with_suffix('.json')}"
        )
    return None if output is None else Path(output)


def _beside(output: Path) -> Path:
    return output.with_name(f"{output.stem}.predictions.csv")


def _write(
    output: Path,
    settings: EvaluateSettings,
    index: ImageIndex,
    found: SplitPredictions,
    evaluation: Evaluation,
) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "bundle": settings.bundle,
        "data_root": index.name,
        "fingerprint": index.fingerprint,
        **figures_content(found, evaluation, settings.split),
    }
    write_json(output, content)
    columns = ["file", "label", "predicted", "confidence", "label_probability", "correct"]
    write_csv(_beside(output), columns, _table(found.rows, evaluation.labels))


def _table(rows: list[PredictionRow], labels: list[str]) -> Iterator[list[str]]:
    for row in rows:
        best = int(row.probabilities.argmax())
        yield [
            row.path,
            labels[row.target],
            labels[best],
            f"{row.probabilities[best]:.6f}",
            f"{row.probabilities[row.target]:.6f}",
            str(best == row.target).lower(),
        ]
