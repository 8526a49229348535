"""transformers' Trainer, as its guide to image classification sets it up, over torchvision's transforms."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from interface import Clock, Task, serve
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision_loop import evaluation_transform, train_transform
from transformers import (
    DefaultDataCollator,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
)


class TransformersTrainer:
    does = (
        "Pillow, float32, NCHW; ResNetForImageClassification; AdamW; validation and a checkpoint each epoch; frozen: "
        "requires_grad off, BatchNorm in training mode"
    )

    def pipeline(self, task: Task, clock: Clock) -> int:
        loader: Any = DataLoader(
            _Photos(task, "train"),
            batch_size=task.batch,
            shuffle=True,
            num_workers=task.workers,
            collate_fn=DefaultDataCollator(),
        )
        return sum(len(batch["labels"]) for _ in range(task.epochs) for batch in loader)

    def train(self, task: Task, clock: Clock, frozen: bool) -> int:
        model = _model(task)
        if frozen:
            for parameter in model.resnet.parameters():
                parameter.requires_grad = False
        photos = _Photos(task, "train")
        trainer = Trainer(
            model=model,
            args=_arguments(task),
            data_collator=DefaultDataCollator(),
            train_dataset=photos,
            eval_dataset=_Photos(task, "validation"),
            compute_metrics=_accuracy,
        )
        trainer.train()
        return task.epochs * len(photos)


class _Photos(Dataset[dict[str, Any]]):
    def __init__(self, task: Task, split: str) -> None:
        train = split == "train"
        vary = train_transform(task.side) if train else evaluation_transform(task.side, task.resize)
        self.photos = ImageFolder(task.root / split, vary)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, position: int) -> dict[str, Any]:
        pixels, target = self.photos[position]
        return {"pixel_values": pixels, "labels": target}


def _arguments(task: Task) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(task.scratch),
        remove_unused_columns=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        learning_rate=5e-5,
        per_device_train_batch_size=task.batch,
        per_device_eval_batch_size=task.batch,
        num_train_epochs=task.epochs,
        dataloader_num_workers=task.workers,
        warmup_steps=0.1,
        logging_steps=10,
        report_to="none",
        use_cpu=task.device == "cpu",
    )


def _accuracy(found: Any) -> dict[str, float]:
    scores, targets = found
    return {"accuracy": float(np.mean(np.argmax(scores, axis=1) == targets))}


def _model(task: Task) -> ResNetForImageClassification:
    config = ResNetConfig(
        layer_type="basic",
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        num_labels=len(task.classes),
    )
    model = ResNetForImageClassification(config)
    given = torch.load(task.weights.with_suffix(".pth"), weights_only=True)
    model.resnet.load_state_dict(renamed(given))
    return model


def renamed(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state of torchvision's resnet18 under the names that transformers has for it."""
    found = OrderedDict()
    for name, tensor in given.items():
        if name.startswith("fc."):
            continue
        *module, leaf = name.split(".")
        found[f"{_renamed_module(module)}.{leaf}"] = tensor
    return found


def _renamed_module(module: list[str]) -> str:
    kinds = {"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}
    if not module[0].startswith("layer"):
        return f"embedder.embedder.{kinds[module[0][:-1]]}"
    block = f"encoder.stages.{int(module[0][-1]) - 1}.layers.{module[1]}"
    if module[2] == "downsample":
        return f"{block}.shortcut.{kinds[module[3]]}"
    return f"{block}.layer.{int(module[2][-1]) - 1}.{kinds[module[2][:-1]]}"


if __name__ == "__main__":
    serve(TransformersTrainer())
