"""A bundle under AWS's own inference toolkits: TorchServe's loader and the toolkit's handler run its code/inference.py."""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import LABELS, make_bundle, photo
from compat.environment import NEEDS_TOOLKITS, TOOLKITS, toolkit
from sagelight.serving.predictor import Predictor

pytestmark = NEEDS_TOOLKITS
JSON = {"Accept": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    phrase: str
    type: str
    body: str


class Touch:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def encoded(colour: str, image_format: str) -> bytes:
    buffer = BytesIO()
    photo(colour, seed=3).save(buffer, image_format)
    return buffer.getvalue()


def npy(path: Path) -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.array([Touch(path)], dtype=object))
    return buffer.getvalue()


JPEG = encoded("red", "JPEG")
READ = {
    "jpeg": ("image/jpeg", JPEG),
    "jpeg with parameters": ("Image/JPEG; charset=binary; q=1", JPEG),
    "png": ("image/png", encoded("green", "PNG")),
    "png called jpeg": ("image/jpeg", encoded("blue", "PNG")),
    "png of no special type": ("application/x-image", encoded("blue", "PNG")),
    "bytes": ("application/octet-stream", JPEG),
    "no type": (None, JPEG),
    "webp": ("image/webp", encoded("blue", "WEBP")),
    "gif": ("image/gif", encoded("red", "GIF")),
    "bmp": ("image/bmp", encoded("red", "BMP")),
    "tiff": ("image/tiff", encoded("green", "TIFF")),
}
ACCEPTS = {
    "none": ({}, "application/json"),
    "any": ({"Accept": "*/*"}, "application/json"),
    "in small letters": ({"accept": "text/csv"}, "text/csv"),
    "csv with parameters": ({"Accept": "text/csv; header=absent"}, "text/csv"),
    "a browser's": ({"Accept": "text/html, application/json;q=0.9"}, "application/json"),
}
REFUSED = {
    "another accept": (406, "image/jpeg", JPEG, "accept image/png is not supported; ask for"),
    "json": (415, "application/json", b"[[1, 2]]", "content type application/json is not served"),
    "csv": (415, "text/csv; charset=utf-8", b"1,2", "content type text/csv is not served; send"),
    "svg": (400, "image/svg+xml", b"<svg/>", "the body is no image that can be read: not an"),
    "no image": (400, "image/jpeg", b"no photo", "the body is no image that can be read: not an"),
    "truncated": (400, "image/jpeg", JPEG[:400], "the body is no image that can be read: "),
    "empty": (400, "image/png", b"", "the request has no body; send one image in it"),
    "another field": (400, "image/png", JPEG, "the request has no body; send one image in it"),
    "npy": (415, "application/x-npy", None, "content type application/x-npy is not served"),
    "npz": (415, "application/x-npz", None, "content type application/x-npz is not served"),
    "npy called png": (400, "image/png", None, "the body is no image that can be read: not an"),
}
PHRASES = {400: "Bad Request", 406: "Not Acceptable", 415: "Unsupported Media Type"}


@pytest.fixture(scope="module", params=[False, True], ids=["released", "carried"])
def answered(request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every request of this file, answered by one start of the toolkit."""
    folder = tmp_path_factory.mktemp("toolkit")
    bundle, touched = make_bundle(folder / "bundle"), folder / "touched"
    asked = {f"read {name}": asking(kind, body) for name, (kind, body) in READ.items()}
    for name, (headers, _) in ACCEPTS.items():
        asked[f"accept {name}"] = asking("image/jpeg", JPEG, headers)
    for name, (_, kind, body, _) in REFUSED.items():
        asked[f"refused {name}"] = asking(kind, npy(touched) if body is None else body)
    asked["refused another accept"] = asking("image/jpeg", JPEG, {"Accept": "image/png"})
    asked["refused another field"]["name"] = "data"
    (folder / "asked.json").write_text(json.dumps(list(asked.values())))
    words = [str(bundle), str(folder / "asked.json"), str(folder / "answers.json")]
    where = toolkit("toolkit_answers.py", *words, carried=request.param)
    assert where.startswith(str(TOOLKITS / "carried")) == request.param
    answers = json.loads((folder / "answers.json").read_text())
    found = {name: Answer(**answer) for name, answer in zip(asked, answers, strict=True)}
    return {**found, "bundle": bundle, "touched": touched}


def asking(kind: str | None, body: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
    headers = JSON if headers is None else headers
    typed = headers if kind is None else {**headers, "Content-Type": kind}
    return {"headers": typed, "name": "body", "body": base64.b64encode(body).decode()}


@pytest.mark.parametrize("name", READ)
def test_probabilities_are_the_predictors(answered: dict[str, Any], name: str) -> None:
    predictor = Predictor.load(answered["bundle"])
    pixels = predictor.spec.preprocessing(READ[name][1])
    [expected] = predictor.probabilities(pixels[np.newaxis])
    answer = answered[f"read {name}"]
    assert (answer.status, answer.type) == (200, "application/json")
    found = json.loads(answer.body)
    assert found["probabilities"] == pytest.approx(expected, abs=1e-5)
    assert found["label"] == LABELS[int(expected.argmax())]
    assert found["top"][0] == {"label": found["label"], "confidence": found["confidence"]}


@pytest.mark.parametrize("name", ACCEPTS)
def test_the_answer_is_what_was_asked_for(answered: dict[str, Any], name: str) -> None:
    answer = answered[f"accept {name}"]
    assert (answer.status, answer.type) == (200, ACCEPTS[name][1])
    if answer.type == "text/csv":
        [row] = csv.reader(answer.body.splitlines())
        label, confidence = row[0], float(row[1])
    else:
        found = json.loads(answer.body)
        label, confidence = found["label"], found["confidence"]
    [expected] = Predictor.load(answered["bundle"]).predict([JPEG])
    assert (label, confidence) == (expected.label, pytest.approx(expected.confidence, abs=1e-5))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_answered_with_the_reason(answered: dict[str, Any], name: str) -> None:
    status, _, _, reason = REFUSED[name]
    answer = answered[f"refused {name}"]
    assert (answer.status, answer.phrase) == (status, PHRASES[status])
    assert answer.body.startswith(reason)


def test_no_pickle_of_a_request_is_opened(answered: dict[str, Any], tmp_path: Path) -> None:
    assert not answered["touched"].exists()
    # What was sent would have: the toolkit's own decoder reads arrays like this.
    np.load(BytesIO(npy(tmp_path / "touched")), allow_pickle=True)
    assert (tmp_path / "touched").exists()
