"""A proxy on loopback in front of the rehearsal that spoils requests and answers as a plan says."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

from faulty import plans
from faulty.plans import Plan

HOST = "127.0.0.1"
SLOW_SECONDS = 0.1
# Longer than an impatient client waits.
STALL_SECONDS = 1.5
PIECES = 8
LONGEST_WAIT = 120
SKEW_SECONDS = 55 * 60
EMPTY = ("HEAD",)
SIGN_IN = (
    b"<!DOCTYPE html><html><body><h1>Welcome to Hotel Bellevue</h1>Please sign in.</body></html>"
)
XML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
    "<RequestId>0</RequestId></Error>"
)
# Code, message and status, as SageMaker (and the services that speak JSON like it) and S3 word them.
JSON_REFUSALS = {
    plans.THROTTLE: ("ThrottlingException", "Rate exceeded", 400),
    plans.ERROR: ("InternalFailure", "The request processing has failed because of an unknown error.", 500),
    plans.SKEW: ("InvalidSignatureException", "Signature expired: 20261120T120000Z is now earlier than 20261120T125500Z (20261120T130000Z - 5 min.)", 400),
}  # fmt: skip
S3_REFUSALS = {
    plans.THROTTLE: ("SlowDown", "Please reduce your request rate.", 503),
    plans.ERROR: ("InternalError", "We encountered an internal error. Please try again.", 500),
    plans.SKEW: ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", 403),
}  # fmt: skip
_S3_NAMES = {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete", "POST": "Post"}


@dataclass
class Faulty:
    """A running proxy.

    Attributes:
        plan: what meets the requests from now on.
        injected: how often which kind met which operation.
        forwarded: how often which operation reached the rehearsal.
    """

    target: str
    plan: Plan = plans.healthy
    injected: Counter[tuple[str, str]] = field(default_factory=Counter)
    forwarded: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, plan: Plan) -> None:
        """Count from nothing, with another plan."""
        with self._lock:
            self.plan = plan
            self._counts.clear()
            self.injected.clear()
            self.forwarded.clear()

    def fault(self, operation: str) -> str | None:
        """What meets a request that has just come."""
        with self._lock:
            self._counts[operation] += 1
            kind = self.plan(operation, self._counts[operation], self._counts.total())
            if kind:
                self.injected[operation, kind] += 1
            return kind


def operation_of(method: str, path: str, target: str) -> str:
    """`SageMaker.CreateModel`, `S3.PutObject`, `Runtime.InvokeEndpoint`, `Scheduler.PostSchedules`."""
    if target:
        service, _, operation = target.partition(".")
        return f"{service.partition('_')[0]}.{operation}"
    place = urlparse(path)
    parts, query = place.path.strip("/").split("/"), parse_qs(place.query, keep_blank_values=True)
    if parts[0] == "endpoints":
        return (
            "Runtime.InvokeEndpointAsync"
            if parts[-1] == "async-invocations"
            else "Runtime.InvokeEndpoint"
        )
    if parts[0] == "schedules":
        return f"Scheduler.{_S3_NAMES[method]}Schedule{'s' * (len(parts) == 1)}"
    if "list-type" in query:
        return "S3.ListObjectsV2"
    if "uploads" in query or "uploadId" in query:
        return f"S3.Multipart{_S3_NAMES[method]}"
    return f"S3.{_S3_NAMES[method]}{'Object' if len(parts) > 1 else 'Bucket'}"


@contextmanager
def faulty(target: str) -> Iterator[Faulty]:
    """A proxy in front of `target`, `http://HOST:PORT`, for as long as the block lasts."""
    found = Faulty(target)
    server = _Server(found)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    found.url = f"http://{HOST}:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, proxy: Faulty) -> None:
        self.proxy, self.target = proxy, urlparse(proxy.target).netloc
        super().__init__((HOST, 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client has gone, which is what many of the faults are for."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    _late = False

    def _meet(self) -> None:
        operation = operation_of(self.command, self.path, self.headers.get("X-Amz-Target", ""))
        kind = self.server.proxy.fault(operation)
        if kind == plans.DROP_BEFORE:
            self._cut()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if kind in JSON_REFUSALS:
            self._late = kind == plans.SKEW
            self._refuse(operation, kind)
        elif kind == plans.PAGE:
            self._send(200, [("Content-Type", "text/html")], SIGN_IN)
        else:
            self.server.proxy.forwarded[operation] += 1
            self._answer(operation, kind, *self._forward(body))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _meet  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        line = http.client.HTTPConnection(self.server.target, timeout=LONGEST_WAIT)
        try:
            line.request(self.command, self.path, body, dict(self.headers.items()))
            answer = line.getresponse()
            dropped = ("connection", "transfer-encoding", "date", "server")
            if self.command not in EMPTY:
                dropped += ("content-length",)
            headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in dropped]
            return answer.status, headers, answer.read()
        finally:
            line.close()

    def _answer(
        self,
        operation: str,
        kind: str | None,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> None:
        if kind == plans.DROP_AFTER or (kind == plans.TRUNCATE and not body):
            self._cut()
        elif kind == plans.ERROR_AFTER:
            self._refuse(operation, plans.ERROR)
        elif kind == plans.TRUNCATE:
            self._send(status, headers, body, sent=len(body) // 2)
            self._cut()
        elif kind == plans.TRICKLE:
            self._send(status, headers, body, pieces=PIECES)
        else:
            REAL_SLEEP({plans.SLOW: SLOW_SECONDS, plans.STALL: STALL_SECONDS}.get(kind or "", 0))
            self._send(status, headers, body)

    def _refuse(self, operation: str, kind: str) -> None:
        if operation.startswith("S3."):
            code, message, status = S3_REFUSALS[kind]
            body, content = XML.format(code=code, message=message).encode(), "application/xml"
        else:
            code, message, status = JSON_REFUSALS[kind]
            body = json.dumps({"__type": code, "message": message}).encode()
            content = "application/x-amz-json-1.1"
        self._send(status, [("Content-Type", content), ("x-amzn-errortype", code)], body)

    def _send(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        sent: int | None = None,
        pieces: int = 1,
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command in EMPTY:
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        whole = body[:sent]
        step = max(1, -(-len(whole) // pieces))
        for start in range(0, len(whole), step):
            self.wfile.write(whole[start : start + step])
            if pieces > 1:
                REAL_SLEEP(SLOW_SECONDS / pieces)

    def _cut(self) -> None:
        """End the connection at once, so that the client sees a reset."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """AWS's time, which the answers bear."""
        now = time.time() if timestamp is None else timestamp
        late, self._late = self._late, False
        return super().date_time_string(now + SKEW_SECONDS * late)

    def log_message(self, format: str, *args: object) -> None:
        return


# Programs that hurry shorten everybody else's.
REAL_SLEEP = time.sleep
