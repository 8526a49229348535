"""POST /explain: the photo with a heat map of what a label rests on, as PNG."""

from __future__ import annotations

import io
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from sagelight.bundle.spec import BundleSpec
from sagelight.serving.predictor import Predictor
from sagelight.serving.server.bodies import Bodies
from sagelight.serving.server.media import is_json
from sagelight.serving.server.refusal import Refusal, busy
from sagelight.serving.server.service import Service


class Explanations:
    """One map at a time: it takes as long as fifty answers."""

    def __init__(self, service: Service, bodies: Bodies) -> None:
        self._service = service
        self._bodies = bodies
        self._predictor = InSmallBatches(service.predictor, service.settings.batch_size)
        self._at_work = False

    async def __call__(self, request: Request) -> Response:
        """The map of `?label=NAME`, or of the best label, for the photo in the body.

        Raises:
            Refusal: no photo, no such label, or another map is being drawn (503).
        """
        if is_json(request.headers.get("content-type", "")):
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a heat map needs the bytes of a photo."
            )
        if self._at_work:
            raise busy("another heat map is being drawn. Try again in a second.")
        self._at_work = True
        try:
            return await self._drawn(request)
        finally:
            self._at_work = False

    async def _drawn(self, request: Request) -> Response:
        label = request.query_params.get("label")
        labels = self._service.predictor.labels
        if label is not None and label not in labels:
            raise Refusal(HTTPStatus.BAD_REQUEST, "there is no such label.")
        self._service.check_room()
        with self._bodies.held() as held:
            body = await self._bodies.read(request, held)
            with self._service.admitted():
                pixels = await self._service.decoding.pixels(body)
                target = None if label is None else labels.index(label)
                picture = await self._service.decoding.elsewhere(
                    lambda: self._picture(pixels, target)
                )
        return Response(picture, media_type="image/png")

    def _picture(self, pixels: NDArray[np.uint8], target: int | None) -> bytes:
        from sagelight.explaining.occlusion import occlusion_map
        from sagelight.explaining.overlay import overlay

        if target is None:
            target = int(self._predictor.probabilities(pixels[np.newaxis])[0].argmax())
        file = io.BytesIO()
        overlay(pixels, occlusion_map(self._predictor, pixels, target)).save(file, "PNG")
        return file.getvalue()


class InSmallBatches:
    """A predictor that takes at most so many photos at once, because memory once taken stays."""

    def __init__(self, predictor: Predictor, size: int) -> None:
        self._predictor = predictor
        self._size = size

    @property
    def spec(self) -> BundleSpec:
        return self._predictor.spec

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (B, C) of pixels (B, 3, H, W)."""
        parts = range(0, len(pixels), self._size)
        return np.concatenate(
            [self._predictor.probabilities(pixels[n : n + self._size]) for n in parts]
        )
