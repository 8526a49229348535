"""From image bytes to the pixels that the network sees: one spec for evaluation and serving.

Needs Pillow and numpy only, and imports nothing of sagelight: a bundle carries a copy of this file
as `code/preprocessing.py`, so an endpoint computes bit for bit what evaluation computed.
"""

from __future__ import annotations

import re
import struct
import warnings
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 120_000_000
# A thinner picture would grow beyond any memory when its short side is scaled up.
MAX_ASPECT = 100
# Pillow's other readers are seldom used for photos, and one of them (EPS) starts a program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM")
# Pillow's readers answer damaged bytes with any of these; found by changing random bytes.
DECODE_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    SyntaxError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PILLOW_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class UnreadableImageError(ValueError):
    """The bytes are not an image that can be decoded in full."""


def decode(source: bytes | str | Path) -> Image.Image:
    """Decode an image file to an upright 8-bit RGB picture.

    The first frame of an animation is taken, EXIF orientation is applied, 16-bit samples are
    reduced to their high byte, and transparency is laid over white.

    Args:
        source: the file's bytes or its path.

    Raises:
        UnreadableImageError: not an image of a known format, truncated, more than 120 million
            pixels, or more than 100 times as long as wide.
    """
    ignore_remarks()
    try:
        file = BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            refuse_size(*image.size)
            image.load()
            return upright_rgb(image)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise UnreadableImageError(f"not an image of a known format ({known})") from error
    except DECODE_ERRORS as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as `decode` gives it; giving it twice changes nothing."""
    turn = orientation(image)
    picture = _to_rgb(image if turn is None else image.transpose(turn))
    # An orientation that stayed here would be applied again.
    picture.info = {}
    return picture


def orientation(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright, as its metadata say; None where it is."""
    try:
        number: Any = image.getexif().get(ORIENTATION)
        return TURNS.get(number)
    except DECODE_ERRORS:
        return None  # Damaged metadata spoils no pixel.


def ignore_remarks() -> None:
    """Keep Pillow from warning of what spoils no pixel."""
    # Pillow's remarks (odd metadata, many pixels) concern none of the pixels. The filter stays:
    # catch_warnings of one thread undoes that of another.
    if PILLOW_IGNORED not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def refuse_size(width: int, height: int) -> None:
    """Raise UnreadableImageError for a size that no photo has."""
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImageError(f"{width} x {height} pixels are too thin for a photo")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # convert("RGB") would clip 16-bit samples to 255 instead of scaling them.
        high_byte = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255)
        return Image.fromarray(high_byte.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Preprocessing:
    """Resize the short side, crop the centre, give uint8; the graph scales and normalises.

    Attributes:
        resize_size: pixels of the short side after bilinear antialiased resizing.
        image_size: side in pixels of the centred square that is kept; at most `resize_size`.
        mean, std: of the three channels, for pixels scaled to 0..1; applied inside `model.onnx`.
    """

    resize_size: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 0 < self.image_size <= self.resize_size:
            raise ValueError(
                f"image_size {self.image_size} must be 1 or more and at most "
                f"resize_size {self.resize_size}"
            )

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """The size that makes the short side `resize_size` pixels, as torchvision's `Resize` rounds."""
        short, long = min(width, height), max(width, height)
        scaled = int(self.resize_size * long / short)
        return (self.resize_size, scaled) if width <= height else (scaled, self.resize_size)

    def resize(self, image: Image.Image) -> Image.Image:
        """Scale the short side to `resize_size` pixels."""
        return image.resize(self.scaled(*image.size), Image.Resampling.BILINEAR)

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the centred square in a picture of that size."""
        return round((width - self.image_size) / 2.0), round((height - self.image_size) / 2.0)

    def crop(self, image: Image.Image) -> Image.Image:
        """The centred square, placed as torchvision's `CenterCrop` rounds."""
        left, top = self.corner(image.width, image.height)
        return image.crop((left, top, left + self.image_size, top + self.image_size))

    def __call__(self, source: bytes | str | Path | Image.Image) -> NDArray[np.uint8]:
        """Pixels of shape (3, image_size, image_size), uint8, RGB.

        Raises:
            UnreadableImageError: see `decode`.
        """
        image = upright_rgb(source) if isinstance(source, Image.Image) else decode(source)
        pixels = np.asarray(self.crop(self.resize(image)), dtype=np.uint8)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Preprocessing:
        mean, std = (_three(entries[key]) for key in ("mean", "std"))
        return cls(int(entries["resize_size"]), int(entries["image_size"]), mean, std)


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
