"""The photos of a split that lie in shards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sagelight.bundle.preprocessing import Preprocessing, decode
from sagelight.data.index import Sample
from sagelight.data.shards import Shards


@dataclass(frozen=True)
class ShardPhotos:
    """Each photo is one read of its bytes; loader processes share the archives' copies, and not their open files."""

    shards: Shards
    samples: list[Sample]
    preprocessing: Preprocessing

    def photo(self, position: int) -> Tensor:
        pixels: Tensor = F.pil_to_tensor(decode(self._content(position)))
        return pixels

    def served(self, position: int) -> NDArray[np.uint8]:
        return self.preprocessing(self._content(position))

    def _content(self, position: int) -> bytes:
        return self.shards.read(self.samples[position].path)
