"""Photos as tensors, the same whichever process loads them and in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, Sampler
from torchvision.transforms import v2

from sagelight.bundle.preprocessing import UnreadableImageError
from sagelight.data.index import Sample
from sagelight.data.sources import PhotoSource, ViewedSource

T = TypeVar("T")


@dataclass(frozen=True)
class Draw:
    """One photo of one epoch: its position in the split and the seed of its variation."""

    position: int
    seed: int


@dataclass(frozen=True)
class Photo:
    pixels: Tensor
    target: int
    position: int


@dataclass(frozen=True)
class Unreadable:
    path: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Images uint8 (B, 3, H, W), targets (B,), positions in the split (B,), and what could not be read."""

    images: Tensor
    targets: Tensor
    positions: Tensor
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def pin_memory(self) -> Batch:
        """The batch where a GPU can copy it from while the processor goes on; DataLoader asks for it by this name."""
        return move(self, Tensor.pin_memory)


class PhotoDataset(Dataset[Photo | Unreadable]):
    """The photos of one split. A photo that cannot be read is returned as its name and the reason."""

    def __init__(
        self, source: PhotoSource, transform: v2.Transform | None = None, *, exact: bool = True
    ) -> None:
        """
        Args:
            transform: how a photo is varied that an epoch's sampler drew; without it, it is as served.
            exact: whether a photo as served is that bit for bit, which every figure that is kept rests on. Otherwise it
                is as `viewed`, where the source has that.
        """
        self.source = source
        self.transform = transform
        self._look = source.viewed if not exact and isinstance(source, ViewedSource) else None

    @property
    def samples(self) -> list[Sample]:
        return self.source.samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Photo | Unreadable:
        position = draw.position if isinstance(draw, Draw) else draw
        sample = self.samples[position]
        try:
            return Photo(self._pixels(draw), sample.target, position)
        except UnreadableImageError as error:
            return Unreadable(sample.path, str(error))

    def _pixels(self, draw: Draw | int) -> Tensor:
        if self.transform is None or not isinstance(draw, Draw):
            position = draw.position if isinstance(draw, Draw) else draw
            if self._look is not None:
                return self._look(position)
            return torch.from_numpy(self.source.served(position))
        photo = self.source.photo(draw.position)
        with _seeded(draw.seed):
            varied: Tensor = self.transform(photo)
        return varied


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The processor's generator from a seed, and afterwards as it was: fork_rng takes 90 times as long."""
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(state)


class EpochSampler(Sampler[Draw]):
    """Photos in an order, and with variations, that depend on seed and epoch alone.

    With `weights`, as many photos as there are are drawn with replacement by those weights; without,
    every photo comes once. Lightning calls `set_epoch` before each epoch.
    """

    def __init__(self, size: int, seed: int, weights: Tensor | None = None) -> None:
        self.size = size
        self.seed = seed
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        if self.weights is None:
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.multinomial(
                self.weights, self.size, replacement=True, generator=generator
            )
        for place, position in enumerate(order.tolist()):
            yield Draw(position, derived_seed(self.seed, self.epoch, place))


class Shares(Sampler[list[T]]):
    """One process's share of every batch: each `size`-th of its photos, from the `rank`-th on.

    All processes see the same number of batches; a share may be one photo smaller than another's, or empty.
    Lightning finds the sampler that needs `set_epoch` as `sampler`.
    """

    def __init__(self, batches: BatchSampler, rank: int, size: int) -> None:
        self.batches = batches
        self.sampler = batches.sampler
        self.rank = rank
        self.size = size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[T]]:
        for batch in self.batches:
            yield cast("list[T]", batch[self.rank :: self.size])


def derived_seed(*parts: int | str) -> int:
    """A seed below 2**63 from several numbers, the same on every machine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def collate(photos: list[Photo | Unreadable]) -> Batch:
    """Stack what could be read; name what could not. A batch may come out shorter, or empty."""
    good = [photo for photo in photos if isinstance(photo, Photo)]
    bad = tuple(photo for photo in photos if isinstance(photo, Unreadable))
    images = (
        _stacked([photo.pixels for photo in good]) if good else torch.empty(0, dtype=torch.uint8)
    )
    targets = torch.tensor([photo.target for photo in good], dtype=torch.int64)
    positions = torch.tensor([photo.position for photo in good], dtype=torch.int64)
    return Batch(images, targets, positions, bad)


def _stacked(pixels: list[Tensor]) -> Tensor:
    first = pixels[0]
    if first.ndim == 3 and first.stride(0) == 1:
        # Decoders leave channels innermost, and convolutions are fastest so: turned twice, nothing is moved.
        return torch.stack([photo.permute(1, 2, 0) for photo in pixels]).permute(0, 3, 1, 2)
    return torch.stack(pixels)


def move(batch: Batch, place: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with its tensors on another device."""
    return Batch(
        place(batch.images), place(batch.targets), place(batch.positions), batch.unreadable
    )
