"""The file that AWS's Ray images run: the class that Ray replicates, called with requests as Ray calls it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from bundles import LABELS, photo
from sagelight.serving.predictor import Predictor

Ask = Callable[..., Response]


def encoded(colour: str) -> bytes:
    buffer = BytesIO()
    photo(colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def ask(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """A replica of the bundle's own copy, imported as the image imports it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("deployment", bundle / "deployment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert Path(module.inference.__file__) == bundle / "code" / "inference.py"
    photos = module.Photos()

    def asked(body: bytes, **headers: str) -> Response:
        lines = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": lines}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        return asyncio.run(photos(Request(scope, receive)))

    yield asked
    for name in ("inference", "preprocessing"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("colour", LABELS)
def test_a_replica_answers_as_the_predictor(bundle: Path, ask: Ask, colour: str) -> None:
    found = ask(encoded(colour), content_type="image/png", accept="application/json")
    [expected] = Predictor.load(bundle).predict([encoded(colour)])
    assert (found.status_code, found.media_type) == (200, "application/json")
    answer = json.loads(bytes(found.body))
    assert [(e["label"], e["confidence"]) for e in answer["top"]] == expected.top


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason"),
    [
        (415, b"[1]", {"content_type": "application/json"}, b"content type application/json is"),
        (
            400,
            b"no photo",
            {"content_type": "image/jpeg"},
            b"the body is no image that can be read",
        ),
        (406, encoded("red"), {"accept": "image/png"}, b"accept image/png is not supported; ask"),
        (200, encoded("red"), {"accept": "text/csv"}, b"red,0."),
    ],
)
def test_status_and_reason_are_the_handlers(
    ask: Ask, status: int, body: bytes, headers: dict[str, str], reason: bytes
) -> None:
    found = ask(body, **headers)
    assert found.status_code == status
    assert bytes(found.body).startswith(reason)
