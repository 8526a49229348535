"""From image bytes to upright uint8 tensors, by whichever reader is sooner at the pixels that Pillow gives."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import decode_jpeg

from sagelight.bundle.preprocessing import (
    DECODE_ERRORS,
    FORMATS,
    Preprocessing,
    decode,
    ignore_remarks,
    orientation,
    refuse_size,
    upright_rgb,
)

# The parts of its size that a JPEG can be decoded at, which leaves out the frequencies that only the whole has.
REDUCTIONS = (8, 4, 2)
# A photo reduced to at least so many times the evaluation's size gives, resized, 45 dB or more against the whole one:
# 30 photos with detail in every pixel had 45.3 dB at least, and less at 2.5.
MARGIN = 2.75
# Photos that are scaled by less are resized by Pillow: torch's weights have fewer digits, which shows most near 1.
SHRUNK = 0.7
# An MPO is what phones write: a JPEG with further pictures behind it.
JPEGS = ("JPEG", "MPO")
# torchvision answers damaged bytes with RuntimeError.
REFUSALS = (*DECODE_ERRORS, RuntimeError)
TORCHVISION_REMARK = (
    "ignore",
    re.compile(r"The image decoding and encoding capabilities", re.IGNORECASE),
    DeprecationWarning,
    None,
    0,
)
TURNS: dict[Image.Transpose, Callable[[Tensor], Tensor]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda pixels: pixels.flip(-1),
    Image.Transpose.ROTATE_180: lambda pixels: pixels.flip(-2, -1),
    Image.Transpose.FLIP_TOP_BOTTOM: lambda pixels: pixels.flip(-2),
    Image.Transpose.TRANSPOSE: lambda pixels: pixels.transpose(-2, -1),
    Image.Transpose.ROTATE_270: lambda pixels: pixels.transpose(-2, -1).flip(-1),
    Image.Transpose.TRANSVERSE: lambda pixels: pixels.transpose(-2, -1).flip(-2, -1),
    Image.Transpose.ROTATE_90: lambda pixels: pixels.transpose(-2, -1).flip(-2),
}


def decode_tensor(source: bytes | Path, least_side: int | None = None) -> Tensor:
    """Decode an image file to an upright RGB tensor, uint8 (3, H, W), channels innermost in memory.

    The pixels are those of `sagelight.bundle.preprocessing.decode`. Pillow reads the header; torchvision decodes plain
    JPEGs, and Pillow all else, where torchvision would refuse, read other pixels, or (PNG) be no sooner.

    Args:
        source: the file's bytes or its path.
        least_side: a JPEG that is larger is decoded at a half, quarter or eighth of its size, whichever is the
            smallest with a short side of so many pixels or more. None keeps its size.

    Raises:
        UnreadableImageError: where `decode` does, in its words.
    """
    pixels = _quickly(source, lambda image, content: _photo(image, content, least_side))
    return as_tensor(decode(source)) if pixels is None else pixels


def decode_view(source: bytes | Path, preprocessing: Preprocessing) -> Tensor:
    """What `preprocessing` makes of an image file, sooner: uint8 (3, image_size, image_size).

    It is within one level of that, 0.01 levels in the mean of photos. Of a JPEG with a short side of 5.5 times
    `resize_size` or more it is within 45 dB, because that is reduced while it is decoded.

    Raises:
        UnreadableImageError: where `preprocessing` does, in its words.
    """
    pixels = _quickly(source, lambda image, content: _view(image, content, preprocessing))
    return torch.from_numpy(preprocessing(source)) if pixels is None else pixels


def as_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W), channels innermost in memory."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _quickly(source: bytes | Path, read: Callable[[Image.Image, bytes], Tensor]) -> Tensor | None:
    """What `read` makes of a plain JPEG, its header read, and its bytes; None where Pillow has the last word."""
    ignore_remarks()
    with suppress(*REFUSALS):
        content = source if isinstance(source, bytes) else source.read_bytes()
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            refuse_size(*image.size)
            if image.format in JPEGS and image.mode in ("L", "RGB"):
                return read(image, content)
    return None


def _photo(image: Image.Image, content: bytes, least_side: int | None) -> Tensor:
    part = _reduction(image, least_side)
    if part > 1:
        return as_tensor(upright_rgb(_reduced(image, part)))
    return _turned(_decoded(content), orientation(image))


def _view(image: Image.Image, content: bytes, preprocessing: Preprocessing) -> Tensor:
    part = _reduction(image, math.ceil(MARGIN * preprocessing.resize_size))
    if part > 1:
        size, turn = preprocessing.scaled(*image.size), orientation(image)
        # A reduced picture has whole pixels, the last of which may stand for less than one.
        box = (0, 0, image.width / part, image.height / part)
        picture = _reduced(image, part).resize(size, Image.Resampling.BILINEAR, box)
        return _cropped(_turned(as_tensor(picture.convert("RGB")), turn), preprocessing)
    pixels = _turned(_decoded(content), orientation(image))
    return _resized_crop(pixels, preprocessing)


def _decoded(content: bytes) -> Tensor:
    if TORCHVISION_REMARK not in warnings.filters:
        # As Pillow's: the filter stays, because catch_warnings of one thread undoes that of another.
        warnings.filterwarnings(
            "ignore", "The image decoding and encoding capabilities", DeprecationWarning
        )
    pixels: Tensor = decode_jpeg(
        torch.frombuffer(bytearray(content), dtype=torch.uint8), mode="RGB"
    )
    return pixels


def _reduction(image: Image.Image, least_side: int | None) -> int:
    short = min(image.size) if least_side else 0
    return next((part for part in REDUCTIONS if least_side and short // part >= least_side), 1)


def _reduced(image: Image.Image, part: int) -> Image.Image:
    image.draft(image.mode, (image.width // part, image.height // part))
    image.load()
    return image


def _turned(pixels: Tensor, turn: Image.Transpose | None) -> Tensor:
    if turn is None:
        return pixels
    return TURNS[turn](pixels).permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _resized_crop(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    height, width = pixels.shape[1:]
    if preprocessing.resize_size > SHRUNK * min(height, width):
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        return as_tensor(preprocessing.crop(preprocessing.resize(picture)))
    if height > 2 * width:
        # Pillow shrinks the height of such a photo first, torch the width of any; the order shows in the rounding.
        return _shrunk_crop(pixels.transpose(1, 2), preprocessing).transpose(1, 2)
    return _shrunk_crop(pixels, preprocessing)


def _shrunk_crop(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The centre of the photo when it is shrunk; what lies below and to the right of it is not computed."""
    height, width = pixels.shape[1:]
    size, side = preprocessing.scaled(width, height), preprocessing.image_size
    left, top = preprocessing.corner(*size)
    scale = (size[1] / height, size[0] / width)
    # The filter of the last pixel that is kept ends half a pixel behind the next one.
    rows, columns = (
        math.ceil((end + 1) / factor) + 2
        for end, factor in zip((top + side, left + side), scale, strict=True)
    )
    partly = rows < height and columns < width
    inner = pixels.permute(1, 2, 0)
    part = (inner[:rows, :columns] if partly else inner).contiguous()
    shrunk = interpolate(
        part[None].permute(0, 3, 1, 2),
        size=None if partly else size[::-1],
        scale_factor=scale if partly else None,
        mode="bilinear",
        antialias=True,
    )
    return shrunk[0, :, top : top + side, left : left + side]


def _cropped(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    side = preprocessing.image_size
    left, top = preprocessing.corner(pixels.shape[2], pixels.shape[1])
    return pixels[:, top : top + side, left : left + side]
