"""The event loop around the application, from the first inference to the last answer."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from sagelight.serving.predictor import Predictor
from sagelight.serving.server.app import make_app
from sagelight.serving.server.log import log
from sagelight.serving.server.service import Service
from sagelight.serving.server.settings import ServeSettings

# SageMaker kills a container 30 seconds after it has asked it to stop.
DRAIN_SECONDS = 25


class Server(uvicorn.Server):
    """uvicorn's server, which ends with 0 after a signal, because that is how it is meant to end."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        log("stopping", signal=signal.Signals(number).name, again=self.should_exit)
        self.force_exit = self.should_exit
        self.should_exit = True


def run(predictor: Predictor, settings: ServeSettings, listener: socket.socket) -> None:
    """Serve on a listening socket until a signal; a second one does not wait for requests in hand."""
    asyncio.run(_run(predictor, settings, listener))


async def _run(predictor: Predictor, settings: ServeSettings, listener: socket.socket) -> None:
    service = Service(predictor, settings)
    config = uvicorn.Config(
        make_app(service),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=16_384,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    service.health.probe()
    log("listening", port=listener.getsockname()[1], labels=len(predictor.labels))
    await Server(config).serve([listener])
    service.close()
    log("stopped")
