"""A bundle at work: photos in, answers out, and whether it can."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import numpy as np
from PIL import Image

from sagelight.serving.inference import answer
from sagelight.serving.predictor import Predictor
from sagelight.serving.server.batching import Batcher, ModelFailure, Row, rows
from sagelight.serving.server.decoding import Decoding
from sagelight.serving.server.health import Health
from sagelight.serving.server.metrics import Metrics
from sagelight.serving.server.refusal import Refusal, busy
from sagelight.serving.server.settings import ServeSettings, shares


class Service:
    """The predictors behind their queues.

    Attributes:
        predictor: answers whoever is alone.
        in_hand: requests that are being worked on.
    """

    def __init__(self, predictor: Predictor, batched: Predictor, settings: ServeSettings) -> None:
        """
        Args:
            predictor: uses every core for one photo.
            batched: of the same bundle; its runs share the cores. It may be the same.
        """
        divided = shares(settings)
        self.predictor = predictor
        self.settings = settings
        self.in_hand = 0
        self.metrics = Metrics(lambda: self.batcher.waiting, lambda: self.in_hand)
        self.decoding = Decoding(
            predictor.spec.preprocessing, divided.decoders, settings.max_megapixels * 10**6
        )
        self.batcher = Batcher(
            batched.probabilities,
            settings.batch_size,
            settings.batch_delay_ms / 1000,
            divided.workers,
            self.metrics.batches.observe,
        )
        self.health = Health(self._probe)

    def close(self) -> None:
        self.decoding.close()
        self.batcher.close()

    def check_room(self) -> None:
        """Refuse early what would find no place later.

        Raises:
            Refusal: all places are taken (503).
        """
        if self.in_hand >= self.settings.queue:
            raise busy(f"{self.in_hand} requests are in hand already. Try again in a second.")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place among the requests in hand, for one whose body has come.

        Raises:
            Refusal: all are taken (503).
        """
        self.check_room()
        self.in_hand += 1
        try:
            yield
        finally:
            self.in_hand -= 1

    async def answers(self, photos: list[bytes], facts: dict[str, Any]) -> list[dict[str, Any]]:
        """An answer for each photo, in order; where the server is tolerant, an error in place of some.

        Args:
            facts: for the log; the milliseconds of the slowest photo are put in.

        Raises:
            Refusal: one of them cannot be decoded, or together they are too large.
            ModelFailure: the network failed.
        """
        if len(photos) == 1:
            return [await self._answered(photos[0], facts)]
        facts["photos"] = len(photos)
        await self.decoding.check_sizes(photos)
        named = (self._named(number, photo, facts) for number, photo in enumerate(photos))
        return list(await asyncio.gather(*named))

    async def _answered(self, photo: bytes, facts: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._answer(photo, facts)
        except Refusal as refusal:
            if not self.settings.tolerant or refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            # The reason alone, as `predict` lists it.
            return {"error": str(refusal.__cause__ or refusal)}

    async def _named(self, number: int, photo: bytes, facts: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._answered(photo, facts)
        except Refusal as refusal:
            raise Refusal(refusal.status, f"instance {number}: {refusal}") from refusal

    async def _answer(self, photo: bytes, facts: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        with self._noting_health():
            decoded, row = await (self._alone(photo) if self.batcher.idle else self._batched(photo))
        self._took("decoding", decoded - start, facts)
        self._took("model", time.perf_counter() - decoded, facts)
        return answer(self.predictor.labels, row, self.settings.top_k)

    async def _batched(self, photo: bytes) -> tuple[float, Row]:
        """The time when a photo was decoded, and its row from a batch."""
        with self.batcher.coming():
            pixels = await self.decoding.pixels(photo)
            decoded = time.perf_counter()
            row = self.batcher.submit(pixels)
        return decoded, await row

    async def _alone(self, photo: bytes) -> tuple[float, Row]:
        """The same where nobody else is there: without changing the thread between decoding and network."""

        def work() -> tuple[float, Row]:
            pixels = self.decoding.decode(photo)
            decoded = time.perf_counter()
            return decoded, rows(self.predictor.probabilities, pixels[np.newaxis])[0]

        return await self.batcher.alone(self.decoding.elsewhere(work))

    def _took(self, stage: str, seconds: float, facts: dict[str, Any]) -> None:
        self.metrics.stages[stage].observe(seconds)
        key = f"{stage}_ms"
        facts[key] = max(facts.get(key, 0.0), round(seconds * 1000, 2))

    @contextmanager
    def _noting_health(self) -> Iterator[None]:
        try:
            yield
        except ModelFailure as failure:
            self.metrics.failures.inc()
            self.health.failed(str(failure))
            raise
        except asyncio.CancelledError:
            # Out of time. Of an overload the next answer clears it; a network that hangs gives none.
            self.health.failed("the network took too long to answer")
            raise
        self.health.answered()

    async def _probe(self) -> None:
        await self._answer(_tiny_photo(), {})


def _tiny_photo() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()
