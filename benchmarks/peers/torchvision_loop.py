"""The plain loop, as torchvision's classification references and PyTorch's transfer learning tutorial write it."""

from __future__ import annotations

from typing import Any

import torch
from interface import CROP, Clock, Task, serve
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Loader = DataLoader[tuple[Tensor, int]]


class TorchvisionLoop:
    does = (
        "Pillow, float32, NCHW; accuracy of every batch; validation and a checkpoint each epoch; frozen: requires_grad "
        "off, BatchNorm in training mode"
    )

    def pipeline(self, task: Task, clock: Clock) -> int:
        loader = train_loader(task)
        return sum(len(targets) for _ in range(task.epochs) for _, targets in loader)

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        device = torch.device(task.device)
        model = loaded_resnet18(task)
        if frozen:
            for parameter in model.parameters():
                parameter.requires_grad = False
        model.fc = nn.Linear(model.fc.in_features, len(task.classes))
        model.to(device)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
        train, validation, photos = train_loader(task), validation_loader(task), 0
        for _ in range(task.epochs):
            photos += _train_epoch(model, optimizer, train, device)
            scheduler.step()
            _evaluate(model, validation, device)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, task.scratch / "checkpoint.pth")
        return photos


def train_transform(side: int) -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(side, scale=(CROP, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def evaluation_transform(side: int, resize: int) -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.Resize(resize),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def train_loader(task: Task) -> Loader:
    photos = ImageFolder(task.root / "train", train_transform(task.side))
    return _loader(photos, task, shuffle=True)


def validation_loader(task: Task) -> Loader:
    photos = ImageFolder(task.root / "validation", evaluation_transform(task.side, task.resize))
    return _loader(photos, task, shuffle=False)


def loaded_resnet18(task: Task) -> Any:
    model = resnet18()
    model.load_state_dict(torch.load(task.weights.with_suffix(".pth"), weights_only=True))
    return model


def _loader(photos: ImageFolder, task: Task, shuffle: bool) -> Loader:
    return DataLoader(
        photos,
        batch_size=task.batch,
        shuffle=shuffle,
        num_workers=task.workers,
        pin_memory=task.device == "cuda",
    )


def _train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: Loader, device: torch.device
) -> int:
    model.train()
    photos, right, total = 0, 0.0, 0.0
    for images, targets in loader:
        images, targets = images.to(device), targets.to(device)
        scores = model(images)
        loss = nn.functional.cross_entropy(scores, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(targets)
        right += (scores.argmax(1) == targets).float().sum().item()
        photos += len(targets)
    print(f"loss {total / photos:.3f} accuracy {right / photos:.3f}")
    return photos


@torch.inference_mode()
def _evaluate(model: nn.Module, loader: Loader, device: torch.device) -> None:
    model.eval()
    photos, right = 0, 0.0
    for images, targets in loader:
        scores = model(images.to(device))
        right += (scores.argmax(1) == targets.to(device)).float().sum().item()
        photos += len(targets)
    print(f"validation accuracy {right / photos:.3f}")


if __name__ == "__main__":
    serve(TorchvisionLoop())
