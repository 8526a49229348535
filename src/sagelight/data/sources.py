"""Where the photos of a split come from: upright RGB pixels by position."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sagelight.bundle.preprocessing import Preprocessing, decode
from sagelight.data.index import Sample


class PhotoSource(Protocol):
    """The photos of one split; loader processes get copies of it."""

    @property
    def samples(self) -> list[Sample]:
        """What the photos are called and show, by position."""

    def photo(self, position: int) -> Tensor:
        """A whole photo as training varies it, uint8 (3, H, W).

        Raises:
            UnreadableImageError: it cannot be decoded.
        """

    def served(self, position: int) -> NDArray[np.uint8]:
        """Its pixels bit for bit as serving computes them, (3, image_size, image_size).

        Raises:
            UnreadableImageError: it cannot be decoded.
        """


@dataclass(frozen=True)
class PhotoFiles:
    """A file for each photo, below `root`."""

    root: Path
    samples: list[Sample]
    preprocessing: Preprocessing

    def photo(self, position: int) -> Tensor:
        pixels: Tensor = F.pil_to_tensor(decode(self._path(position)))
        return pixels

    def served(self, position: int) -> NDArray[np.uint8]:
        return self.preprocessing(self._path(position))

    def _path(self, position: int) -> Path:
        return self.root / self.samples[position].path
