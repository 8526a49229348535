"""The routes of the server, and what is the same for all of them: ids, times, logs, failures in words."""

from __future__ import annotations

import asyncio
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sagelight.serving.server.answers import error_response, json_response, refused
from sagelight.serving.server.batching import ModelFailure
from sagelight.serving.server.bodies import Bodies, Gone
from sagelight.serving.server.invocations import Invocations
from sagelight.serving.server.log import log
from sagelight.serving.server.metrics import CONTENT_TYPE
from sagelight.serving.server.refusal import Refusal
from sagelight.serving.server.service import Service

Handler = Callable[[Request], Awaitable[Response]]
ID_HEADERS = ("x-amzn-sagemaker-inference-id", "x-request-id")
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def make_app(service: Service) -> Starlette:
    """The ASGI application around a service."""
    settings = service.settings
    invocations = Invocations(service, Bodies(settings.max_body_bytes, settings.receive_seconds))

    async def ping(request: Request) -> Response:
        if service.health.reason:
            service.health.probe()
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, service.health.reason)
        return json_response({"status": "healthy"})

    async def execution_parameters(request: Request) -> Response:
        return json_response(
            {
                "MaxConcurrentTransforms": min(settings.queue, 2 * settings.batch_size),
                "BatchStrategy": "SINGLE_RECORD",
                "MaxPayloadInMB": max(1, settings.max_body_bytes // 2**20),
            }
        )

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    routes: dict[str, tuple[Handler, str]] = {
        "/ping": (ping, "GET"),
        "/invocations": (invocations, "POST"),
        "/execution-parameters": (execution_parameters, "GET"),
        "/metrics": (metrics, "GET"),
    }
    app = Starlette(
        routes=[
            Route(path, _watched(path, handler, service), methods=[method])
            for path, (handler, method) in routes.items()
        ],
        exception_handlers={HTTPException: refused},
    )
    app.router.redirect_slashes = False
    return app


def _watched(route: str, handler: Handler, service: Service) -> Handler:
    """A handler that always answers, in time, and says so in log and metrics."""

    async def endpoint(request: Request) -> Response:
        start = time.perf_counter()
        request_id = _request_id(request)
        response = await _answered(handler, request, request_id, service)
        response.headers["X-Request-Id"] = request_id
        seconds = time.perf_counter() - start
        service.metrics.requests.labels(route, response.status_code).inc()
        service.metrics.seconds.labels(route).observe(seconds)
        if route == "/invocations":
            log(
                "request",
                id=request_id,
                path=route,
                status=response.status_code,
                milliseconds=round(seconds * 1000, 2),
            )
        return response

    return endpoint


async def _answered(
    handler: Handler, request: Request, request_id: str, service: Service
) -> Response:
    seconds = service.settings.timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            return await handler(request)
    except Refusal as refusal:
        return await refused(request, refusal)
    except TimeoutError:
        return error_response(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"no answer within {seconds:g} seconds. Try again later.",
            {"Retry-After": "5"},
        )
    except Gone:
        return Response(status_code=499)
    except ModelFailure as failure:
        log("model failure", id=request_id, reason=str(failure))
        reason = f"the network failed: {failure}"
        return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, reason)
    except Exception:
        log("fault", id=request_id, traceback=traceback.format_exc())
        reason = f"a fault of the server's own; its log has more under {request_id}."
        return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, reason)


def _request_id(request: Request) -> str:
    for name in ID_HEADERS:
        given = request.headers.get(name, "")
        if SANE_ID.fullmatch(given):
            return given
    return uuid.uuid4().hex
