"""How training photos are varied: each on its own, and within a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from sagelight.data.settings import AugmentSettings

# A photo that is reduced while it is decoded keeps so many times the pixels that its smallest crop is made of: with
# that, the crop is within 45 dB of that of the whole photo, for photos with detail in every pixel.
SPARE = 1.5
# As torchvision's.
ATTEMPTS = 10
FILL = [124, 116, 104]  # ImageNet's mean colour, where a rotation uncovers nothing.


def training_transform(settings: AugmentSettings, image_size: int) -> v2.Transform:
    """uint8 (3, H, W) of any size to uint8 (3, image_size, image_size), drawn from torch's generator."""
    view = RandomView(
        image_size, settings.crop_scale, settings.crop_ratio, settings.horizontal_flip
    )
    steps: list[Callable[[Tensor], Tensor]] = [view]
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
class RandomView:
    """A random crop, resized to a square, and mirrored or not; distributed as by torchvision's RandomResizedCrop.

    All that is random is one call of torch's generator, because dozens of small ones take a third of the time that the
    resizing takes.

    Attributes:
        scale: the smallest share of the area.
        ratio: the largest change of the aspect ratio.
        flip: the probability of mirroring left and right.
    """

    side: int
    scale: float
    ratio: float
    flip: float

    def __call__(self, photo: Tensor) -> Tensor:
        mirrored, *numbers = torch.rand(1 + 4 * ATTEMPTS).tolist()
        top, left, height, width = self.box(photo.shape[1], photo.shape[2], numbers)
        crop = photo[:, top : top + height, left : left + width]
        if photo.stride(0) == 1:
            # A crop has gaps in memory, and is resized channel by channel; a copy without gaps, at once.
            crop = crop.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        view: Tensor = F.resize(crop, [self.side, self.side], antialias=True)
        return view.flip(-1) if mirrored < self.flip else view

    def box(self, height: int, width: int, numbers: list[float]) -> tuple[int, int, int, int]:
        """Top, left, height and width of the first crop that fits, from random numbers in [0, 1), four for each."""
        for area, shape, down, right in zip(*(numbers[n::4] for n in range(4)), strict=True):
            pixels = height * width * (self.scale + (1 - self.scale) * area)
            ratio = self.ratio ** (2 * shape - 1)
            across, along = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < across <= width and 0 < along <= height:
                top, left = int(down * (height - along + 1)), int(right * (width - across + 1))
                return top, left, along, across
        return self._centre(height, width)

    def _centre(self, height: int, width: int) -> tuple[int, int, int, int]:
        across = min(width, round(height * self.ratio))
        along = min(height, round(width * self.ratio))
        return (height - along) // 2, (width - across) // 2, along, across


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
