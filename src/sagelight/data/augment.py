"""How training photos are varied: each on its own, and within a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from sagelight.data.settings import AugmentSettings

# A photo that is reduced while it is decoded keeps so many times the pixels that its smallest crop is made of: with
# that, the crop is within 45 dB of that of the whole photo, for photos with detail in every pixel.
SPARE = 1.5
FILL = [124, 116, 104]  # ImageNet's mean colour, where a rotation uncovers nothing.


def training_transform(settings: AugmentSettings, image_size: int) -> v2.Transform:
    """uint8 (3, H, W) of any size to uint8 (3, image_size, image_size), drawn from torch's generator."""
    ratio = settings.crop_ratio
    crop = v2.RandomResizedCrop(
        image_size, scale=(settings.crop_scale, 1.0), ratio=(1 / ratio, ratio)
    )
    steps: list[v2.Transform] = [ResizedCrop(crop)]
    if settings.horizontal_flip > 0:
        steps.append(v2.RandomHorizontalFlip(settings.horizontal_flip))
    if settings.rotation > 0:
        steps.append(v2.RandomRotation(settings.rotation, v2.InterpolationMode.BILINEAR, fill=FILL))
    if settings.rand_augment > 0:
        steps.append(
            v2.RandAugment(settings.rand_augment, settings.rand_augment_magnitude, fill=FILL)
        )
    if settings.color_jitter > 0:
        strength = settings.color_jitter
        steps.append(v2.ColorJitter(strength, strength, strength))
    if settings.random_erasing > 0:
        steps.append(v2.RandomErasing(settings.random_erasing))
    return v2.Compose(steps)


@dataclass(frozen=True)
class ResizedCrop:
    """What `drawn` makes of a photo, in two thirds of the time where its channels lie innermost in memory.

    A crop of such a photo has gaps, and is resized channel by channel; a copy without gaps is resized at once, and
    leaves channels innermost.
    """

    drawn: v2.RandomResizedCrop

    def __call__(self, photo: Tensor) -> Tensor:
        place = self.drawn.make_params([photo])
        top, left, height, width = (place[key] for key in ("top", "left", "height", "width"))
        crop = photo[:, top : top + height, left : left + width]
        if photo.stride(0) == 1:
            crop = crop.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        resized: Tensor = F.resize(crop, self.drawn.size, antialias=True)
        return resized


def least_side(settings: AugmentSettings, image_size: int) -> int:
    """The short side in pixels that a photo needs, so that no crop is enlarged."""
    return math.ceil(SPARE * image_size * math.sqrt(settings.crop_ratio / settings.crop_scale))


def batch_transform(settings: AugmentSettings, classes: int) -> v2.Transform | None:
    """Mixup and cutmix, one of them at random where both are on; None where both are off.

    Takes float images (B, 3, H, W) and class indices (B,); gives images and target shares (B, classes).
    """
    mixes: list[v2.Transform] = []
    if settings.mixup_alpha > 0:
        mixes.append(v2.MixUp(alpha=settings.mixup_alpha, num_classes=classes))
    if settings.cutmix_alpha > 0:
        mixes.append(v2.CutMix(alpha=settings.cutmix_alpha, num_classes=classes))
    if not mixes:
        return None
    return mixes[0] if len(mixes) == 1 else v2.RandomChoice(mixes)


def class_weights(counts: list[int]) -> Tensor:
    """Weights (C,) inverse to the number of photos, with mean 1 over the photos; 0 for empty classes."""
    numbers = torch.tensor(counts, dtype=torch.float32)
    present = int((numbers > 0).sum())
    weights = numbers.sum() / (present * numbers.clamp(min=1))
    return torch.where(numbers > 0, weights, torch.zeros_like(weights))
