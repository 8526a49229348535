"""timm, as its documentation's training script puts its parts together: loaders, optimizer, schedule, saver."""

from __future__ import annotations

from typing import Any

import timm
import torch
from interface import CROP, Clock, Task, serve
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, CheckpointSaver, accuracy
from torch import nn


class TimmLoop:
    does = (
        "Pillow, uint8 batches normalised on the device, float32, NCHW; colour jitter, timm's default, is off, for no "
        "other peer has it; validation and a checkpoint each epoch; frozen: requires_grad off"
    )

    def pipeline(self, task: Task, clock: Clock) -> int:
        loader = _loader(task, "train")
        return sum(len(targets) for _ in range(task.epochs) for _, targets in loader)

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        model = _model(task, frozen)
        optimizer = create_optimizer_v2(model, opt="sgd", lr=0.05, momentum=0.9, weight_decay=2e-5)
        train, validation, photos = _loader(task, "train"), _loader(task, "validation"), 0
        scheduler, _ = create_scheduler_v2(
            optimizer, sched="cosine", num_epochs=task.epochs, updates_per_epoch=len(train)
        )
        saver = CheckpointSaver(model, optimizer, checkpoint_dir=task.scratch)
        for epoch in range(task.epochs):
            photos += _train_epoch(model, optimizer, train)
            top1 = _validate(model, validation)
            saver.save_checkpoint(epoch, metric=top1)
            scheduler.step(epoch + 1, top1)
        return photos


def _model(task: Task, frozen: bool) -> Any:
    # The names of its resnet18's parameters are torchvision's.
    model = timm.create_model("resnet18", pretrained=False, num_classes=1000)
    model.load_state_dict(torch.load(task.weights.with_suffix(".pth"), weights_only=True))
    if frozen:
        for parameter in model.parameters():
            parameter.requires_grad = False
    model.reset_classifier(len(task.classes))
    return model.to(torch.device(task.device))


def _loader(task: Task, split: str) -> Any:
    return create_loader(
        create_dataset("", root=str(task.root / split)),
        input_size=(3, task.side, task.side),
        batch_size=task.batch,
        is_training=split == "train",
        scale=(CROP, 1.0),
        color_jitter=0.0,
        crop_pct=task.side / task.resize,
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
        pin_memory=task.device == "cuda",
        device=torch.device(task.device),
    )


def _train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Any) -> int:
    model.train()
    losses, criterion = AverageMeter(), nn.CrossEntropyLoss()
    for images, targets in loader:
        loss = criterion(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(targets))
    return int(losses.count)


@torch.inference_mode()
def _validate(model: nn.Module, loader: Any) -> float:
    model.eval()
    top1 = AverageMeter()
    for images, targets in loader:
        [right] = accuracy(model(images), targets, topk=(1,))
        top1.update(right.item(), len(targets))
    return float(top1.avg)


if __name__ == "__main__":
    serve(TimmLoop())
