"""What can be chosen about cached features, and when they may be used. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagelight.config.setting import setting
from sagelight.errors import ConfigError

if TYPE_CHECKING:
    from sagelight.config.schema import Config
    from sagelight.data.settings import AugmentSettings


@dataclass
class FeatureSettings:
    cache: str = setting(
        "auto",
        "Compute what a frozen backbone gives once and train the head on that. auto: where nothing else changes; "
        "on: refuse where it cannot be; off: never.",
        choices=("auto", "on", "off"),
    )
    views: int = setting(
        0,
        "Augmented views of each training photo that are computed once and drawn from; 0: training photos are "
        "cached without augmentation only.",
        least=0,
        most=100,
    )
    dtype: str = setting(
        "float32",
        "How features are stored; float16 takes half the room and rounds them.",
        choices=("float32", "float16"),
    )
    folder: str | None = setting(
        None, "Where features are kept for later runs; null is ~/.cache/sagelight/features."
    )
    max_gb: float = setting(
        10.0, "Room for all of them; those unused for longest make way.", above=0
    )


def reason_against(config: Config) -> str | None:
    """Why features of this configuration cannot be computed once; None where they can.

    With every layer of the backbone frozen its BatchNorm and dropout are in eval mode, so what it gives depends on
    the photo and its variation alone.
    """
    augment = config.augment
    if config.finetune.name != "head":
        return (
            f"finetune={config.finetune.name} changes the backbone while it trains. "
            "Type finetune=head"
        )
    if augment.mixup_alpha > 0 or augment.cutmix_alpha > 0:
        return (
            f"augment={augment.name} blends photos before they reach the backbone, anew in every batch. "
            "Type augment=none, or another one with features.views=4"
        )
    if not is_fixed(augment) and config.features.views == 0:
        return (
            f"augment={augment.name} varies each photo in every epoch. Type augment=none, or features.views=4 to draw "
            "from four variations of each"
        )
    return None


def uses_cache(config: Config) -> bool:
    """Whether this configuration trains on cached features.

    Raises:
        ConfigError: `features.cache=on` where they cannot be used, with the reason.
    """
    if config.features.cache == "off":
        return False
    reason = reason_against(config)
    if reason is not None and config.features.cache == "on":
        raise ConfigError(f"features.cache=on: {reason}, or features.cache=off.")
    return reason is None


def is_fixed(augment: AugmentSettings) -> bool:
    """Whether a training photo looks the same in every epoch."""
    changes = (
        augment.horizontal_flip,
        augment.rotation,
        augment.rand_augment,
        augment.color_jitter,
        augment.random_erasing,
    )
    return augment.crop_scale == augment.crop_ratio == 1 and not any(changes)


def views_of(config: Config) -> int:
    """Views of each training photo: 1 where all its epochs look the same."""
    return 1 if is_fixed(config.augment) else config.features.views
