"""What a SageMaker endpoint runs: a bundle carries a copy of this file as `code/inference.py`.

There it needs Pillow, numpy and ONNX Runtime only. The parameters of the four functions are part of
SageMaker's contract: with one more, its toolkit passes other arguments.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

if __package__:
    from sagelight.bundle.preprocessing import Preprocessing, decode
else:
    from preprocessing import Preprocessing, decode  # type: ignore[import-not-found,no-redef]

CONTENT_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/gif",
    "image/bmp",
    "image/tiff",
    "application/x-image",
)
JSON, CSV = "application/json", "text/csv"
TOP_K = 5


@dataclass(frozen=True)
class Model:
    labels: list[str]
    preprocessing: Preprocessing
    session: onnxruntime.InferenceSession


def model_fn(model_dir: str) -> Model:
    """Load the bundle that SageMaker unpacked into `model_dir`."""
    folder = Path(model_dir)
    spec = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    return Model(spec["labels"], Preprocessing.from_dict(spec["preprocessing"]), session)


def input_fn(body: bytes | bytearray, content_type: str) -> Image.Image:
    """Decode the image in a request.

    Raises:
        ValueError: a content type that is no image's, or bytes that are no image.
    """
    kind = _bare(content_type)
    if kind not in CONTENT_TYPES:
        raise ValueError(
            f"content type {content_type} is not supported; send one image as one of "
            f"{', '.join(CONTENT_TYPES)}"
        )
    return decode(bytes(body))


def predict_fn(data: Image.Image, model: Model) -> dict[str, Any]:
    """The first label, the best five, and the probabilities in the order of bundle.json's labels."""
    pixels = model.preprocessing(data)[np.newaxis]
    [row] = model.session.run(["probabilities"], {"images": pixels})[0]
    return answer(model.labels, row, TOP_K)


def answer(labels: list[str], row: NDArray[np.float32], top_k: int) -> dict[str, Any]:
    """The answer to one image, of whose label i `row` (C,) holds the probability."""
    best = np.argsort(-row, kind="stable")[:top_k]
    top = [{"label": labels[index], "confidence": float(row[index])} for index in best]
    return {**top[0], "top": top, "probabilities": row.tolist()}


def output_fn(prediction: dict[str, Any], accept: str) -> tuple[str, str]:
    """The answer and its content type: JSON, or one CSV line of label, confidence, label, ...

    Raises:
        ValueError: `accept` names neither.
    """
    wanted = [_bare(kind) for kind in accept.split(",")]
    if {JSON, "application/*", "*/*", ""} & set(wanted):
        return json.dumps(prediction), JSON
    if {CSV, "text/*"} & set(wanted):
        line = io.StringIO()
        cells = [value for entry in prediction["top"] for value in entry.values()]
        csv.writer(line, lineterminator="\n").writerow(cells)
        return line.getvalue(), CSV
    raise ValueError(f"accept {accept} is not supported; ask for {JSON} or {CSV}")


def _bare(content_type: str) -> str:
    """A media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()
