"""Features in place of photos: computed once by a frozen backbone, then served in the same order."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sagelight.config.schema import Config
from sagelight.data.dataset import Draw, Photo, PhotoDataset, Unreadable, derived_seed
from sagelight.data.index import SPLITS, photos_digest
from sagelight.data.module import PhotoDataModule
from sagelight.features.settings import uses_cache, views_of
from sagelight.features.store import FeatureStore
from sagelight.models.network import Network
from sagelight.progress import ShowsProgress, progress
from sagelight.store import cache_folder, unreadable_photos

# A change of what is stored, or of how it is computed, makes a new one.
FORMAT = 2


@dataclass(frozen=True)
class FeatureTable:
    """The features of one split: values (views, photos, width), and what could not be read, by position.

    Attributes:
        computed: photos that went through the backbone for it; 0 when it was there already.
    """

    values: NDArray[Any]
    unreadable: dict[int, str]
    computed: int


class FeatureDataset(Dataset[Photo | Unreadable]):
    """A split as features; a photo's variation decides which of its views is drawn."""

    def __init__(self, photos: PhotoDataset, table: FeatureTable) -> None:
        self.samples = photos.samples
        self.computed = table.computed
        self._unreadable = table.unreadable
        self._values = torch.from_numpy(np.array(table.values)).float()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Photo | Unreadable:
        position, seed = (draw.position, draw.seed) if isinstance(draw, Draw) else (draw, 0)
        sample = self.samples[position]
        reason = self._unreadable.get(position)
        if reason is not None:
            return Unreadable(sample.path, reason)
        features = self._values[seed % len(self._values), position]
        return Photo(features, sample.target, position)

    @property
    def whole(self) -> bool:
        """Whether every photo could be read."""
        return not self._unreadable

    def tensor(self) -> Tensor:
        """All features, float32 (views, photos, width)."""
        return self._values


def cache_features(
    config: Config, network: Network, data: PhotoDataModule, show: ShowsProgress = progress
) -> dict[str, FeatureDataset]:
    """Compute, or find, the features of every split, and let `data` serve them instead of photos.

    Returns:
        What is served, by split; empty where features are not cached.

    Raises:
        ConfigError: `features.cache=on` where they cannot be cached.
        RunError: they cannot be kept on the disk.
    """
    if not uses_cache(config):
        return {}
    store = FeatureStore(
        cache_folder(config.features.folder, "features"), config.features.max_gb * 1e9
    )
    weights = weights_digest(network)
    served = {}
    for split in SPLITS:
        if data.index.splits[split]:
            table = _table(config, network, data, split, store, weights, show)
            served[split] = FeatureDataset(data.photos(split), table)
    data.serve(served)
    return served


def weights_digest(network: Network) -> str:
    """Hex SHA-256 over the backbone's parameters and buffers, and how pixels are scaled for it."""
    found = hashlib.sha256()
    state = {**network.backbone.state_dict(), "mean": network.mean, "std": network.std}
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().numpy().tobytes())
    return found.hexdigest()


def _table(
    config: Config,
    network: Network,
    data: PhotoDataModule,
    split: str,
    store: FeatureStore,
    weights: str,
    show: ShowsProgress,
) -> FeatureTable:
    photos = data.photos(split)
    views = views_of(config) if split == "train" else 1
    shape = (views, len(photos), network.width)
    computed = 0

    def compute(target: NDArray[Any]) -> dict[str, Any]:
        nonlocal computed
        unreadable = _fill(target, config, network, data, split, show)
        computed = views * len(photos)
        return {"unreadable": unreadable}

    values, facts = store.get(
        _made_from(config, data, split, views, weights), shape, config.features.dtype, compute
    )
    return FeatureTable(values, unreadable_photos(facts), computed)


def _made_from(
    config: Config, data: PhotoDataModule, split: str, views: int, weights: str
) -> dict[str, Any]:
    varied = split == "train"
    paths = [sample.path for sample in data.index.splits[split]]
    return {
        "format": FORMAT,
        "backbone": config.model.backbone,
        "weights": weights,
        "precision": config.trainer.precision,
        "device": config.trainer.accelerator,
        "dtype": config.features.dtype,
        "image_size": config.data.image_size,
        # Training photos are cropped as training crops them, the others as serving does.
        "transform": asdict(config.augment) if varied else asdict(data.preprocessing),
        # What training crops is decoded as training decodes it; all else is as served.
        **({"decoder": config.data.decoder, "cache": config.data.cache} if varied else {}),
        "views": views,
        "photos": photos_digest(data.index, paths),
        "fingerprint": data.index.fingerprint,
        "split": split,
    }


def _fill(
    target: NDArray[Any],
    config: Config,
    network: Network,
    data: PhotoDataModule,
    split: str,
    show: ShowsProgress,
) -> dict[int, str]:
    """Run the backbone over every view of every photo; gives what could not be read, by position."""
    device = torch.device(config.trainer.accelerator)
    positions = {sample.path: n for n, sample in enumerate(data.index.splits[split])}
    unreadable: dict[int, str] = {}
    was_training, network = network.training, network.to(device).eval()
    for view, rows in enumerate(target):
        draws = [
            Draw(position, derived_seed("view", view, position)) for position in range(len(rows))
        ]
        loader = data.photo_loader(split, draws)
        label = f"features of {split}" + (f", view {view + 1}" if len(target) > 1 else "")
        for batch in show(loader, len(loader), label):
            unreadable |= {positions[photo.path]: photo.reason for photo in batch.unreadable}
            if len(batch):
                rows[batch.positions.numpy()] = _forward(
                    network, batch.images, device, config.trainer.precision
                )
    network.train(was_training)
    return unreadable


@torch.inference_mode()
def _forward(
    network: Network, images: Tensor, device: torch.device, precision: str
) -> NDArray[np.float32]:
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    with torch.autocast(device.type, half) if half else nullcontext():
        features = network.features(network.normalise(images))
    found: NDArray[np.float32] = features.float().cpu().numpy()
    return found
