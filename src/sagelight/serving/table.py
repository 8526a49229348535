"""The table that `predict` and `transform` write: one row a photo, and beside it the photos that have none."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sagelight.files import atomic, sweep_beside, write_csv
from sagelight.serving.predictor import Prediction
from sagelight.serving.stream import Answer

Writer = Callable[[str, Prediction], None]
ENDINGS = (".csv", ".jsonl")
MOST_LISTED = 20


@contextmanager
def table_writer(output: Path | None, top_k: int) -> Iterator[Writer]:
    """Takes a file's name and prediction for every row; the table appears when the block ends well.

    Args:
        output: FILE.csv or FILE.jsonl; None writes CSV to standard output.
        top_k: labels of each row, best first.
    """
    if output is None:
        yield _csv_writer(sys.stdout, top_k)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    sweep_beside(output)
    with atomic(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield _csv_writer(text, top_k) if output.suffix == ".csv" else _jsonl_writer(text)
        text.detach()


def report_unreadable(
    output: Path | None, bad: Sequence[Answer], folder: str | None = None
) -> None:
    """Name the files without a row on standard error, and all of them in `<output stem>.errors.csv`.

    Args:
        folder: where a person will find that file, if not beside `output`.
    """
    errors = None if output is None else errors_beside(output)
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
        place = f"{folder}/{errors.name}" if folder else errors
        print(f"All of them are in {place}", file=sys.stderr)


def errors_beside(output: Path) -> Path:
    return output.with_name(f"{output.stem}.errors.csv")


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
