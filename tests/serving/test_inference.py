"""SageMaker's four functions, as a bundle carries them: alone, and in agreement with the Predictor."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from bundles import LABELS, photo
from sagelight.serving import inference
from sagelight.serving.predictor import Predictor


def encoded(colour: str, image_format: str = "PNG") -> bytes:
    buffer = BytesIO()
    photo(colour).save(buffer, image_format)
    return buffer.getvalue()


def answer(bundle: Path, body: bytes, accept: str = "application/json") -> tuple[str, str]:
    model = inference.model_fn(str(bundle))
    prediction = inference.predict_fn(inference.input_fn(body, "image/png"), model)
    return inference.output_fn(prediction, accept)


def test_functions_have_exactly_the_parameters_of_the_contract() -> None:
    expected = {
        "model_fn": ["model_dir"],
        "input_fn": ["body", "content_type"],
        "predict_fn": ["data", "model"],
        "output_fn": ["prediction", "accept"],
    }
    for name, parameters in expected.items():
        signature = inspect.signature(getattr(inference, name))
        assert list(signature.parameters) == parameters
        assert all(p.default is inspect.Parameter.empty for p in signature.parameters.values())


@pytest.mark.parametrize("colour", LABELS)
def test_the_endpoint_answers_as_the_predictor(bundle: Path, colour: str) -> None:
    body, content_type = answer(bundle, encoded(colour))
    assert content_type == "application/json"
    found = json.loads(body)
    [expected] = Predictor.load(bundle).predict([encoded(colour)])
    assert (found["label"], found["confidence"]) == (colour, expected.confidence)
    assert [(e["label"], e["confidence"]) for e in found["top"]] == expected.top
    assert dict(zip(LABELS, found["probabilities"], strict=True)) == dict(expected.top)


def test_csv_is_one_line_of_labels_and_confidences(bundle: Path) -> None:
    body, content_type = answer(bundle, encoded("red"), "text/csv")
    assert content_type == "text/csv"
    [line] = body.splitlines()
    label, confidence, *rest = line.split(",")
    assert label == "red"
    assert 0.5 < float(confidence) < 1
    assert len(rest) == 4


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("text/csv, application/json;q=0.5", "application/json"),
        ("text/html, text/csv;q=0.9", "text/csv"),
        ("text/*", "text/csv"),
    ],
)
def test_accept_is_understood(bundle: Path, accept: str, content_type: str) -> None:
    assert answer(bundle, encoded("red"), accept)[1] == content_type


def test_another_accept_is_refused(bundle: Path) -> None:
    message = "^accept image/png is not supported; ask for application/json or text/csv$"
    with pytest.raises(inference.RequestError, match=message) as refused:
        answer(bundle, encoded("red"), "image/png")
    assert refused.value.status_code == 406


@pytest.mark.parametrize(
    ("content_type", "image_format"),
    [
        ("image/jpeg", "JPEG"),
        ("image/png", "PNG"),
        ("IMAGE/WEBP", "WEBP"),
        ("image/gif", "GIF"),
        ("image/bmp", "BMP"),
        ("image/tiff; q=1", "TIFF"),
        ("application/x-image", "PNG"),
        ("image/jpeg", "PNG"),
        ("application/octet-stream", "PNG"),
        ("", "PNG"),
        (None, "JPEG"),
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_images_are_decoded_whatever_they_are_called(
    content_type: str | None, image_format: str, kind: Any
) -> None:
    assert inference.input_fn(kind(encoded("red", image_format)), content_type).size == (20, 18)


@pytest.mark.parametrize("content_type", ["application/x-npy", "application/json", "text/csv"])
def test_other_content_is_refused(content_type: str) -> None:
    message = f"^content type {content_type} is not served; send the bytes of one image as image/"
    with pytest.raises(inference.RequestError, match=message) as refused:
        inference.input_fn(b"[1]", content_type)
    assert (refused.value.status_code, refused.value.phrase) == (415, "Unsupported Media Type")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no photo", "^the body is no image that can be read: not an image of a known format"),
        (encoded("red")[:99], "^the body is no image that can be read: "),
        (b"", "^the request has no body; send one image in it$"),
        (None, "^the request has no body"),
    ],
)
def test_a_body_that_is_no_image_is_refused(body: bytes | None, message: str) -> None:
    with pytest.raises(inference.RequestError, match=message) as refused:
        inference.input_fn(body, "image/jpeg")
    assert (refused.value.status_code, refused.value.phrase) == (400, "Bad Request")
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({}, 1),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}, 4),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}, 8),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "50"}, 1),
        ({"SAGEMAKER_TS_BATCH_SIZE": "1", "SAGEMAKER_MODEL_SERVER_WORKERS": "4"}, 8),
        ({"SAGEMAKER_TS_MAX_WORKERS": "3"}, 2),
    ],
)
def test_the_model_servers_processes_share_the_cores(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], threads: int
) -> None:
    monkeypatch.setattr(inference.os, "sched_getaffinity", lambda _: set(range(8)))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = inference.model_fn(str(bundle)).session.get_session_options()
    assert options.intra_op_num_threads == threads


def test_the_code_in_a_bundle_needs_nothing_of_sagelight(bundle: Path, tmp_path: Path) -> None:
    photo("green").save(tmp_path / "green.jpg")
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sagelight", "torch", "torchvision", "yaml", "onnx"):
            raise ImportError(name + " is not part of the endpoint")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(bundle / "code")!r})
import inference
model = inference.model_fn({str(bundle)!r})
data = inference.input_fn(bytearray(open("green.jpg", "rb").read()), "image/jpeg")
print(inference.output_fn(inference.predict_fn(data, model), "text/csv")[0], end="")
try:
    import sagelight
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True
    )
    line, refused = done.stdout.decode().splitlines()
    assert line.startswith("green,0.")
    assert refused == "sagelight is not part of the endpoint"
