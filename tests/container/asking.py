"""A server on the loopback, asked as SageMaker asks one."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from http.client import HTTPConnection
from io import BytesIO

from bundles import photo


def jpeg(colour: str) -> bytes:
    buffer = BytesIO()
    photo(colour).save(buffer, "JPEG")
    return buffer.getvalue()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def wait_until_healthy(port: int, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def invoke(port: int, body: bytes, content_type: str) -> tuple[int, dict[str, object]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
