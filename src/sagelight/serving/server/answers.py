"""Responses, and how what went wrong becomes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
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


async def refused(request: Request, error: Exception) -> Response:
    """The answer to a Refusal, or to a path or method that there is not."""
    headers: dict[str, str] = {}
    # Who waits for leave to send a body will not send it now: the next bytes are another request.
    if "expect" in request.headers:
        headers["Connection"] = "close"
    if isinstance(error, Refusal):
        return error_response(error.status, str(error), {**headers, **error.headers})
    assert isinstance(error, HTTPException)
    reason = {
        HTTPStatus.NOT_FOUND: "no such path. Photos go to POST /invocations; GET / is a page to try.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible here.",
    }.get(HTTPStatus(error.status_code), error.detail)
    return error_response(error.status_code, reason, {**headers, **(error.headers or {})})
