"""The container of a SageMaker model as a process: model.tar.gz unpacked, our server on a free loopback port.

What differs from the service: a process instead of a container, and our server whatever the image is.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import sagelight
from sagelight.archives import unpack
from sagelight.cloud.answers import error_code
from sagelight.errors import ArchiveError
from sagelight.secrets import without_secrets

HOST = "127.0.0.1"
COMMAND = [sys.executable, "-m", "sagelight.container.serve", "serve"]
# The service gives a container this long between SIGTERM and SIGKILL.
GRACE_SECONDS = 30.0
PING_SECONDS = 2.0
INVOCATION_SECONDS = 60.0


class DownloadError(Exception):
    """A model.tar.gz that is not there or cannot be unpacked, as the service words it."""


@dataclass(frozen=True)
class Reply:
    """What the container answered to one request; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class ModelServer:
    """One running container.

    Attributes:
        url: where it answers.
        log_lines: what it has printed so far.
    """

    def __init__(
        self,
        model_data: str,
        environment: Mapping[str, str],
        scratch: Path,
        s3: Any,
        variables: Mapping[str, str],
        heard: Callable[[str], None] | None = None,
    ) -> None:
        """Fetch and unpack the model, and start the server; returns before it answers.

        Args:
            model_data: S3 URI of model.tar.gz.
            environment: the model's own variables.
            scratch: an empty folder of this container's own; what is /opt/ml lies below it.
            variables: with which AWS's clients reach the rehearsal only.
            heard: is told every line that the server prints.

        Raises:
            DownloadError: there is no such archive, or it cannot be unpacked.
        """
        base = scratch / "opt" / "ml"
        _unpack(s3, model_data, base / "model")
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}"
        self.log_lines: list[str] = []
        self._heard = heard
        self._process = subprocess.Popen(
            COMMAND,
            cwd=base,
            env=_variables(base, self._port, environment, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C at the rehearsal is the rehearsal's; it ends its containers itself.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether the process has gone."""
        return self._process.poll() is not None

    def ready(self) -> bool:
        """Whether /ping answers 200 in time."""
        try:
            return self.ask("GET", "/ping", seconds=PING_SECONDS).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self, seconds: float, stop: threading.Event | None = None) -> bool:
        """Wait until it is ready; False when it has ended, `stop` is set, or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.ended:
            if self.ready():
                return True
            if stop is not None and stop.is_set():
                return False
            time.sleep(0.05)
        return False

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = INVOCATION_SECONDS,
    ) -> Reply:
        """Send one request.

        Raises:
            OSError, http.client.HTTPException: no answer, or none in time.
        """
        connection = http.client.HTTPConnection(HOST, self._port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def close(self) -> None:
        """End it as the service does: SIGTERM, patience, SIGKILL."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        # Workers that outlive their parent go too.
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.log_lines.append(line.rstrip("\n"))
                if self._heard is not None:
                    self._heard(self.log_lines[-1])


def free_port() -> int:
    """A loopback port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _variables(
    base: Path, port: int, environment: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, str]:
    return {
        **without_secrets(os.environ),
        **variables,
        **environment,
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        # A container's address is its own; this machine's may be anybody's.
        "SAGELIGHT_HOST": HOST,
        "PYTHONUNBUFFERED": "1",
        # The package that runs here, however it was found.
        "PYTHONPATH": os.pathsep.join(
            [str(Path(sagelight.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        ).rstrip(os.pathsep),
    }


def _unpack(s3: Any, uri: str, target: Path) -> None:
    from botocore.exceptions import ClientError

    target.mkdir(parents=True)
    archive = target.parent / "model.tar.gz"
    place = urlparse(uri)
    try:
        s3.download_file(place.netloc, place.path.lstrip("/"), str(archive))
        unpack(archive, target)
    except ClientError as error:
        raise DownloadError(f"Could not find model data at {uri}. ({error_code(error)})") from error
    except (ArchiveError, OSError) as error:
        raise DownloadError(
            f"Failed to extract model data archive from URL {uri}. Please ensure that the object located at the URL "
            f"is a valid tar.gz archive ({error})."
        ) from error
    archive.unlink()
