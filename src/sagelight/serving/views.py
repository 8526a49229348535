"""Test-time augmentation: several views of one image, whose probabilities are averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sagelight.bundle.preprocessing import Preprocessing, decode, upright_rgb

Source = bytes | str | Path | Image.Image

# By the name of `tta`: how many views it takes of an image.
VIEWS = {"none": 1, "flip": 2, "crops": 10}


def take_views(preprocessing: Preprocessing, source: Source, kind: str) -> NDArray[np.uint8]:
    """The views of an image, of which the first is the one that evaluation sees.

    Args:
        kind: `none`, that one view; `flip`, it and its mirror image; `crops`, the centre and the four corners of the
            resized image, and their mirror images ("ten-crop" of Krizhevsky et al. 2012).

    Returns:
        uint8 of shape (V, 3, image_size, image_size), V as in `VIEWS`.

    Raises:
        UnreadableImageError: see `preprocessing.decode`.
    """
    if kind != "crops":
        found = preprocessing(source)[np.newaxis]
    else:
        image = upright_rgb(source) if isinstance(source, Image.Image) else decode(source)
        resized = preprocessing.resize(image)
        crops = [preprocessing.crop(resized), *_corners(resized, preprocessing.image_size)]
        found = np.stack([np.asarray(crop).transpose(2, 0, 1) for crop in crops])
    return found if kind == "none" else np.concatenate([found, found[..., ::-1]])


def _corners(image: Image.Image, side: int) -> list[Image.Image]:
    right, bottom = image.width - side, image.height - side
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    return [image.crop((x, y, x + side, y + side)) for x, y in corners]
