"""Everything about the photos that is fixed before a network exists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.config.resolve import resolved_resize_size
from sagelight.data.index import ImageIndex, index_images
from sagelight.data.settings import DataSettings
from sagelight.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def open_index(data: DataSettings) -> ImageIndex:
    """Index the photos of `data.root`; the embedded digits are written there first when asked for.

    Raises:
        ConfigError: no `data.root`.
        DataError: see `index_images` and `open_shards`.
    """
    if data.root is None:
        raise ConfigError(
            "data.root is not set: which photos? Type data.root=DIR with one folder per class, "
            "or experiment=digits to try with digits that need no download."
        )
    if data.name == "shards":
        from sagelight.data.shards.opening import open_shards

        return open_shards(data)
    if data.name == "digits":
        from sagelight.data.digits import write_digits

        write_digits(Path(data.root))
    return index_images(
        data.root,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        split_seed=data.split_seed,
    )


def without(index: ImageIndex, paths: set[str]) -> ImageIndex:
    """The index less some photos; labels, fingerprint and the other photos' splits stay."""
    splits = {
        split: [sample for sample in samples if sample.path not in paths]
        for split, samples in index.splits.items()
    }
    return replace(index, splits=splits)


def choose_preprocessing(data: DataSettings, index: ImageIndex) -> Preprocessing:
    """The spec that evaluation and serving share; `data.normalize=dataset` measures the training photos."""
    spec = Preprocessing(
        resolved_resize_size(data.resize_size, data.image_size),
        data.image_size,
        IMAGENET_MEAN,
        IMAGENET_STD,
    )
    if data.normalize == "imagenet":
        return spec
    from sagelight.data.stats import channel_stats

    mean, std = channel_stats(index, spec)
    return replace(spec, mean=mean, std=std)
