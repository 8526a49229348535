"""The event loop around the application, from the first inference to the last answer."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from sagelight.serving.server.app import MOST_HEAD_BYTES, Application
from sagelight.serving.server.log import log
from sagelight.serving.server.protocol import guarded_protocol
from sagelight.serving.server.service import Service

# SageMaker kills a container 30 seconds after it has asked it to stop.
DRAIN_SECONDS = 25
# Longer than a proxy's own, so that it is the proxy who closes a connection that nobody uses.
KEEP_ALIVE_SECONDS = 75


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
        # An orchestrator may say SIGTERM twice; a person who presses Ctrl-C twice means it.
        self.force_exit = number == signal.SIGINT and self.should_exit
        self.should_exit = True


def run(app: Application, service: Service, listener: socket.socket) -> None:
    """Serve on a listening socket until a signal; a second one does not wait for requests in hand."""
    asyncio.run(_run(app, service, listener))


async def _run(app: Application, service: Service, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=guarded_protocol(service.settings.receive_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    service.health.probe()
    log("listening", port=listener.getsockname()[1], labels=len(service.predictor.labels))
    await Server(config).serve([listener])
    service.close()
    log("stopped")
