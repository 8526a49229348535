"""Where the photos of a split come from: upright RGB pixels by position."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sagelight.bundle.preprocessing import Preprocessing, decode
from sagelight.data.decoding import as_tensor, decode_tensor, decode_view
from sagelight.data.index import Sample
from sagelight.data.shards.archives import Shards, photo_content


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


@runtime_checkable
class ViewedSource(PhotoSource, Protocol):
    """A source that has a sooner way to nearly the served pixels."""

    def viewed(self, position: int) -> Tensor:
        """What `served` gives, sooner: within a level, or within 45 dB where the photo is much larger.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """


@dataclass(frozen=True)
class PhotoFiles:
    """The photos below a folder, a file each, or in shards.

    Attributes:
        decoder: `pillow` decodes every photo in full with Pillow; `torchvision` as `sagelight.data.decoding` says.
        least_side: pixels of the short side that `photo` keeps, see `decode_tensor`.
    """

    root: Path | Shards
    samples: list[Sample]
    preprocessing: Preprocessing
    decoder: str = "torchvision"
    least_side: int | None = None

    def photo(self, position: int) -> Tensor:
        if self.decoder == "pillow":
            return as_tensor(decode(self._content(position)))
        return decode_tensor(self._content(position), self.least_side)

    def viewed(self, position: int) -> Tensor:
        if self.decoder == "pillow":
            return torch.from_numpy(self.served(position))
        return decode_view(self._content(position), self.preprocessing)

    def served(self, position: int) -> NDArray[np.uint8]:
        return self.preprocessing(self._content(position))

    def _content(self, position: int) -> Path | bytes:
        return photo_content(self.root, self.samples[position].path)
