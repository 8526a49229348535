"""The LightningDataModule over an index of photos."""

from __future__ import annotations

from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.augment import class_weights, least_side, training_transform
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
from sagelight.data.settings import (
    PHOTOS_OF_A_PROCESS,
    AugmentSettings,
    DataSettings,
    least_batch,
)
from sagelight.data.sources import PhotoFiles, PhotoSource
from sagelight.errors import ConfigError
from sagelight.processes import Processes

Loader = DataLoader[Photo | Unreadable]


class PhotoDataModule(pl.LightningDataModule):
    """Batches of uint8 photos: varied and shuffled for training, preprocessed as served for the rest.

    Validation while training goes on takes the sooner way to nearly those pixels; every figure that is kept, and the
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
    ) -> None:
        super().__init__()
        self.index = index
        self.settings = data
        self.preprocessing = preprocessing
        self.augment = augment
        self.seed = seed
        self.processes = processes
        self._served: dict[str, Dataset[Photo | Unreadable]] = {}
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

    def _source(self, split: str) -> PhotoSource:
        samples, decoder = self.index.splits[split], self.settings.decoder
        needed = least_side(self.augment, self.settings.image_size)
        return PhotoFiles(self.index.root, samples, self.preprocessing, decoder, needed)

    def train_dataloader(self) -> Loader:
        dataset = self.dataset("train")
        weights = None
        if self.settings.sampler == "balanced":
            by_class = class_weights(self.index.counts("train"))
            samples = self.index.splits["train"]
            weights = by_class[torch.tensor([s.target for s in samples])].double()
        count = len(self.index.splits["train"])
        sampler = EpochSampler(count, self.seed, weights)
        leftover = count % self.settings.batch_size
        batches = BatchSampler(
            sampler,  # type: ignore[arg-type]
            self.settings.batch_size,
            drop_last=leftover < least_batch(self.processes.size),
        )
        return self._loader(dataset, batch_sampler=self._share(batches))

    def val_dataloader(self) -> Loader:
        positions = range(len(self.index.splits["validation"]))
        size = int(self.settings.eval_batch_size)
        batches = BatchSampler(positions, size, drop_last=False)
        dataset = self.dataset("validation", exact=False)
        return self._loader(dataset, batch_sampler=self._share(batches))

    def _share(self, batches: BatchSampler) -> Shares[Draw | int]:
        return Shares(batches, self.processes.rank, self.processes.size)

    def eval_loader(self, split: str) -> Loader:
        """Every photo of a split once, in order."""
        return self._loader(self.dataset(split), batch_size=int(self.settings.eval_batch_size))

    def photo_loader(self, split: str, draws: list[Draw] | None = None) -> Loader:
        """The photos themselves, whatever is served for them: each draw once, or every photo in order."""
        positions = range(len(self.index.splits[split])) if draws is None else draws
        size = int(self.settings.eval_batch_size)
        return self._loader(self.photos(split), batch_size=size, sampler=positions)

    def _loader(self, dataset: Dataset[Photo | Unreadable], **batching: object) -> Loader:
        # What is served lies in memory already.
        workers = int(self.settings.num_workers) if isinstance(dataset, PhotoDataset) else 0
        return DataLoader(
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
