"""The body of a request: whole, within a size and a time; and the photos that a JSON body names."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

from starlette.requests import Request

from sagelight.serving.server.refusal import Refusal, busy

# Of the largest size, in memory at the same time.
MOST_BODIES = 32
MOST_INSTANCES = 64
MOST_MARKS = 8 * MOST_INSTANCES
SHAPES = '{"image": "<base64>"}, {"url": "https://..."}, or {"instances": [...]} of these'


class Gone(Exception):
    """The sender went away: nobody is left to answer."""


@dataclass(frozen=True)
class Instances:
    """What a JSON body asks: bytes of photos, or their addresses; `many` when it asked for a list."""

    photos: list[bytes | str]
    many: bool


class Held:
    """Bytes that one request keeps in memory, counted with those of all others."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.size = 0

    def add(self, size: int) -> None:
        """Count more of them.

        Raises:
            Refusal: this request has too many (413), or all together have (503).
        """
        self.size += size
        self._bodies.total += size
        if self.size > self._bodies.most:
            raise too_large(self._bodies.most)
        if self._bodies.total > MOST_BODIES * self._bodies.most:
            raise busy("too many bytes are in hand. Try again in a second.")

    @property
    def left(self) -> int:
        """Bytes that this request may still add."""
        return self._bodies.most - self.size


class Bodies:
    """Reads bodies of at most `most` bytes, each within `seconds`.

    Attributes:
        total: bytes that all requests hold.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.total = 0
        self._seconds = seconds

    @contextmanager
    def held(self) -> Iterator[Held]:
        """The account of one request, until it is answered."""
        held = Held(self)
        try:
            yield held
        finally:
            self.total -= held.size

    async def read(self, request: Request, held: Held) -> bytes:
        """The whole body.

        Raises:
            Refusal: it is empty (400), too large (413), too slow (408), or too much is in hand (503).
            Gone: the sender closed the connection before its end.
        """
        self._check_length(request)
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in _chunks(request):
                    held.add(len(chunk))
                    chunks.append(chunk)
        except TimeoutError:
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body did not arrive within {self._seconds:g} seconds: {held.size:,} bytes came.",
                Connection="close",
            ) from None
        if not held.size:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body is empty. Send the bytes of one photo.")
        return b"".join(chunks)

    def _check_length(self, request: Request) -> None:
        if int(request.headers.get("content-length", 0)) > self.most:
            raise too_large(self.most)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Gone
        yield message.get("body", b"")
        more = message.get("more_body", False)


def too_large(most: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {most:,} bytes, the most that this server takes. "
        "Send a smaller photo.",
    )


def instances(body: bytes) -> Instances:
    """The photos of a JSON body, as bytes, or as text where it gives their addresses.

    Raises:
        Refusal: no JSON, or of another shape (400).
    """
    # A shape of ours has a handful of marks; millions of them would fill the memory when parsed.
    if sum(body.count(mark) for mark in (b"{", b"[", b",")) > MOST_MARKS:
        raise _bad(f"the body is JSON of too many values. It must be {SHAPES}")
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise _bad("the body is JSON nested too deeply") from None
    except ValueError as error:
        raise _bad(f"the body is no JSON: {str(error)[:200]}") from None
    if isinstance(content, dict) and set(content) == {"instances"}:
        return Instances(_listed(content["instances"]), many=True)
    return Instances([_photo(content, "the body")], many=False)


def _listed(entries: Any) -> list[bytes | str]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_INSTANCES:
        raise _bad(f'"instances" must be a list of 1 to {MOST_INSTANCES} photos')
    return [_photo(entry, f"instance {number}") for number, entry in enumerate(entries)]


def _photo(entry: Any, name: str) -> bytes | str:
    if isinstance(entry, dict) and len(entry) == 1:
        [(key, value)] = entry.items()
        if key == "image" and isinstance(value, str):
            return _decoded(value, name)
        if key == "url" and isinstance(value, str):
            return value
    raise _bad(f"{name} must be {SHAPES}")


def _decoded(text: str, name: str) -> bytes:
    _, _, after = text.partition(";base64,") if text.startswith("data:") else ("", "", text)
    try:
        photo = base64.b64decode("".join(after.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(f"{name} is no base64: {error}") from None
    if not photo:
        raise _bad(f"{name} is empty")
    return photo


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON value")


def _bad(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, f"{reason}.")
