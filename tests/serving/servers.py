"""A server as a person starts it: a process on a loopback port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GUARD = Path(__file__).parent / "guard"
JPEG = {"Content-Type": "image/jpeg"}


class Answer:
    """Status, headers in lower case, and body of a response."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


class Server:
    """`serve bundle=... port=0` in a process of its own."""

    def __init__(self, bundle: Path, *words: str, guard: Path | None = None) -> None:
        path = os.pathsep.join([str(GUARD), str(ROOT / "src")])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        if guard is not None:
            environment["SAGELIGHT_GUARD"] = str(guard)
        program = [sys.executable, str(ROOT / "launch" / "local.py")]
        self.process = subprocess.Popen(
            [*program, "serve", f"bundle={bundle}", "port=0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_log, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.port = int(self.line("listening")["port"])

    def line(self, event: str, seconds: float = 20, **facts: Any) -> dict[str, Any]:
        """Wait for a line of the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if line["event"] == event and facts.items() <= line.items():
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"no {event} {facts}: {self.lines} {self.errors}")

    def ready(self, seconds: float = 20) -> None:
        """Wait until /ping says healthy."""
        deadline = time.monotonic() + seconds
        while self.ask("GET", "/ping").status != 200:
            assert time.monotonic() < deadline, self.ask("GET", "/ping").body
            time.sleep(0.02)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def label(self, photo: bytes, **headers: str) -> Answer:
        """POST a photo to /invocations."""
        fields = JPEG | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/invocations", photo, fields)

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """A bare connection, for what http.client would not send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as raw:
            yield raw

    def raw(self, sent: bytes) -> Answer | None:
        """Send bytes as they are; None where the connection ends without an answer."""
        with self.connection() as raw:
            raw.sendall(sent)
            return received(raw)

    def memory(self) -> dict[str, int]:
        """VmRSS and VmHWM (the most so far) in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return {name: int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")}

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20) -> int:
        """Signal the process and wait for its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            for reader in self._readers:
                reader.join(5)
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()
        return code

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += self.process.stderr


def received(raw: socket.socket) -> Answer | None:
    """The response that a bare connection holds, if one does."""
    response = http.client.HTTPResponse(raw)
    try:
        response.begin()
        return Answer(response)
    except (http.client.BadStatusLine, ConnectionError):
        return None
    finally:
        response.close()


def request(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """POST /invocations as bytes, with a Content-Length of its own choice."""
    lines = [
        "POST /invocations HTTP/1.1",
        "Host: localhost",
        "Content-Type: image/jpeg",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def serving(bundle: Path, *words: str, guard: Path | None = None) -> Iterator[Server]:
    """A server that is ready, for as long as the block lasts."""
    server = Server(bundle, *words, guard=guard)
    try:
        server.ready()
        yield server
    finally:
        server.stop()
