"""bundle.json: what a model is called to do, and where it came from. No torch here."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from sagelight.bundle.preprocessing import MAX_PIXELS, Preprocessing
from sagelight.errors import BundleError
from sagelight.parsing import read_json

FORMAT_VERSION = 2
# 1 knew no precision; its bundles are fp32.
READABLE = (1, FORMAT_VERSION)
# The one input and the one output of model.onnx.
INPUT, OUTPUT = "images", "probabilities"


@dataclass(frozen=True)
class Splits:
    """How photos became splits, so that `evaluate` can cut the same test set again.

    Attributes:
        validation_fraction, test_fraction: share of each class cut off where a split had no folder.
        split_seed: which photos the cut took.
        cut: the splits that were cut rather than found.
    """

    validation_fraction: float
    test_fraction: float
    split_seed: int
    cut: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Quantization:
    """What int8 arithmetic has cost, measured when the bundle was made.

    Attributes:
        fp32_accuracy, int8_accuracy: share of the validation photos that are labelled right, before and after.
        photos: validation photos that both were measured on.
        calibration_photos: training photos from which the ranges of activations were taken.
    """

    fp32_accuracy: float
    int8_accuracy: float
    photos: int
    calibration_photos: int

    @property
    def loss(self) -> float:
        return self.fp32_accuracy - self.int8_accuracy


@dataclass(frozen=True)
class BundleSpec:
    """The content of bundle.json.

    Attributes:
        labels: class names; output i of the model is the probability of `labels[i]`.
        backbone: torchvision's name of the network.
        fingerprint: of the data that it was trained on, as `check` prints it.
        provenance: run, config digest, git commit, library versions, creation time.
        quantization: of a model.onnx in int8; None for fp32.
    """

    labels: list[str]
    preprocessing: Preprocessing
    backbone: str
    fingerprint: str
    splits: Splits
    provenance: dict[str, Any]
    quantization: Quantization | None = None
    format_version: int = FORMAT_VERSION

    @property
    def precision(self) -> str:
        return "fp32" if self.quantization is None else "int8"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "preprocessing": self.preprocessing.to_dict()}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> BundleSpec:
        """What `to_dict` gave.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, OverflowError: it is something else.
        """
        measured = entries.get("quantization")
        spec = cls(
            **{
                **entries,
                "preprocessing": Preprocessing.from_dict(entries["preprocessing"]),
                "splits": Splits(**entries["splits"]),
                "quantization": None if measured is None else Quantization(**measured),
                "format_version": FORMAT_VERSION,
            }
        )
        spec._check()
        return spec

    def _check(self) -> None:
        texts = [self.backbone, self.fingerprint, *self.labels, *self.splits.cut]
        if not isinstance(self.labels, list) or not self.labels:
            raise ValueError("it has no labels")
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a name in it is no text")
        if not isinstance(self.provenance, dict):
            raise TypeError("its provenance is no mapping")
        if self.preprocessing.resize_size**2 > MAX_PIXELS:
            raise ValueError("its resize_size makes larger pictures than any photo that is read")
        *numbers, _ = astuple(self.splits)
        numbers += [*self.preprocessing.mean, *self.preprocessing.std]
        numbers += astuple(self.quantization) if self.quantization else ()
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("a number in it is not finite")

    @classmethod
    def read(cls, folder: Path) -> BundleSpec:
        """Read `folder/bundle.json`.

        Raises:
            BundleError: no bundle there, damaged, or of a format version that this code does not know.
        """
        path = folder / "bundle.json"
        if not path.is_file():
            raise BundleError(
                f"{folder} is no bundle: it has no bundle.json. "
                "A finished run leaves one: type bundle=runs/latest/bundle"
            )
        try:
            entries = read_json(path)
            version = entries.get("format_version")
            if version not in READABLE:
                raise BundleError(
                    f"{path} has format version {version}; this sagelight reads "
                    f"{' and '.join(map(str, READABLE))}. "
                    "Use the sagelight that wrote it, or train again."
                )
            return cls.from_dict(entries)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise BundleError(
                f"{path} is damaged ({error}). Copy the bundle again, or train again."
            ) from error
