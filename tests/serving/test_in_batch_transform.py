"""What differs in the containers of batch transform jobs, where one refused photo would fail the whole job."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from bundles import photo
from sagelight.container.serve import container_settings
from sagelight.serving.inference import (
    CSV,
    JSON,
    RequestError,
    input_fn,
    model_fn,
    output_fn,
    predict_fn,
)
from sagelight.serving.server.settings import ServeSettings

UNREADABLE = "not an image of a known format"


def test_bytes_that_are_no_photo_are_an_answer(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_fn(str(bundle))
    with pytest.raises(RequestError, match=UNREADABLE):
        input_fn(b"no photo", "application/x-image")
    monkeypatch.setenv("SAGEMAKER_BATCH", "true")
    prediction = predict_fn(input_fn(b"no photo", "application/x-image"), model)
    assert list(prediction) == ["error"]
    assert prediction["error"].startswith(UNREADABLE)
    assert json.loads(output_fn(prediction, JSON)[0]) == prediction
    assert output_fn(prediction, CSV)[0].startswith(f',"{UNREADABLE}')
    packed = io.BytesIO()
    photo("red").save(packed, "PNG")
    assert predict_fn(input_fn(packed.getvalue(), "application/x-image"), model)["label"] == "red"
    # What is wrong with the request, and not with the photo, is wrong here too.
    with pytest.raises(RequestError, match="is not served"):
        input_fn(packed.getvalue(), "text/csv")


def test_the_container_takes_what_the_job_may_send() -> None:
    usual = container_settings({}, [])
    assert (usual.tolerant, usual.max_megapixels) == (False, ServeSettings().max_megapixels)
    told = {"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "40"}
    settings = container_settings(told, ["serve"])
    assert settings.tolerant
    assert settings.max_body_bytes == 40 * 2**20
    # 120 million pixels, of which those with 16 bits a sample count three times.
    assert settings.max_megapixels == 360
    own = container_settings({**told, "SAGELIGHT_MAX_MEGAPIXELS": "70"}, ["serve"])
    assert own.max_megapixels == 70
