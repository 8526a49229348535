"""Photos to pixels in threads, within a limit on the memory that all of them take together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from io import BytesIO
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sagelight.bundle.preprocessing import (
    DECODE_ERRORS,
    FORMATS,
    Preprocessing,
    UnreadableImageError,
)
from sagelight.serving.server.refusal import Refusal

T = TypeVar("T")
# Measured: an RGB picture takes 7 bytes a pixel while it is decoded; Pillow keeps more copies of one that is
# transparent or has 16 bits a sample (18 and 27 bytes), and WebP's decoder two canvases of its own (15).
WEIGHTS = {"RGBA": 2, "LA": 2, "PA": 2, "La": 2, "RGBa": 2, "P": 2, "I": 3}
WEIGHT_OF_16_BITS = 3
WEIGHT_OF_WEBP = 2
# A scan passes over the whole picture. Cameras write up to a dozen, attackers a hundred thousand.
MOST_SCANS = 100


class Decoding:
    """Threads that decode.

    At any time the photos in them have at most `max_pixels` pixels together, where one that
    takes more memory counts twice or three times. Who waits for much is not overtaken.
    """

    def __init__(self, preprocessing: Preprocessing, threads: int, max_pixels: int) -> None:
        self._preprocessing = preprocessing
        self._max_pixels = max_pixels
        self._free = max_pixels
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    async def pixels(self, photo: bytes) -> NDArray[np.uint8]:
        """Pixels (3, image_size, image_size) of a photo's bytes.

        Raises:
            Refusal: no photo that can be decoded (400), or too large a one (413).
        """
        return await self.elsewhere(lambda: self.decode(photo))

    async def check_sizes(self, photos: list[bytes]) -> None:
        """Hold several photos of one request to what one of them may have.

        Raises:
            Refusal: they have more pixels (413).
        """
        self._check_size(await self.elsewhere(lambda: sum(_weight(photo) for photo in photos)))

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """Do what would keep the other requests waiting in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def decode(self, photo: bytes) -> NDArray[np.uint8]:
        """As `pixels`, in this thread."""
        try:
            _refuse_many_scans(photo)
            with self.taking(_weight(photo)):
                return self._preprocessing(photo)
        except UnreadableImageError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"no photo: {error}") from error

    @contextmanager
    def taking(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels fit in, and keep their place while the block lasts.

        Raises:
            Refusal: they never would (413).
        """
        self._check_size(pixels)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify()

    def _check_size(self, pixels: int) -> None:
        if pixels > self._max_pixels:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"this counts as {pixels / 1e6:,.1f} megapixels (transparent and WebP twice, 16 bits "
                f"three times); the server takes {self._max_pixels / 1e6:,.0f}. Send less or smaller.",
            )


def _weight(photo: bytes) -> int:
    """Pixels of a photo by its header; 0 where decoding will say better what is wrong."""
    try:
        with Image.open(BytesIO(photo), formats=FORMATS) as image:
            return image.width * image.height * _weight_of_a_pixel(image)
    except DECODE_ERRORS:
        return 0


def _weight_of_a_pixel(image: Image.Image) -> int:
    if image.mode.startswith("I;16"):
        return WEIGHT_OF_16_BITS
    return WEIGHT_OF_WEBP if image.format == "WEBP" else WEIGHTS.get(image.mode, 1)


def _refuse_many_scans(photo: bytes) -> None:
    # The mark of a scan occurs nowhere else in the compressed data of a JPEG.
    if photo.startswith(b"\xff\xd8") and photo.count(b"\xff\xda") > MOST_SCANS:
        raise UnreadableImageError(f"a JPEG of more than {MOST_SCANS} scans")
