"""A bundle at work: photos in, answers out, and whether it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sagelight.serving.inference import answer
from sagelight.serving.predictor import Predictor
from sagelight.serving.server.batching import Batcher, ModelFailure, Row
from sagelight.serving.server.decoding import Decoding
from sagelight.serving.server.health import Health
from sagelight.serving.server.metrics import Metrics
from sagelight.serving.server.refusal import busy
from sagelight.serving.server.settings import ServeSettings, shares


class Service:
    """The predictor behind its queues.

    Attributes:
        in_hand: requests that are being worked on.
    """

    def __init__(self, predictor: Predictor, settings: ServeSettings) -> None:
        divided = shares(settings)
        self.predictor = predictor
        self.settings = settings
        self.in_hand = 0
        self.metrics = Metrics(lambda: self.batcher.waiting, lambda: self.in_hand)
        self.decoding = Decoding(
            predictor.spec.preprocessing, divided.decoders, settings.max_megapixels * 10**6
        )
        self.batcher = Batcher(
            predictor.probabilities,
            settings.batch_size,
            settings.batch_delay_ms / 1000,
            divided.workers,
            self.metrics.batches.observe,
        )
        self.health = Health(self._probe)

    def close(self) -> None:
        self.decoding.close()
        self.batcher.close()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place among the requests in hand.

        Raises:
            Refusal: all are taken (503).
        """
        if self.in_hand >= self.settings.queue:
            raise busy(f"{self.in_hand} requests are in hand already. Try again in a second.")
        self.in_hand += 1
        try:
            yield
        finally:
            self.in_hand -= 1

    async def answers(self, photos: list[bytes]) -> list[dict[str, Any]]:
        """An answer for each photo, in order.

        Raises:
            Refusal: one of them cannot be decoded.
            ModelFailure: the network failed.
        """
        return list(await asyncio.gather(*(self._answer(photo) for photo in photos)))

    async def _answer(self, photo: bytes) -> dict[str, Any]:
        start = time.perf_counter()
        with self.batcher.coming():
            pixels = await self.decoding.pixels(photo)
            decoded = time.perf_counter()
            row = self.batcher.submit(pixels)
        self.metrics.decoding.observe(decoded - start)
        labelled = answer(self.predictor.labels, await self._watched(row), self.settings.top_k)
        self.metrics.model.observe(time.perf_counter() - decoded)
        return labelled

    async def _watched(self, row: asyncio.Future[Row]) -> Row:
        try:
            found = await row
        except ModelFailure as failure:
            self.metrics.failures.inc()
            self.health.failed(str(failure))
            raise
        self.health.answered()
        return found

    async def _probe(self) -> Row:
        side = self.predictor.spec.preprocessing.image_size
        return await self.batcher.submit(np.zeros((3, side, side), np.uint8))
