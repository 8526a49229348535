"""What a SageMaker endpoint runs: a bundle carries a copy of this file as `code/inference.py`.

There it needs Pillow, numpy and ONNX Runtime only. The parameters of the four functions are part of
SageMaker's contract: with one more, its toolkit passes other arguments.
"""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

# ONNX Runtime reads it when it is loaded; an endpoint reports to nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

if __package__:
    from sagelight.bundle.preprocessing import Preprocessing, UnreadableImageError, decode
else:
    from preprocessing import (  # type: ignore[import-not-found,no-redef]
        Preprocessing,
        UnreadableImageError,
        decode,
    )

try:
    # SageMaker's toolkit answers these with their own status, and any other error with 500.
    from sagemaker_inference.errors import (  # type: ignore[import-not-found]
        BaseInferenceToolkitError,
    )
except ImportError:

    class BaseInferenceToolkitError(Exception):  # type: ignore[no-redef]
        """The toolkit's error, where there is no toolkit."""

        def __init__(self, status_code: int, message: str, phrase: str) -> None:
            super().__init__(status_code, message, phrase)
            self.status_code, self.message, self.phrase = status_code, message, phrase


# Beside image/...: bytes of any kind, for they say what they are, and a header is often wrong.
OTHER_CONTENT_TYPES = ("application/x-image", "application/octet-stream", "")
JSON, CSV = "application/json", "text/csv"
TOP_K = 5
# SageMaker sets it to true in the containers of batch transform jobs.
BATCH = "SAGEMAKER_BATCH"


class RequestError(BaseInferenceToolkitError, ValueError):  # type: ignore[misc]
    """A request that would be refused again.

    Attributes:
        status_code: of the answer, 400 to 499.
        message: why, in a sentence.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(status.value, message, status.phrase)

    def __str__(self) -> str:
        return str(self.message)


@dataclass(frozen=True)
class Unreadable:
    """Bytes that are no image, where that is an answer."""

    reason: str


@dataclass(frozen=True)
class Model:
    labels: list[str]
    preprocessing: Preprocessing
    session: onnxruntime.InferenceSession


def model_fn(model_dir: str) -> Model:
    """Load the bundle that SageMaker unpacked into `model_dir`."""
    folder = Path(model_dir)
    spec = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    return Model(spec["labels"], Preprocessing.from_dict(spec["preprocessing"]), session)


def input_fn(
    body: bytes | bytearray | str | None, content_type: str | None
) -> Image.Image | Unreadable:
    """Decode the image in a request; whichever image type is declared, its bytes tell the format.

    In a batch transform job, which one refused photo would fail as a whole, bytes that are no image are an answer.

    Raises:
        RequestError: a content type that is no image's (415), or bytes that are no image (400).
    """
    kind = _bare(content_type or "")
    if not kind.startswith("image/") and kind not in OTHER_CONTENT_TYPES:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content type {kind} is not served; send the bytes of one image as image/jpeg or the like",
        )
    if not isinstance(body, bytes | bytearray) or not body:
        raise RequestError(HTTPStatus.BAD_REQUEST, "the request has no body; send one image in it")
    try:
        return decode(bytes(body))
    except UnreadableImageError as error:
        if os.environ.get(BATCH) == "true":
            return Unreadable(str(error))
        message = f"the body is no image that can be read: {error}"
        raise RequestError(HTTPStatus.BAD_REQUEST, message) from None


def predict_fn(data: Image.Image | Unreadable, model: Model) -> dict[str, Any]:
    """The first label, the best five, and the probabilities in the order of bundle.json's labels."""
    if isinstance(data, Unreadable):
        return {"error": data.reason}
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

    What is no photo has no label: the line begins with an empty one, and the reason.

    Raises:
        RequestError: `accept` names neither (406).
    """
    wanted = [_bare(kind) for kind in accept.split(",")]
    if {JSON, "application/*", "*/*", ""} & set(wanted):
        return json.dumps(prediction), JSON
    if {CSV, "text/*"} & set(wanted):
        line = io.StringIO()
        top = prediction.get("top", [{"label": "", "error": prediction.get("error")}])
        cells = [value for entry in top for value in entry.values()]
        csv.writer(line, lineterminator="\n").writerow(cells)
        return line.getvalue(), CSV
    message = f"accept {accept} is not supported; ask for {JSON} or {CSV}"
    raise RequestError(HTTPStatus.NOT_ACCEPTABLE, message)


def _bare(content_type: str) -> str:
    """A media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def _threads() -> int:
    """Threads of one inference: the cores, divided among the processes that the model server starts."""
    cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS") or cores
    if any(name.startswith("SAGEMAKER_TS_") for name in os.environ):
        # The toolkit's defaults for TorchServe then replace one process a core.
        asked = os.environ.get("SAGEMAKER_TS_MAX_WORKERS") or 1
    return max(1, cores // int(asked))
