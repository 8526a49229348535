"""Photos: both decoders, what is said about them, and how serving takes them."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from fuzzing.changes import BETWEEN, change_bytes, joined, parts_of
from fuzzing.target import Target
from sagelight.bundle import preprocessing
from sagelight.bundle.preprocessing import Preprocessing, UnreadableImageError, decode
from sagelight.data.decoding import decode_tensor, decode_view
from sagelight.data.inspect_file import FORMATS_BY_SUFFIX, examine_content
from sagelight.serving.inference import RequestError as ToolkitRefusal
from sagelight.serving.inference import Unreadable, input_fn
from sagelight.serving.server.decoding import Decoding
from sagelight.serving.server.refusal import Refusal

# The true limit lets through what takes seconds; what is looked for here are faults, not sizes.
MOST_PIXELS = 1_000_000
STEPS = Preprocessing(24, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
EXIF = b"Exif\0\0"


def _quickly(run: Any) -> Any:
    def limited(data: bytes) -> None:
        most, preprocessing.MAX_PIXELS = preprocessing.MAX_PIXELS, MOST_PIXELS
        try:
            run(data)
        finally:
            preprocessing.MAX_PIXELS = most

    return limited


def _decoded(data: bytes) -> None:
    picture = decode(data)
    assert (picture.mode, picture.info) == ("RGB", {})
    assert STEPS(picture).shape == (3, 16, 16)


def _both_ways(data: bytes) -> None:
    """Training's decoder refuses what Pillow's refuses, in the same words, and gives pictures of the same size."""
    refused, size = _attempt(lambda: decode(data).size)
    quickly_refused, quick_size = _attempt(lambda: tuple(decode_tensor(data).shape[:0:-1]))
    view_refused, _ = _attempt(lambda: decode_view(data, STEPS).shape)
    _attempt(lambda: decode_tensor(data, 8))
    assert (quickly_refused, quick_size, view_refused) == (refused, size, refused)


def _attempt(work: Any) -> tuple[str, Any]:
    """Why it was refused, and what it gave."""
    try:
        return "", work()
    except UnreadableImageError as error:
        return str(error) or "nothing said", None


def _metadata(data: bytes) -> None:
    """Damaged metadata spoils no pixel: the picture is as large as it was, upright or not."""
    number, exif = (data[0] if data else 0), data[1:]
    content = _with_exif(number, exif)
    assert sorted(decode(content).size) == [20, 30]
    _both_ways(content)
    examine_content(content, Path("photo.jpg"))


def _with_exif(number: int, exif: bytes) -> bytes:
    kind = ("JPEG", "PNG", "WEBP")[number % 3]
    if kind == "JPEG":
        # Pillow would refuse to write what no segment of a JPEG holds.
        segment = (EXIF + exif)[:65533]
        plain = _plain("JPEG")
        return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    if kind == "PNG":
        plain = _plain("PNG")
        return plain[:33] + _chunk(b"eXIf" + exif) + plain[33:]
    file = BytesIO()
    Image.new("RGB", (30, 20)).save(file, "WEBP", exif=EXIF + exif)
    return file.getvalue()


def _png(data: bytes) -> None:
    """A PNG of these chunks, whose checksums are right."""
    chunks = b"".join(_chunk(part) for part in data.split(BETWEEN))
    content = b"\x89PNG\r\n\x1a\n" + chunks
    _both_ways(content)
    examine_content(content, Path("photo.png"))


def _chunk(content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(content.ljust(4, b"\0")))
    content = content.ljust(4, b"\0")
    return struct.pack(">I", len(content) - 4) + content + checksum


def _examined(data: bytes) -> None:
    suffixes = sorted(FORMATS_BY_SUFFIX)
    number, content = (data[0] if data else 0), data[1:]
    examine_content(content, Path("photo").with_suffix(suffixes[number % len(suffixes)]))


def _served(data: bytes) -> None:
    image = input_fn(data, "image/jpeg")
    assert not isinstance(image, Unreadable)
    assert _decoding().decode(data).shape == (3, 16, 16)


@cache
def _decoding() -> Decoding:
    return Decoding(STEPS, 1, 10 * MOST_PIXELS)


@cache
def _plain(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    if mode in ("I;16", "F"):
        image = Image.fromarray(noise[..., 0].astype({"I;16": np.uint16, "F": np.float32}[mode]))
    else:
        image = image.convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def _photos() -> list[bytes]:
    exif = Image.Exif()
    exif[preprocessing.ORIENTATION] = 6
    kinds = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
    found = [_plain(kind) for kind in kinds]
    found += [
        _plain("JPEG", exif=exif.tobytes()),
        _plain("JPEG", progressive=True),
        _plain("JPEG", "CMYK"),
    ]
    found += [_plain("PNG", mode) for mode in ("RGBA", "LA", "P", "1", "I;16")]
    found += [_plain("TIFF", mode) for mode in ("F", "I;16", "CMYK", "LAB", "YCbCr")]
    found += [_plain("TIFF", compression=how) for how in ("tiff_lzw", "jpeg", "packbits")]
    found += [_plain("JPEG", "L"), _plain("WEBP", "RGBA", lossless=True), _plain("PPM", "L")]
    frames = [Image.new("P", (30, 20), n) for n in range(2)]
    for kind in ("GIF", "PNG"):
        file = BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        found.append(file.getvalue())
    return found


def _exif_seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[preprocessing.ORIENTATION] = 6
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    content = exif.tobytes().removeprefix(EXIF)
    little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
    return [bytes([n]) + each for n in range(3) for each in (content, little)]


def _png_seeds() -> list[bytes]:
    found = []
    for photo in _photos():
        if photo.startswith(b"\x89PNG"):
            chunks, at = [], 8
            while at < len(photo):
                size = struct.unpack(">I", photo[at : at + 4])[0]
                chunks.append(photo[at + 4 : at + 8 + size])
                at += 12 + size
            found.append(joined(*chunks))
    return found


def _change_chunks(random: Random, data: bytes) -> bytes:
    """Change, move, repeat or remove a chunk."""
    chunks = parts_of(data, 1 + data.count(BETWEEN))
    place = random.randrange(len(chunks))
    how = random.random()
    if how < 0.5:
        # Also what is compressed: the pixels, a profile, a text.
        kind, content = chunks[place][:4], chunks[place][4:]
        if kind == b"IDAT":
            try:
                content = zlib.compress(change_bytes(random, zlib.decompress(content)), 1)
            except zlib.error:
                content = change_bytes(random, content)
            chunks[place] = kind + content
        else:
            chunks[place] = change_bytes(random, chunks[place])
    elif how < 0.7:
        chunks.insert(random.randrange(len(chunks)), chunks[place])
    elif how < 0.85 and len(chunks) > 1:
        del chunks[place]
    else:
        kind = random.choice((b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT"))
        chunks.insert(place, kind + random.randbytes(random.randint(0, 30)))
    return joined(*chunks)


REFUSED = (UnreadableImageError,)
TARGETS = {
    "images.decode": Target(_quickly(_decoded), _photos, REFUSED),
    "images.both_ways": Target(_quickly(_both_ways), _photos, REFUSED),
    "images.exif": Target(_quickly(_metadata), _exif_seeds, ()),
    "images.png": Target(_quickly(_png), _png_seeds, REFUSED, _change_chunks),
    "images.check": Target(
        _quickly(_examined), lambda: [bytes([2]) + photo for photo in _photos()], ()
    ),
    "images.served": Target(
        _quickly(_served), _photos, (UnreadableImageError, ToolkitRefusal, Refusal)
    ),
}
