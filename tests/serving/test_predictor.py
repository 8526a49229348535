"""A bundle answers; a damaged one is refused with what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

from bundles import (
    LABELS,
    expected_probabilities,
    make_bundle,
    make_graph,
    make_weights,
    photo,
)
from sagelight.bundle.preprocessing import UnreadableImageError
from sagelight.errors import BundleError
from sagelight.serving.predictor import Predictor, ranked


def test_probabilities_are_those_of_the_graph(bundle: Path) -> None:
    predictor = Predictor.load(bundle, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    found = predictor.probabilities(pixels)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected_probabilities(pixels, LABELS), abs=1e-5)
    assert predictor.probabilities(pixels[:1]) == pytest.approx(found[:1], abs=1e-6)


def test_bytes_paths_and_pictures_are_labelled_in_order(bundle: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(str(bundle))
    path = tmp_path / "blue.png"
    photo("blue").save(path)
    colours = ["red", "blue", "green", "blue", "blue"]
    rgba = photo("green").convert("RGBA")
    sources = [photo("red"), path, rgba, str(path), path.read_bytes()]
    predictions = predictor.predict(sources, batch_size=2)
    assert [prediction.label for prediction in predictions] == colours
    assert predictor.labels == LABELS
    assert predictor.predict([]) == []


def test_a_prediction_ranks_every_label(bundle: Path) -> None:
    predictor = Predictor.load(bundle)
    [prediction] = predictor.predict([photo("red")])
    assert prediction.top[0] == (prediction.label, prediction.confidence)
    assert sorted(label for label, _ in prediction.top) == LABELS
    shares = [share for _, share in prediction.top]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert len(predictor.predict([photo("red")], top_k=2)[0].top) == 2


def test_of_equal_labels_the_first_is_first() -> None:
    row = np.array([0.2, 0.4, 0.4], np.float32)
    assert [label for label, _ in ranked("abc", row, 5).top] == ["b", "c", "a"]


def test_an_unreadable_source_raises(bundle: Path) -> None:
    with pytest.raises(UnreadableImageError, match="known format"):
        Predictor.load(bundle).predict([photo("red"), b"no photo"])


def test_no_heavy_library_is_imported(bundle: Path, tmp_path: Path) -> None:
    photo("red").save(tmp_path / "red.png")
    program = (
        "import sys\n"
        "from sagelight.serving.batch import PredictSettings, run_predict\n"
        "import sagelight.serving.evaluate, sagelight.serving.inference\n"
        f"run_predict(PredictSettings(bundle={str(bundle)!r}, input={str(tmp_path)!r}))\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'lightning', 'hydra', 'omegaconf',"
        " 'sklearn', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    assert lines[1].startswith("red.png,red,")
    assert lines[-1] == "[]"


@pytest.fixture
def broken(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(bundle, tmp_path / "broken"))


def test_a_missing_bundle_or_model_is_refused(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        Predictor.load(tmp_path / "nowhere")
    (broken / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model.onnx is missing. Copy the whole bundle again"):
        Predictor.load(broken)


@pytest.mark.parametrize("kept", [0, 10, 200, -1])
def test_a_damaged_model_is_refused(broken: Path, kept: int) -> None:
    content = (broken / "model.onnx").read_bytes()
    (broken / "model.onnx").write_bytes(content[:kept])
    with pytest.raises(BundleError, match=r"^\S+model.onnx is damaged \(.+\). Copy the bundle"):
        Predictor.load(broken)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"input_name": "pixels"}, "input pixels tensor(uint8)"),
        ({"input_type": TensorProto.FLOAT}, "input images tensor(float)[batch, 3, 16, 16]"),
        ({"output_name": "scores_"}, "output scores_"),
        ({"image_size": 18}, "tensor(uint8)[batch, 3, 18, 18]"),
        ({"labels": ["a", "b"]}, "probabilities tensor(float)[batch, 2]"),
        ({"batch": 1}, "tensor(uint8)[1, 3, 16, 16]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_model_of_another_run_is_refused(
    broken: Path, changes: dict[str, Any], found: str
) -> None:
    graph = {key: value for key, value in changes.items() if key not in ("labels", "image_size")}
    weights = make_weights(changes.get("labels", LABELS))
    model = make_graph(weights, changes.get("image_size", 16), **graph)
    onnx.save(model, broken / "model.onnx")
    with pytest.raises(BundleError, match=r"does not fit bundle.json: it has ") as caught:
        Predictor.load(broken)
    assert found in str(caught.value)


def test_one_network_for_many_labels(tmp_path: Path) -> None:
    labels = [*LABELS, *(f"noise {index}" for index in range(9))]
    predictor = Predictor.load(make_bundle(tmp_path / "bundle", labels, 8, resize_size=10))
    [prediction] = predictor.predict([photo("green")])
    assert len(prediction.top) == 5
    assert prediction.label in labels


@pytest.mark.parametrize(("tta", "views"), [("flip", 2), ("crops", 10)])
def test_views_are_averaged(tmp_path: Path, tta: str, views: int) -> None:
    bundle = make_bundle(tmp_path / "bundle", resize_size=20)
    predictor = Predictor.load(bundle, tta=tta)
    sources = [photo("red", 40, 30), photo("blue", 18, 60)]
    pixels = np.stack([predictor.pixels(source) for source in sources])
    assert pixels.shape == (2, views, 3, 16, 16)
    plain = Predictor.load(bundle)
    assert np.array_equal(pixels[:, 0], np.stack([plain.pixels(source) for source in sources]))
    assert np.array_equal(pixels[:, views // 2], pixels[:, 0, :, :, ::-1])
    each = np.stack([plain.probabilities(image) for image in pixels])
    assert predictor.probabilities(pixels) == pytest.approx(each.mean(axis=1), abs=1e-6)
    assert [found.label for found in predictor.predict(sources)] == ["red", "blue"]


def test_crops_are_the_centre_and_the_corners(tmp_path: Path) -> None:
    predictor = Predictor.load(make_bundle(tmp_path / "bundle", resize_size=20), tta="crops")
    places = np.arange(20 * 20, dtype=np.int64).reshape(20, 20) % 251
    image = Image.fromarray(np.repeat(places.astype(np.uint8)[..., np.newaxis], 3, axis=2))
    views = predictor.pixels(image)[:5, 0]
    corners = [(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)]
    assert np.array_equal(views, [places[y : y + 16, x : x + 16] for y, x in corners])
