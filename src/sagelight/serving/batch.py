"""The `predict` verb: a photo or a folder of photos to a table of labels."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from sagelight.config.setting import setting
from sagelight.errors import DataError, SagelightError
from sagelight.progress import progress
from sagelight.serving.predictor import Predictor, ranked
from sagelight.serving.stream import Answer, answers, image_files, runs_at_once
from sagelight.serving.table import ENDINGS, report_unreadable, table_writer
from sagelight.serving.views import VIEWS

USAGE = "Type predict bundle=DIR input=FILE_OR_DIR output=FILE.csv"


@dataclass
class PredictSettings:
    bundle: str | None = setting(None, "Folder of the bundle: a run leaves RUN_DIR/bundle.")
    input: str | None = setting(None, "A photo, or a folder of photos at any depth.")
    output: str | None = setting(
        None, "FILE.csv or FILE.jsonl that is written; null prints CSV to standard output."
    )
    # Side by side, small batches are as fast as large ones, take less memory, and end together.
    batch_size: int = setting(8, "Photos to one run of the network.", least=1)
    top_k: int = setting(5, "Labels listed for each photo, best first.", least=1)
    tta: str = setting(
        "none",
        "Test-time augmentation, whose probabilities are averaged: flip sees each photo twice, crops ten times.",
        choices=tuple(VIEWS),
    )
    num_workers: int = setting(4, "Threads that decode photos ahead of the network.", least=1)


def run_predict(settings: PredictSettings) -> None:
    """Predict every photo of `settings.input`, in the order of file names.

    A photo that cannot be read gets no row; it is named on standard error and, beside an output
    file, in `<output stem>.errors.csv`. The output appears only when it is complete.

    Raises:
        SagelightError: a setting is missing or wrong, the bundle is unusable, or (DataError) no
            photo could be read.
    """
    if settings.bundle is None or settings.input is None:
        missing = "bundle" if settings.bundle is None else "input"
        raise SagelightError(f"predict needs {missing}. {USAGE}")
    output = _output(settings.output)
    root, files = _inputs(Path(settings.input))
    runs, threads = runs_at_once()
    predictor = Predictor.load(settings.bundle, threads, settings.tta)
    stream = answers(predictor, root, files, settings.batch_size, settings.num_workers, runs)
    bad: list[Answer] = []
    try:
        with table_writer(output, min(settings.top_k, len(predictor.labels))) as write:
            for answer in progress(stream, len(files), "predict"):
                if answer.probabilities is None:
                    bad.append(answer)
                else:
                    row = ranked(predictor.labels, answer.probabilities, settings.top_k)
                    write(answer.file, row)
            if len(bad) == len(files):
                raise DataError(
                    f"none of the {len(files)} files of input={settings.input} is a readable "
                    f"image: {bad[0].file}: {bad[0].reason}."
                )
    finally:
        report_unreadable(output, bad)
    if output is not None:
        print(f"{output}: {len(files) - len(bad)} photos", file=sys.stderr)


def _output(output: str | None) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    if path.suffix not in ENDINGS:
        raise SagelightError(
            f"output={output}: the ending says how to write it, and it must be .csv or .jsonl. "
            f"Type output={path.with_suffix('.csv')}"
        )
    return path


def _inputs(given: Path) -> tuple[Path, list[str]]:
    return (given.parent, [given.name]) if given.is_file() else (given, image_files(given))
