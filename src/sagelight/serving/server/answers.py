"""Responses, and how a refusal becomes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sagelight.serving.inference import JSON
from sagelight.serving.server.refusal import Refusal


def json_response(
    content: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(json.dumps(content), status, headers, JSON)


def error_response(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_response({"error": reason}, status, headers)


def refused(request: Request, refusal: Refusal) -> Response:
    headers = dict(refusal.headers)
    if "expect" in request.headers:
        # Who waits for leave to send a body may keep it now: the next bytes could be another request.
        headers["Connection"] = "close"
    return error_response(refusal.status, str(refusal), headers)
