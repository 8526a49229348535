"""A bundle of a few kilobytes that tells colours apart, made without training anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from sagelight.bundle.card import CardFacts
from sagelight.bundle.preprocessing import Preprocessing
from sagelight.bundle.spec import BundleSpec, Splits
from sagelight.bundle.write import write_bundle

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
LABELS = sorted(COLOURS)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_bundle(
    folder: Path,
    labels: Sequence[str] = LABELS,
    image_size: int = 16,
    resize_size: int | None = None,
    facts: CardFacts | None = None,
    **entries: Any,
) -> Path:
    """Write a valid bundle; the labels of COLOURS are recognised, any other is noise.

    `entries` replace fields of its BundleSpec.
    """
    spec = make_spec(labels, image_size, resize_size, **entries)

    def write_model(scratch: Path) -> None:
        weights = make_weights(labels)
        onnx.save(make_graph(weights, image_size), scratch / "model.onnx")
        save_file({"weights": weights}, scratch / "model.safetensors")

    facts = facts or CardFacts("tiny", {"train": [1] * len(labels)})
    write_bundle(folder, spec, {"test/accuracy": 0.5}, write_model, facts)
    return folder


def make_spec(
    labels: Sequence[str] = LABELS,
    image_size: int = 16,
    resize_size: int | None = None,
    **entries: Any,
) -> BundleSpec:
    fields: dict[str, Any] = {
        "labels": list(labels),
        "preprocessing": Preprocessing(resize_size or image_size, image_size, MEAN, STD),
        "backbone": "tiny_net",
        "fingerprint": "0" * 64,
        "splits": Splits(0.25, 0.25, 0, ["test", "validation"]),
        "provenance": {"run": "runs/tiny", "git_commit": None, "versions": {"numpy": "2"}},
    }
    return BundleSpec(**{**fields, **entries})


def make_weights(labels: Sequence[str]) -> np.ndarray:
    """Shape (3, C): what each channel's mean says for each label."""
    columns = []
    for index, label in enumerate(labels):
        noise = np.random.default_rng(index).normal(0, 0.3, 3)
        colour = (np.array(COLOURS[label]) > 128) * 1.0 if label in COLOURS else noise
        columns.append(colour)
    return np.stack(columns, axis=1).astype(np.float32)


def make_graph(weights: np.ndarray, image_size: int, **changes: Any) -> onnx.ModelProto:
    """Scale, normalise, average over the picture, multiply, softmax.

    `changes` may be `input_name`, `input_type`, `output_name` or `batch`.
    """
    constants = {
        "scale": np.float32(255),
        "mean": np.array(MEAN, np.float32).reshape(1, 3, 1, 1),
        "std": np.array(STD, np.float32).reshape(1, 3, 1, 1),
        "weights": weights,
    }
    images = changes.get("input_name", "images")
    output = changes.get("output_name", "probabilities")
    batch = changes.get("batch", "batch")
    nodes = [
        helper.make_node("Cast", [images], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("GlobalAveragePool", ["normal"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], [output], axis=1),
    ]
    kind = changes.get("input_type", TensorProto.UINT8)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(images, kind, [batch, 3, image_size, image_size])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, weights.shape[1]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def expected_probabilities(pixels: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The graph in numpy, float64, on pixels (B, 3, H, W)."""
    normal = (pixels / 255.0 - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))
    scores = normal.mean(axis=(2, 3)) @ make_weights(labels).astype(np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def photo(colour: str, width: int = 20, height: int = 18, seed: int = 0) -> Image.Image:
    """A noisy picture of one colour."""
    noise = np.random.default_rng(seed).integers(-20, 20, (height, width, 3))
    return Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))


def make_photos(root: Path, each: int = 8, colours: Sequence[str] = LABELS) -> Path:
    """`root/COLOUR/NN.png`, of different sizes."""
    for colour in colours:
        (root / colour).mkdir(parents=True)
        for number in range(each):
            width = 16 + 3 * math.floor(number / 2)
            photo(colour, width, 20, seed=number).save(root / colour / f"{number:02d}.png")
    return root
