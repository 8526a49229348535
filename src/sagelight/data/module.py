"""The LightningDataModule over an index of photos."""

from __future__ import annotations

from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.augment import class_weights, least_side, training_transform
from sagelight.data.continuing import EpochBatches, EpochLoader, WholeBatches
from sagelight.data.dataset import (
    Batch,
    Draw,
    EpochSampler,
    Photo,
    PhotoDataset,
    Shares,
    Unreadable,
    collate,
    move,
)
from sagelight.data.index import ImageIndex
from sagelight.data.resized import ResizedCache, open_cache
from sagelight.data.settings import (
    PHOTOS_OF_A_PROCESS,
    AugmentSettings,
    DataSettings,
    least_batch,
    shuffled_shards,
)
from sagelight.data.shards.order import InOrder, ShardSampler
from sagelight.data.sources import PhotoFiles, PhotoSource
from sagelight.errors import ConfigError
from sagelight.processes import Processes

Loader = DataLoader[Photo | Unreadable]


class PhotoDataModule(pl.LightningDataModule):
    """Batches of uint8 photos: varied and shuffled for training, preprocessed as served for the rest.

    Validation while training goes on takes the sooner way to nearly those pixels, unless `exact_validation`; every figure that is kept, and the
    features of a frozen backbone, come from `eval_loader` and `photo_loader`, bit for bit as served.

    With several processes a batch is that of all of them together, and each loads its share.
    """

    def __init__(
        self,
        index: ImageIndex,
        data: DataSettings,
        augment: AugmentSettings,
        preprocessing: Preprocessing,
        seed: int,
        processes: Processes = Processes(),  # noqa: B008, it is frozen
        *,
        exact_validation: bool = False,
    ) -> None:
        super().__init__()
        self.index = index
        self.settings = data
        self.preprocessing = preprocessing
        self.augment = augment
        self.seed = seed
        self.processes = processes
        self.exact_validation = exact_validation
        self._served: dict[str, Dataset[Photo | Unreadable]] = {}
        self._resized: ResizedCache | None = None
        photos = len(index.splits["train"])
        if data.batch_size > photos:
            raise ConfigError(
                f"data.batch_size={data.batch_size} is larger than the {photos} training photos. "
                f"Type data.batch_size={max(1, min(32, photos // 4))}."
            )
        if processes.size > 1 and data.batch_size < least_batch(processes.size):
            raise ConfigError(
                f"data.batch_size={data.batch_size} is divided over {processes.size} processes, and each needs "
                f"{PHOTOS_OF_A_PROCESS} photos. Type data.batch_size={least_batch(processes.size)} or more."
            )

    def serve(self, datasets: Mapping[str, Dataset[Photo | Unreadable]]) -> None:
        """Let these stand for the photos of their splits, position by position."""
        self._served = dict(datasets)

    def dataset(self, split: str, *, exact: bool = True) -> Dataset[Photo | Unreadable]:
        """What stands for the photos of a split in training and evaluation: themselves, unless others are served."""
        return self._served.get(split) or self.photos(split, exact=exact)

    def photos(self, split: str, *, exact: bool = True) -> PhotoDataset:
        """The photos of a split; those of `train` are varied when drawn by the epoch sampler."""
        transform = None
        if split == "train":
            transform = training_transform(self.augment, self.settings.image_size)
        return PhotoDataset(self._source(split), transform, exact=exact)

    def open_cache(self) -> None:
        """Read photos resized from now on where `data.cache` says so, resizing them unless they are there.

        Raises:
            RunError: the disk has not enough room for them, or cannot be written.
        """
        self._resized = open_cache(self.settings, self.index, self.preprocessing)

    def _source(self, split: str) -> PhotoSource:
        samples, decoder = self.index.splits[split], self.settings.decoder
        if self._resized is not None:
            return self._resized.source(samples)
        needed = least_side(self.augment, self.settings.image_size)
        return PhotoFiles(self.index.source, samples, self.preprocessing, decoder, needed)

    def train_dataloader(self) -> Loader:
        dataset = self.dataset("train")
        weights = None
        if self.settings.sampler == "balanced":
            by_class = class_weights(self.index.counts("train"))
            samples = self.index.splits["train"]
            weights = by_class[torch.tensor([s.target for s in samples])].double()
        count = len(self.index.splits["train"])
        sampler = self._epochs(count, weights)
        least = least_batch(self.processes.size)
        batches = WholeBatches(sampler, self.settings.batch_size, least)
        share = EpochBatches(sampler, batches, self.processes.rank, self.processes.size)
        return self._loader(dataset, EpochLoader, batch_sampler=share)

    def _epochs(self, count: int, weights: Tensor | None) -> EpochSampler:
        shards = self.index.shards
        window, _ = shuffled_shards(self.settings)
        if shards is None or not window:
            return EpochSampler(count, self.seed, weights)
        if weights is not None:
            raise ConfigError(
                f"data.sampler=balanced draws from all photos, data.shuffle_shards={window} from a few shards at a time. "
                "Type data.shuffle_shards=0, or loss=balanced in place of the sampler."
            )
        return ShardSampler(shards, self.index.splits["train"], self.seed, window)

    def _in_order(self, split: str) -> range | InOrder:
        shards, samples = self.index.shards, self.index.splits[split]
        if shards is None or split in self._served:
            return range(len(samples))
        return InOrder(shards, samples)

    def val_dataloader(self) -> Loader:
        positions = self._in_order("validation")
        size = int(self.settings.eval_batch_size)
        batches = BatchSampler(positions, size, drop_last=False)
        share: Shares[int] = Shares(batches, self.processes.rank, self.processes.size)
        return self._loader(
            self.dataset("validation", exact=self.exact_validation), batch_sampler=share
        )

    def eval_loader(self, split: str) -> Loader:
        """Every photo of a split once, in order."""
        size, positions = int(self.settings.eval_batch_size), self._in_order(split)
        return self._loader(self.dataset(split), batch_size=size, sampler=positions)

    def photo_loader(self, split: str, draws: list[Draw] | None = None) -> Loader:
        """The photos themselves, whatever is served for them: each draw once, or every photo in order."""
        positions = range(len(self.index.splits[split])) if draws is None else draws
        size = int(self.settings.eval_batch_size)
        return self._loader(self.photos(split), batch_size=size, sampler=positions)

    def _loader(
        self,
        dataset: Dataset[Photo | Unreadable],
        kind: type[Loader] = DataLoader,
        **batching: object,
    ) -> Loader:
        # What is served lies in memory already.
        workers = int(self.settings.num_workers) if isinstance(dataset, PhotoDataset) else 0
        return kind(
            dataset,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=int(self.settings.prefetch) if workers else None,
            pin_memory=self.settings.pin_memory == "on",
            collate_fn=collate,
            **batching,  # type: ignore[arg-type]
        )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return move(batch, lambda tensor: tensor.to(device, non_blocking=True))
