"""Requests that wait at the same time share one run of the network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sagelight.errors import first_line

T = TypeVar("T")
Pixels = NDArray[np.uint8]
Row = NDArray[np.float32]
Run = Callable[[Pixels], NDArray[np.float32]]


class ModelFailure(Exception):
    """The network gave no answer, or none that is probabilities: our fault, never the sender's."""


@dataclass(frozen=True)
class Waiting:
    pixels: Pixels
    row: asyncio.Future[Row]
    since: float


def rows(run: Run, pixels: Pixels) -> NDArray[np.float32]:
    """Probabilities (B, C) of pixels (B, 3, H, W), computed in this thread.

    Raises:
        ModelFailure: the network failed.
    """
    try:
        found = run(pixels)
    except Exception as error:  # ONNX Runtime's errors share no narrower base class.
        raise ModelFailure(first_line(error)) from error
    if len(found) != len(pixels) or not np.isfinite(found).all():
        raise ModelFailure("its probabilities are not numbers, or not one row a photo")
    return found


class Batcher:
    """Rows of probabilities (C,) for pixels (3, H, W), computed in batches of those that wait.

    A request never waits for others that have not come. With a delay it waits, at most so long, for
    those that are being decoded.
    """

    def __init__(
        self,
        run: Run,
        batch_size: int,
        delay: float,
        workers: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        """
        Args:
            run: pixels (B, 3, H, W) to probabilities (B, C); called in threads.
            delay: seconds.
            workers: calls of `run` at the same time.
            on_batch: told the size of each batch.
        """
        self._run = run
        self._batch_size = batch_size
        self._delay = delay
        self._workers = self._free = workers
        self._on_batch = on_batch
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="model")
        self._waiting: deque[Waiting] = deque()
        self._coming = 0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nobody is being computed, waits or comes."""
        return self._free == self._workers and not self._waiting and not self._coming

    async def alone(self, work: Awaitable[T]) -> T:
        """Await work that computes by itself, in a worker's place until it has ended."""
        self._free -= 1
        running = asyncio.ensure_future(work)
        running.add_done_callback(self._end_alone)
        # Whoever gives up stops waiting; the thread goes on, and so its place is taken.
        return await asyncio.shield(running)

    @contextmanager
    def coming(self) -> Iterator[None]:
        """While the block lasts, others may wait for what it will submit."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._start_batches()

    def submit(self, pixels: Pixels) -> asyncio.Future[Row]:
        """The row of one photo, to be awaited; raises ModelFailure when the network failed."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(pixels, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        self._start_batches()
        return waiting.row

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start_batches(self) -> None:
        while self._free and self._waiting and not self._worth_waiting():
            batch = self._next_batch()
            if batch:
                self._free -= 1
                task = asyncio.get_running_loop().run_in_executor(self._threads, self._rows, batch)
                task.add_done_callback(partial(self._hand_out, batch))

    def _worth_waiting(self) -> bool:
        if not self._delay or not self._coming or len(self._waiting) >= self._batch_size:
            return False
        loop = asyncio.get_running_loop()
        until = self._waiting[0].since + self._delay
        if loop.time() >= until:
            return False
        if self._alarm is None or self._alarm.cancelled() or self._alarm.when() < loop.time():
            self._alarm = loop.call_at(until, self._start_batches)
        return True

    def _next_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        while self._waiting and len(batch) < self._batch_size:
            waiting = self._waiting.popleft()
            if not waiting.row.done():  # Whoever gave up is not computed.
                batch.append(waiting)
        return batch

    def _rows(self, batch: list[Waiting]) -> NDArray[np.float32]:
        return rows(self._run, np.stack([waiting.pixels for waiting in batch]))

    def _end_alone(self, done: asyncio.Future[Any]) -> None:
        self._free += 1
        # To be looked at here, too: nobody may be left to await it.
        if not done.cancelled() and isinstance(done.exception(), ModelFailure | None):
            self._on_batch(1)
        self._start_batches()

    def _hand_out(self, batch: list[Waiting], done: asyncio.Future[NDArray[np.float32]]) -> None:
        self._free += 1
        self._on_batch(len(batch))
        error = done.exception()
        for position, waiting in enumerate(batch):
            if waiting.row.done():
                continue
            if error is None:
                waiting.row.set_result(done.result()[position])
            else:
                waiting.row.set_exception(ModelFailure(str(error)))
        self._start_batches()
