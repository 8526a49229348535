"""The order in which photos are taken from shards, so that few archives are needed at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from sagelight.data.dataset import Draw, EpochSampler, derived_seed
from sagelight.data.index import Sample
from sagelight.data.shards.archives import Shards


class ShardSampler(EpochSampler):
    """Archives in random order, and photos in random order within `window` archives at a time.

    Seed and epoch decide both, and every photo comes once, as with `EpochSampler`.
    """

    def __init__(self, shards: Shards, samples: Sequence[Sample], seed: int, window: int) -> None:
        super().__init__(len(samples), seed)
        self._shards, self._window = shards, window
        self._archives = _by_archive(shards, samples)

    @property
    def identity(self) -> str:
        """What decides the order, for telling two apart."""
        return f"{super().identity}, within {self._window} of {len(self._archives)} shards"

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        numbers = list(self._archives)
        order = [numbers[n] for n in torch.randperm(len(numbers), generator=generator).tolist()]
        place = 0
        for start in range(0, len(order), self._window):
            self._shards.ahead(order[start : start + 2 * self._window])
            near = torch.cat([self._archives[n] for n in order[start : start + self._window]])
            for position in near[torch.randperm(len(near), generator=generator)].tolist():
                yield Draw(position, derived_seed(self.seed, self.epoch, place))
                place += 1


class InOrder(Sampler[int]):
    """Every photo in its order; the archive after the one that is read is fetched ahead."""

    def __init__(self, shards: Shards, samples: Sequence[Sample]) -> None:
        self._shards = shards
        self._numbers = _numbers(shards, samples)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[int]:
        order = list(dict.fromkeys(self._numbers))
        following = dict(zip(order, [order[n : n + 2] for n in range(len(order))], strict=True))
        last = -1
        for position, number in enumerate(self._numbers):
            if number != last:
                self._shards.ahead(following[number])
                last = number
            yield position


def _by_archive(shards: Shards, samples: Sequence[Sample]) -> dict[int, Tensor]:
    """Positions of the photos in each archive."""
    found: dict[int, list[int]] = {}
    for position, number in enumerate(_numbers(shards, samples)):
        found.setdefault(number, []).append(position)
    return {number: torch.tensor(found[number]) for number in sorted(found)}


def _numbers(shards: Shards, samples: Sequence[Sample]) -> list[int]:
    rows = [shards.rows[sample.path] for sample in samples]
    numbers: list[int] = shards.shard[rows].tolist() if rows else []
    return numbers
