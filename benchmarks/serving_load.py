"""HTTP clients in a closed loop: each sends a photo, waits for the answer, and sends the next one, on one connection.

One process and raw bytes, so that the clients take little of what is measured; what they take counts as the server's.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
# A server that says nothing for so long has lost the request.
PATIENCE = 120.0


@dataclass(frozen=True)
class Request:
    """The bytes of an HTTP request, and the status that it must be answered with."""

    content: bytes
    status: int = 200


@dataclass
class Round:
    """What the clients saw: seconds of each answer, and what came instead of the right one.

    `processor_seconds` are the server's.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    processor_seconds: float = 0.0

    @property
    def throughput(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def processor_ms(self) -> float:
        """Of one answer."""
        return 1e3 * self.processor_seconds / len(self.latencies)

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        return 1e3 * float(np.percentile(self.latencies, share))


def post(
    path: str, body: bytes, content_type: str, accept: str = "application/json", status: int = 200
) -> Request:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Request(head.encode() + body, status)


def load(
    port: int,
    requests: Iterable[Request],
    clients: int,
    seconds: float,
    every_second: Callable[[], None] = lambda: None,
) -> Round:
    """Keep `clients` requests in flight for so long; the last ones are waited for."""
    return asyncio.run(_load(port, itertools.cycle(requests), clients, seconds, every_second))


async def _load(
    port: int,
    requests: Iterator[Request],
    clients: int,
    seconds: float,
    every_second: Callable[[], None],
) -> Round:
    found, began = Round(), time.perf_counter()
    ticking = asyncio.create_task(_tick(every_second))
    until = began + seconds
    await asyncio.gather(*(_client(port, requests, until, found) for _ in range(clients)))
    ticking.cancel()
    found.seconds = time.perf_counter() - began
    return found


async def _tick(every_second: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(1)
        every_second()


async def _client(port: int, requests: Iterator[Request], until: float, found: Round) -> None:
    connection: _Connection | None = None
    while time.perf_counter() < until:
        request = next(requests)
        began = time.perf_counter()
        try:
            connection = connection or await _Connection.open(port)
            status, stays = await asyncio.wait_for(connection.ask(request.content), PATIENCE)
        except (OSError, EOFError, TimeoutError) as error:
            found.wrong[type(error).__name__] += 1
            connection = connection.close() if connection else None
            continue
        found.latencies.append(time.perf_counter() - began)
        if status != request.status:
            found.wrong[f"{status} for {request.status}"] += 1
        if not stays:
            connection = connection.close()
    if connection:
        connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, content: bytes) -> tuple[int, bool]:
        """The status of the answer, and whether the connection stays open."""
        self._writer.write(content)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        if length is None:
            raise EOFError("an answer without its length")
        await self._reader.readexactly(int(length[1]))
        return int(head[9:12]), not CLOSES.search(head)

    def close(self) -> None:
        self._writer.close()
