"""Heat over a photo, as a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# From little heat to most, darkening all the way, so that it reads without colour vision, too.
RAMP = ((255, 237, 160), (254, 178, 76), (240, 59, 32), (140, 0, 38))
STRONGEST = 0.85
# Below 1, so that a little heat is seen; at 0.5 it would cover half of most photos.
FADING = 0.75
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """The photo in grey, coloured where the heat is: yellow for a little, dark red for the most.

    Args:
        pixels: uint8 (3, H, W), RGB.
        heat: (H, W) in 0..1.

    Returns:
        An RGB picture of W x H pixels. Without heat it is the photo in grey.
    """
    warm = heat.clip(0, 1)[..., np.newaxis]
    grey = np.tensordot(_LUMA, pixels.astype(np.float32), axes=1)[..., np.newaxis]
    opacity = STRONGEST * warm**FADING
    mixed = (1 - opacity) * grey + opacity * _colours(heat.clip(0, 1))
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


def photo(pixels: NDArray[np.uint8]) -> Image.Image:
    """Pixels (3, H, W) as a picture."""
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _colours(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    places = np.linspace(0, 1, len(RAMP))
    channels = [np.interp(heat, places, channel) for channel in zip(*RAMP, strict=True)]
    return np.stack(channels, axis=-1).astype(np.float32)
