"""Which path is answered by what."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from sagelight.callers import is_loopback
from sagelight.serving.server.answers import error_response, json_response
from sagelight.serving.server.app import Application, Route
from sagelight.serving.server.bodies import Bodies
from sagelight.serving.server.explain import Explanations
from sagelight.serving.server.invocations import Invocations
from sagelight.serving.server.metrics import CONTENT_TYPE
from sagelight.serving.server.page import Page
from sagelight.serving.server.remote import Fetcher
from sagelight.serving.server.service import Service
from sagelight.serving.server.settings import shares

# SageMaker's limit on the product of payload and concurrency of a batch transform.
MOST_MB_IN_FLIGHT = 100


def make_app(service: Service) -> Application:
    """The application around a service.

    Raises:
        ConfigError: `url_hosts` holds something other than hosts.
    """
    settings = service.settings
    bodies = Bodies(settings.max_body_bytes, settings.receive_seconds)
    fetcher = Fetcher(settings.url_hosts, settings.receive_seconds)
    routes = {
        "/ping": Route(_Ping(service)),
        "/invocations": Route(Invocations(service, bodies, fetcher), "POST", logged=True),
        "/execution-parameters": Route(_ExecutionParameters(service)),
        "/metrics": Route(_Scrape(service)),
        "/": Route(Page(service), logged=True),
    }
    if settings.explain:
        routes["/explain"] = Route(Explanations(service, bodies), "POST", logged=True)
    names = settings.names if is_loopback(settings.host) else None
    return Application(routes, service.metrics, settings.timeout_seconds, names)


class _Ping:
    """Never waits for the network: SageMaker gives it two seconds."""

    def __init__(self, service: Service) -> None:
        self._health = service.health

    async def __call__(self, request: Request) -> Response:
        if self._health.reason:
            self._health.probe()
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, self._health.reason)
        return json_response({"status": "healthy"})


class _ExecutionParameters:
    """What a batch transform asks before it begins."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        payload = min(MOST_MB_IN_FLIGHT, max(1, settings.max_body_bytes // 2**20))
        # As many as keep the network busy while the next batch is decoded.
        wanted = min(settings.queue, 2 * settings.batch_size * shares(settings).workers)
        self._answer = {
            "MaxConcurrentTransforms": max(1, min(wanted, MOST_MB_IN_FLIGHT // payload)),
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": payload,
        }

    async def __call__(self, request: Request) -> Response:
        return json_response(self._answer)


class _Scrape:
    def __init__(self, service: Service) -> None:
        self._metrics = service.metrics

    async def __call__(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)
