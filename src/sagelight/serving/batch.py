"""The `predict` verb: a photo or a folder of photos to a table of labels."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sagelight.config.setting import setting
from sagelight.errors import DataError, SagelightError
from sagelight.files import atomic, write_csv
from sagelight.progress import progress
from sagelight.serving.predictor import Prediction, Predictor, ranked
from sagelight.serving.stream import Answer, answers, image_files
from sagelight.serving.views import VIEWS

Writer = Callable[[str, Prediction], None]
MOST_LISTED = 20
USAGE = "Type predict bundle=DIR input=FILE_OR_DIR output=FILE.csv"


@dataclass
class PredictSettings:
    bundle: str | None = setting(None, "Folder of the bundle: a run leaves RUN_DIR/bundle.")
    input: str | None = setting(None, "A photo, or a folder of photos at any depth.")
    output: str | None = setting(
        None, "FILE.csv or FILE.jsonl that is written; null prints CSV to standard output."
    )
    batch_size: int = setting(32, "Photos to one run of the network.", least=1)
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
    predictor = Predictor.load(settings.bundle, tta=settings.tta)
    stream = answers(predictor, root, files, settings.batch_size, settings.num_workers)
    bad: list[Answer] = []
    try:
        with _writer(output, min(settings.top_k, len(predictor.labels))) as write:
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
        _report(output, bad)
    if output is not None:
        print(f"{output}: {len(files) - len(bad)} photos", file=sys.stderr)


def _output(output: str | None) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    if path.suffix not in (".csv", ".jsonl"):
        raise SagelightError(
            f"output={output}: the ending says how to write it, and it must be .csv or .jsonl. "
            f"Type output={path.with_suffix('.csv')}"
        )
    return path


def _inputs(given: Path) -> tuple[Path, list[str]]:
    return (given.parent, [given.name]) if given.is_file() else (given, image_files(given))


@contextmanager
def _writer(output: Path | None, top_k: int) -> Iterator[Writer]:
    if output is None:
        yield _csv_writer(sys.stdout, top_k)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield _csv_writer(text, top_k) if output.suffix == ".csv" else _jsonl_writer(text)
        text.detach()


def _csv_writer(file: TextIO, top_k: int) -> Writer:
    more = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("label", "confidence")]
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["file", "label", "confidence", *more])

    def write(name: str, prediction: Prediction) -> None:
        pairs = [(label, f"{confidence:.6f}") for label, confidence in prediction.top]
        table.writerow([name, *(value for pair in pairs for value in pair)])

    return write


def _jsonl_writer(file: TextIO) -> Writer:
    def write(name: str, prediction: Prediction) -> None:
        top = [{"label": label, "confidence": round(p, 6)} for label, p in prediction.top]
        line = {"file": name, **top[0], "top": top}
        file.write(json.dumps(line, ensure_ascii=False) + "\n")

    return write


def _report(output: Path | None, bad: list[Answer]) -> None:
    errors = None if output is None else output.with_name(f"{output.stem}.errors.csv")
    if errors is not None:
        errors.unlink(missing_ok=True)
    if not bad:
        return
    print(f"{len(bad)} unreadable files have no row:", file=sys.stderr)
    for answer in bad[:MOST_LISTED]:
        print(f"  {answer.file}: {answer.reason}", file=sys.stderr)
    if len(bad) > MOST_LISTED:
        print(f"  and {len(bad) - MOST_LISTED} more", file=sys.stderr)
    if errors is not None:
        write_csv(errors, ["file", "reason"], ((answer.file, answer.reason) for answer in bad))
        print(f"All of them are in {errors}", file=sys.stderr)
