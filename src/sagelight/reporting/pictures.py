"""Thumbnails that travel inside the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from sagelight.bundle.preprocessing import UnreadableImageError, decode
from sagelight.data.shards.archives import Shards, photo_content

SIDE = 128
QUALITY = 72
# Below this side a picture is shown as its pixels, and compressed almost without loss.
SMALL = 64


@dataclass(frozen=True)
class Picture:
    """A JPEG as a `data:` URI, or None and what is the matter with the file."""

    uri: str | None
    pixelated: bool = False
    lack: str = ""


def thumbnail(data_root: Path | Shards | None, file: str) -> Picture:
    """The photo at `data_root/file`, at most 128 pixels on its longer side."""
    if data_root is None:
        return Picture(None, lack="not available")
    content = photo_content(data_root, file)
    if isinstance(content, Path) and not content.is_file():
        return Picture(None, lack="missing")
    try:
        image = decode(content)
    except UnreadableImageError:
        return Picture(None, lack="unreadable")
    return inline(image)


def inline(image: Image.Image, side: int = SIDE) -> Picture:
    """A picture as it travels, at most `side` pixels on its longer side."""
    small = max(image.size) < SMALL
    copy = image.copy()
    copy.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Picture(_jpeg(copy, 95 if small else QUALITY), small)


def _jpeg(image: Image.Image, quality: int) -> str:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True, subsampling=0 if quality > 90 else 2)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
