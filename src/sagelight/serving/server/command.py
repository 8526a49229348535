"""The `serve` verb: a bundle on a port until it is told to stop."""

from __future__ import annotations

import os
import socket
import sys
from importlib.util import find_spec

from sagelight.errors import SagelightError
from sagelight.serving.server.settings import ServeSettings, shares

USAGE = "Type serve bundle=DIR port=8080"


def run_serve(settings: ServeSettings) -> None:
    """Serve `settings.bundle` until SIGTERM or Ctrl-C; what is in hand then is still answered.

    Raises:
        SagelightError: a setting is missing, the bundle is unusable, the port is taken, or what
            serving needs is not installed. Nothing listens before the bundle is read.
    """
    if settings.bundle is None:
        raise SagelightError(f"serve needs bundle. {USAGE}")
    _require_extra()
    from sagelight.serving.server.loading import load
    from sagelight.serving.server.routes import make_app
    from sagelight.serving.server.running import run
    from sagelight.serving.server.service import Service

    service = Service(*load(settings.bundle, shares(settings)), settings)
    app = make_app(service)
    with _listening(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        print(f"http://{name}:{port}/ answers until Ctrl-C", file=sys.stderr, flush=True)
        run(app, service, listener)


def _require_extra() -> None:
    for module in ("starlette", "uvicorn", "prometheus_client"):
        if find_spec(module) is None:
            raise SagelightError(
                f"{module} is not installed, and serving needs it. "
                "Type pip install 'sagelight[serve]'."
            )


def _listening(host: str, port: int) -> socket.socket:
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        # create_server adds the address to strerror, which is named here already.
        unknown = isinstance(error, socket.gaierror)
        reason = error.strerror if unknown else os.strerror(error.errno or 0)
        raise SagelightError(
            f"port={port} on host={host} cannot be opened: {reason}. Type port=0 for any free one."
        ) from error
