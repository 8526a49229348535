"""A bundle behind Ray Serve: AWS's Ray images run it when SM_RAYSERVE_APP=deployment:app says so.

A bundle carries a copy of this file beside bundle.json. What answers is its `code/inference.py`, in one replica a core;
the image adds SageMaker's routes, and hands on the body, Content-Type and Accept of a request.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).resolve().parent
if not TYPE_CHECKING and (FOLDER / "code").is_dir():
    sys.path.insert(0, str(FOLDER / "code"))
    import inference
else:
    from sagelight.serving import inference


class Photos:
    """One replica: the model of the bundle, and an answer to each request."""

    def __init__(self, folder: str = str(FOLDER)) -> None:
        self.model = inference.model_fn(folder)

    async def __call__(self, request: Request) -> Response:
        asked = request.headers
        try:
            image = inference.input_fn(await request.body(), asked.get("content-type"))
            prediction = inference.predict_fn(image, self.model)
            answer, kind = inference.output_fn(prediction, asked.get("accept", ""))
        except inference.RequestError as error:
            return Response(str(error), error.status_code, media_type="text/plain")
        return Response(answer, media_type=kind)


def __getattr__(name: str) -> Any:
    """Ray is needed for `app` alone."""
    if name != "app":
        raise AttributeError(name)
    from ray import serve  # type: ignore[import-not-found]

    replicas = len(os.sched_getaffinity(0))
    return serve.deployment(Photos).options(num_replicas=replicas).bind()
