"""fastai, as its vision tutorial does it: ImageDataLoaders, vision_learner, fit_one_cycle."""

from __future__ import annotations

from typing import Any

import torch
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    FlipItem,
    GrandparentSplitter,
    ImageBlock,
    Normalize,
    RandomResizedCrop,
    accuracy,
    get_image_files,
    imagenet_stats,
    parent_label,
    vision_learner,
)
from interface import CROP, Clock, Task, serve
from torchvision.models import resnet18


class FastaiLearner:
    does = (
        "Pillow, whole batches normalised, float32, NCHW; fastai's head of two layers; "
        "validation each epoch, no checkpoint; frozen: learn.freeze(), BatchNorm trains"
    )

    def pipeline(self, task: Task, clock: Clock) -> int:
        loader = _loaders(task).train
        return sum(len(targets) for _ in range(task.epochs) for _, targets in loader)

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        loaders = _loaders(task)
        learner = vision_learner(
            loaders, resnet18, pretrained=False, metrics=accuracy, path=task.scratch
        )
        _load(learner.model[0], task)
        if frozen:
            learner.freeze()
        learner.fit_one_cycle(task.epochs)
        return task.epochs * len(loaders.train) * task.batch


def _loaders(task: Task) -> Any:
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter(train_name="train", valid_name="validation"),
        get_y=parent_label,
        item_tfms=[RandomResizedCrop(task.side, min_scale=CROP), FlipItem()],
        batch_tfms=Normalize.from_stats(*imagenet_stats),
    )
    return block.dataloaders(
        task.root, bs=task.batch, num_workers=task.workers, device=torch.device(task.device)
    )


def _load(body: Any, task: Task) -> None:
    """The body is torchvision's network without its last two layers, so its parameters come in the same order."""
    given = torch.load(task.weights.with_suffix(".pth"), weights_only=True)
    tensors = [tensor for name, tensor in given.items() if not name.startswith("fc.")]
    body.load_state_dict(dict(zip(body.state_dict(), tensors, strict=True)))


if __name__ == "__main__":
    serve(FastaiLearner())
