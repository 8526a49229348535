"""SageMaker, S3 and CloudWatch Logs on a loopback port, until it is closed."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

from sagelight.callers import is_stranger
from sagelight.errors import CloudError
from sagelight.rehearsal.program import load_programs
from sagelight.rehearsal.refusal import Refusal
from sagelight.rehearsal.service import SageMaker

HOST = "127.0.0.1"
# How soon the server sees that it is to stop.
POLL_SECONDS = 0.02
REGION = "us-east-1"
ACCOUNT = "123456789012"
TARGET = "SageMaker."
# The access key of what the execution role does: the service on behalf of a job, and the job itself.
JOB = "execution-role"
# A request to this path and a training job's name takes its spot machine away.
INTERRUPT = "/rehearsal/interrupt/"
# SageMaker Runtime has no target in a header: its operations are paths.
ENDPOINTS = "/endpoints/"


class Rehearsal:
    """A running rehearsal: its address, and what reaches it from other processes."""

    def __init__(self, port: int = 0) -> None:
        """Start on `port`, or on a free one.

        Raises:
            CloudError: moto is not installed, or the port is taken.
        """
        moto = _moto_app()
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        load_programs()
        try:
            self._server = make_server(HOST, port, self._answer, threaded=True)
        except (OSError, SystemExit) as error:
            raise CloudError(f"port {port} is taken. Type port=0 for any free one.") from error
        self._moto = moto
        self._moto_lock = threading.Lock()
        self.url = f"http://{HOST}:{self._server.server_port}"
        inside = self.environment | {"AWS_ACCESS_KEY_ID": JOB, "AWS_SECRET_ACCESS_KEY": JOB}
        self.sagemaker = SageMaker(REGION, ACCOUNT, self._clients(), inside)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), daemon=True
        )
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which any AWS client reaches this rehearsal and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "S3_ENDPOINT_URL": self.url,
        }

    def close(self) -> None:
        """Stop the jobs that still run, then the server."""
        self.sagemaker.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _clients(self) -> Any:
        import boto3
        from botocore.config import Config

        session = boto3.session.Session(JOB, JOB, region_name=REGION)
        config = Config(s3={"addressing_style": "path"}, max_pool_connections=32)
        return SimpleNamespace(
            s3=session.client("s3", endpoint_url=self.url, config=config),
            logs=session.client("logs", endpoint_url=self.url, config=config),
        )

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if is_stranger(str(environ.get("HTTP_HOST", "")), str(environ.get("HTTP_ORIGIN", ""))):
            # moto lets every web page ask it, and a job runs the code that it is given.
            start("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"a rehearsal answers programs of its own machine, and no web page\n"]
        path = str(environ.get("PATH_INFO", ""))
        if path.startswith(INTERRUPT):
            return self._interrupt(path.removeprefix(INTERRUPT), start)
        if path.startswith(ENDPOINTS):
            return self._invoke(path, environ, start)
        target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
        if not target.startswith(TARGET):
            # moto throws an object's content away while another thread reads it.
            with self._moto_lock:
                answered: Iterable[bytes] = self._moto(environ, start)
            return answered
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(length) or b"{}")
        try:
            answer, status = self.sagemaker.call(target.removeprefix(TARGET), body), "200 OK"
        except Refusal as refusal:
            answer = {"__type": refusal.code, "message": str(refusal)}
            status = "400 Bad Request"
        start(status, [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps(answer).encode()]

    def _invoke(
        self, path: str, environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_") or name == "CONTENT_TYPE"
        }
        answer = self.sagemaker.hosting.invoke(path, headers, environ["wsgi.input"].read(length))
        start(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers.items()))
        return [answer.body]

    def _interrupt(self, name: str, start: Callable[..., Any]) -> Iterable[bytes]:
        job = self.sagemaker.training.get(name)
        found = job is not None and not job.done
        if job is not None and found:
            job.interrupt()
        start("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
        return [b"interrupted\n" if found else b"no such job is running\n"]


@contextmanager
def rehearsal(port: int = 0) -> Iterator[Rehearsal]:
    """A rehearsal for as long as the block lasts."""
    running = Rehearsal(port)
    try:
        yield running
    finally:
        running.close()


def _moto_app() -> Any:
    # The backends answer for any account, and nothing is looked up on a metadata server.
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    os.environ.setdefault("MOTO_ACCOUNT_ID", ACCOUNT)
    try:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    except ModuleNotFoundError as error:
        raise CloudError(
            f"{error.name} is not installed, and the rehearsal needs it. "
            "Type pip install 'sagelight[rehearsal]'."
        ) from error
    return DomainDispatcherApplication(create_backend_app)
