"""What is wrong with one image file: from its header and its tail, or from all of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from sagelight.bundle.preprocessing import (
    DECODE_ERRORS,
    FORMATS,
    MAX_ASPECT,
    MAX_PIXELS,
    ORIENTATION,
    TURNS,
    UnreadableImageError,
    decode,
)
from sagelight.data.index import file_size

HUGE_PIXELS = 50_000_000
TAIL_BYTES = 64
CANNOT_BE_READ = ("zero_byte", "unreadable", "truncated", "too_large", "too_thin")
# MPO is what phones write into .jpg: a JPEG with further pictures behind it.
FORMATS_BY_SUFFIX = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".webp": ("WEBP",),
    ".bmp": ("BMP", "DIB"),
    ".gif": ("GIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".ppm": ("PPM",),
    ".pgm": ("PPM",),
}
END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


@dataclass(frozen=True)
class Facts:
    """One file: codes of its problems, size, last bytes, and SHA-256 (empty unless full)."""

    codes: tuple[str, ...]
    size: int
    tail: bytes
    digest: str


def examine(path: Path, *, full: bool) -> Facts:
    """Look at a file: its header and tail only, or (`full`) every byte and every pixel."""
    size = file_size(path)
    if size <= 0:
        return Facts(("zero_byte" if size == 0 else "unreadable",), size, b"", "")
    try:
        if full:
            return _examine_all(path.read_bytes(), path)
        with path.open("rb") as file:
            codes, tail = _header_and_tail(file, path)
    except OSError:
        return Facts(("unreadable",), size, b"", "")
    return Facts(codes, size, tail, "")


def examine_content(content: bytes, path: Path) -> Facts:
    """Look at every byte and every pixel of a photo that has no file of its own; `path` says what it is called."""
    return _examine_all(content, path) if content else Facts(("zero_byte",), 0, b"", "")


def content_digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _examine_all(content: bytes, path: Path) -> Facts:
    codes, tail = _header_and_tail(BytesIO(content), path)
    if not set(CANNOT_BE_READ) & set(codes):
        codes += _pixels(content)
    return Facts(codes, len(content), tail, hashlib.sha256(content).hexdigest())


def _pixels(content: bytes) -> tuple[str, ...]:
    try:
        decode(content)
    except UnreadableImageError as error:
        return ("truncated" if "truncated" in str(error) else "unreadable",)
    return ()


def _header_and_tail(file: BinaryIO, path: Path) -> tuple[tuple[str, ...], bytes]:
    try:
        # Not closed here: the file is the caller's, and nothing is decoded.
        image = Image.open(file, formats=FORMATS)
        start_of_pixels = file.tell()
    except Image.DecompressionBombError:
        return ("too_large",), _tail(file)
    except DECODE_ERRORS:
        return ("unreadable",), _tail(file)
    codes = _header(image, path.suffix.lower())
    tail = _tail(file)
    if _cut_short(file, tail, image.format or "", start_of_pixels):
        codes.append("truncated")
    return tuple(codes), tail


def _header(image: Image.Image, suffix: str) -> list[str]:
    pixels = image.width * image.height
    found = {
        "wrongly_named": image.format not in FORMATS_BY_SUFFIX[suffix],
        "too_large": pixels > MAX_PIXELS,
        "too_thin": max(image.size) > MAX_ASPECT * min(image.size),
        "huge": HUGE_PIXELS < pixels <= MAX_PIXELS,
        "cmyk": image.mode == "CMYK",
        "sixteen_bit": _more_than_8_bits(image),
        "exif_rotated": _turned(image),
        "animated": _animated(image),
    }
    return [code for code, true in found.items() if true]


def _turned(image: Image.Image) -> bool:
    try:
        # getexif of Image itself: a PNG's own would decode all pixels first.
        return Image.Image.getexif(image).get(ORIENTATION) in TURNS
    except DECODE_ERRORS:
        return False  # As for decoding, damaged metadata spoils no pixel.


def _animated(image: Image.Image) -> bool:
    try:
        return image.format != "MPO" and getattr(image, "is_animated", False)
    except DECODE_ERRORS:
        return False  # Only the first frame is used, so damage behind it is harmless.


def _more_than_8_bits(image: Image.Image) -> bool:
    if image.mode == "F" or image.mode.startswith("I"):
        return True
    # 16-bit colour is opened in an 8-bit mode; only the decoder's raw mode tells.
    return any(re.search(r";16[BLNS]", str(tile.args)) for tile in getattr(image, "tile", []))


def _tail(file: BinaryIO) -> bytes:
    file.seek(0, 2)
    file.seek(max(0, file.tell() - TAIL_BYTES))
    return file.read()


def _cut_short(file: BinaryIO, tail: bytes, image_format: str, start_of_pixels: int) -> bool:
    mark = END_MARKS.get(image_format)
    if mark is None or tail.rstrip(b"\0").endswith(mark):
        return False
    file.seek(start_of_pixels)
    rest = file.read()
    if mark in rest:
        # Whole, with something appended: padding, or the film of a moving photo.
        return False
    # The pixels have the last word; but zeros may decode, as grey.
    file.seek(0)
    return rest.endswith(bytes(TAIL_BYTES)) or bool(_pixels(file.read()))
