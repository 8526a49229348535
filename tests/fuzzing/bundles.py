"""Bundles from elsewhere: bundle.json and model.onnx; safetensors are among the checkpoints."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

from bundles import make_bundle, make_spec, photo
from fuzzing.changes import change_json, joined, parts_of
from fuzzing.target import Target, scratch
from sagelight.bundle.spec import BundleSpec, Quantization
from sagelight.serving.predictor import Predictor

SPEC, GRAPH = "bundle.json", "model.onnx"


@cache
def _bundle() -> Path:
    return make_bundle(scratch() / "bundle")


@cache
def _fuzzed() -> Path:
    """A copy whose files are overwritten."""
    return shutil.copytree(_bundle(), scratch() / "fuzzed")


def _spec(data: bytes) -> None:
    (_fuzzed() / SPEC).write_bytes(data)
    spec = BundleSpec.read(_fuzzed())
    assert all(isinstance(label, str) for label in spec.labels)
    assert spec.precision in ("fp32", "int8")
    assert BundleSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert min(spec.preprocessing.scaled(30, 20)) == spec.preprocessing.resize_size
    assert f"{spec.quantization.loss:.3f}" if spec.quantization else True


def _model(data: bytes) -> None:
    spec, graph = parts_of(data, 2)
    (_fuzzed() / SPEC).write_bytes(spec)
    (_fuzzed() / GRAPH).write_bytes(graph)
    predictor = Predictor.load(_fuzzed(), threads=1)
    assert len(predictor.labels) == 3
    assert predictor.pixels(photo("red")).shape == (3, 16, 16)


def _spec_seeds() -> list[bytes]:
    int8 = make_spec(quantization=Quantization(0.9, 0.89, 20, 30))
    return [(_bundle() / SPEC).read_bytes(), json.dumps(int8.to_dict()).encode()]


def _model_seeds() -> list[bytes]:
    return [joined((_bundle() / SPEC).read_bytes(), (_bundle() / GRAPH).read_bytes())]


TARGETS = {
    "bundles.spec": Target(_spec, _spec_seeds, change=change_json),
    "bundles.model": Target(_model, _model_seeds, change=None),
}
