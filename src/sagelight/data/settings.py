"""What can be chosen about the photos and how they are varied. No torch here: the cloud room reads it."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.config.setting import setting

# A single one cannot pass through BatchNorm in training.
PHOTOS_OF_A_PROCESS = 2


def least_batch(processes: int) -> int:
    """The fewest photos of a batch that `processes` can train on together."""
    return PHOTOS_OF_A_PROCESS * processes


@dataclass
class DataSettings:
    name: str = setting(
        "folder",
        "folder: your photos under data.root; digits: 1,797 scanned digits, written to data.root on first use.",
        choices=("folder", "digits"),
    )
    root: str | None = setting(
        None,
        "Folder of photos: train|validation|test/CLASS/photo.jpg, or CLASS/photo.jpg to be split.",
    )
    image_size: int = setting(224, "Side in pixels of the square that the network sees.", least=8)
    resize_size: int | str = setting(
        "auto",
        "Short side in pixels before the centre crop of evaluation; auto keeps torchvision's 256:224.",
        least=8,
    )
    batch_size: int = setting(32, "Photos in one training step.", least=1)
    eval_batch_size: int | str = setting(
        "auto", "Photos in one evaluation step; auto is twice data.batch_size.", least=1
    )
    num_workers: int | str = setting(
        "auto",
        "Loader processes; auto times some photos, and takes one for each core unless an epoch's loading is soon done.",
        least=0,
    )
    prefetch: int | str = setting(
        "auto",
        "Batches that each loader process has ready; auto is 2, and 4 where some photos take far longer than most.",
        least=1,
    )
    pin_memory: str = setting(
        "auto",
        "Load batches where a GPU can copy them from while it computes; auto is on with CUDA.",
        choices=("auto", "on", "off"),
    )
    decoder: str = setting(
        "torchvision",
        "torchvision: JPEGs by its decoder, large ones at a part of their size; pillow: every photo in full, as served.",
        choices=("torchvision", "pillow"),
    )
    normalize: str = setting(
        "imagenet",
        "Mean and standard deviation: imagenet's, or measured on the training photos of this dataset.",
        choices=("imagenet", "dataset"),
    )
    sampler: str = setting(
        "shuffle",
        "shuffle: every photo once an epoch; balanced: every class equally often.",
        choices=("shuffle", "balanced"),
    )
    validation_fraction: float = setting(
        0.15,
        "Share of each class cut off for validation where the folder has none.",
        above=0,
        most=0.5,
    )
    test_fraction: float = setting(
        0.15,
        "Share of each class cut off for the test where the folder has none.",
        above=0,
        most=0.5,
    )
    split_seed: int = setting(
        0, "Which photos a cut takes; the same number takes the same ones.", least=0
    )


@dataclass
class AugmentSettings:
    name: str = setting("light", "Name of the choice, for the record.")
    crop_scale: float = setting(
        0.5,
        "Smallest share of the photo's area that a random crop keeps; 1 keeps all.",
        above=0,
        most=1,
    )
    crop_ratio: float = setting(
        1.3333, "Largest change of aspect ratio by a random crop; 1 keeps it.", least=1, most=4
    )
    horizontal_flip: float = setting(
        0.5, "Probability of mirroring left and right.", least=0, most=1
    )
    rotation: float = setting(0.0, "Largest rotation in degrees, either way.", least=0, most=180)
    rand_augment: int = setting(
        0, "Operations of RandAugment on each photo; 0 is off.", least=0, most=14
    )
    rand_augment_magnitude: int = setting(
        9, "Strength of RandAugment's operations, 0 to 30.", least=0, most=30
    )
    color_jitter: float = setting(
        0.0, "Strength of random brightness, contrast and saturation.", least=0, most=1
    )
    random_erasing: float = setting(
        0.0, "Probability of blanking a random rectangle.", least=0, most=1
    )
    mixup_alpha: float = setting(
        0.0, "Beta parameter of mixup, which blends pairs of photos; 0 is off.", least=0
    )
    cutmix_alpha: float = setting(
        0.0,
        "Beta parameter of cutmix, which pastes a patch of one photo into another; 0 is off.",
        least=0,
    )
