"""The ASGI application: routes, and what is the same for all of them: ids, times, logs, failures in words."""

from __future__ import annotations

import asyncio
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sagelight.callers import is_stranger
from sagelight.serving.server.answers import error_response, refused
from sagelight.serving.server.batching import ModelFailure
from sagelight.serving.server.bodies import Gone
from sagelight.serving.server.log import log
from sagelight.serving.server.metrics import Metrics
from sagelight.serving.server.refusal import Refusal

Handler = Callable[[Request], Awaitable[Response]]
ID_HEADERS = ("x-amzn-sagemaker-inference-id", "x-request-id")
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# Nobody hears this answer; it is for log and metrics.
GONE = 499
MOST_HEAD_BYTES = 16_384
MOST_FIELDS = 100


@dataclass(frozen=True)
class Route:
    """What answers a path, to which method; `logged` also when all is well."""

    handler: Handler
    method: str = "GET"
    logged: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


class Application:
    """Answers every request, within `seconds`, and says so in log and metrics."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        metrics: Metrics,
        seconds: float,
        names: Sequence[str] | None = None,
    ) -> None:
        """
        Args:
            names: where only this machine is to be answered, the names that it has besides localhost.
        """
        self._routes = routes
        self._metrics = metrics
        self._seconds = seconds
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        request = Request(scope, receive)
        request.state.id = _request_id(request)
        request.state.facts = {}
        response = await self._answer(request)
        response.headers["X-Request-Id"] = request.state.id
        # An answer is what it says it is, also to a browser that would rather guess.
        response.headers["X-Content-Type-Options"] = "nosniff"
        await response(scope, receive, send)
        self._note(request, response.status_code, time.perf_counter() - start)

    async def _answer(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._handler(request)(request)
        except Refusal as refusal:
            return refused(request, refusal)
        except Gone:
            return Response(status_code=GONE)
        except TimeoutError:
            reason = f"no answer within {self._seconds:g} seconds. Try again later."
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, reason, {"Retry-After": "5"})
        except ModelFailure as failure:
            return error_response(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"the network failed: {failure}"
            )
        except Exception:
            log("fault", id=request.state.id, traceback=traceback.format_exc())
            reason = f"a fault of the server's own; its log says more under {request.state.id}."
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, reason)

    def _handler(self, request: Request) -> Handler:
        _check_head(request.scope)
        if self._names is not None:
            _check_caller(request, self._names)
        path = request.scope["path"]
        route = self._routes.get(path)
        if route is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "no such path. Photos go to POST /invocations; GET / is a page to try it.",
            )
        if request.method not in route.methods:
            allowed = ", ".join(route.methods)
            reason = f"{path} answers {allowed}, not {request.method[:20]}."
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, Allow=allowed)
        return route.handler

    def _note(self, request: Request, status: int, seconds: float) -> None:
        path = request.scope["path"]
        route = self._routes.get(path)
        name = path if route else "other"
        self._metrics.requests.labels(name, status).inc()
        self._metrics.seconds.labels(name).observe(seconds)
        if status >= HTTPStatus.BAD_REQUEST or (route and route.logged):
            log(
                "request",
                id=request.state.id,
                method=request.method[:20],
                path=path[:200],
                status=status,
                milliseconds=round(seconds * 1000, 2),
                **request.state.facts,
            )


def _check_head(scope: Scope) -> None:
    """Refuse what h11 lets through: heads that came in one piece are never too long for it."""
    fields = scope["headers"]
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) for name, value in fields)
    if size > MOST_HEAD_BYTES or len(fields) > MOST_FIELDS:
        reason = f"the headers are more than {MOST_HEAD_BYTES:,} bytes or {MOST_FIELDS} fields."
        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason, Connection="close")
    names = {name for name, _ in fields}
    if {b"transfer-encoding", b"content-length"} <= names:
        # A proxy may have believed the other one, and then takes the rest for a request of somebody else.
        reason = "Content-Length and Transfer-Encoding contradict each other. Send one of them."
        raise Refusal(HTTPStatus.BAD_REQUEST, reason, Connection="close")
    if scope["http_version"] not in ("1.0", "1.1"):
        reason = f"HTTP/{scope['http_version']} is not spoken here; HTTP/1.1 is."
        raise Refusal(HTTPStatus.BAD_REQUEST, reason, Connection="close")


def _check_caller(request: Request, names: Sequence[str]) -> None:
    host, origin = request.headers.get("host", ""), request.headers.get("origin", "")
    if is_stranger(host, origin, names):
        reason = (
            f"this server answers its own machine, and not a page of {(origin or host)[:200]}. "
            "If a proxy asks under that name, start the server with names=[NAME,...]."
        )
        raise Refusal(HTTPStatus.FORBIDDEN, reason)


def _request_id(request: Request) -> str:
    for name in ID_HEADERS:
        given = request.headers.get(name, "")
        if SANE_ID.fullmatch(given):
            return given
    return uuid.uuid4().hex
