"""The export verb: int8 with its loss measured, and refused above the limit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bundles import make_bundle, make_photos, photo
from sagelight.bundle.spec import BundleSpec
from sagelight.data.settings import DataSettings
from sagelight.errors import BundleError, DataError, SagelightError
from sagelight.serving.evaluate import index_for
from sagelight.serving.export import ExportSettings, calibration, run_export
from sagelight.serving.predictor import Predictor


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def export(bundle: Path, photos: Path, **entries: object) -> Path:
    settings = ExportSettings(bundle=str(bundle), data=DataSettings(root=str(photos)))
    for name, value in entries.items():
        setattr(settings, name, value)
    run_export(settings)
    return Path(settings.output or f"{bundle}-int8")


def test_an_int8_bundle_answers_and_says_what_it_costs(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = export(bundle, photos, output=str(tmp_path / "small"))
    spec = BundleSpec.read(made)
    assert spec.precision == "int8"
    assert spec.quantization is not None
    assert spec.quantization.int8_accuracy == spec.quantization.fp32_accuracy == 1.0
    assert spec.quantization.photos == 6
    operators = {node.op_type for node in onnx.load(made / "model.onnx").graph.node}
    assert "QuantizeLinear" in operators
    sources = [photo(colour, seed=50) for colour in ("red", "green", "blue")]
    both = [Predictor.load(each).predict(sources) for each in (bundle, made)]
    for fp32, int8 in zip(*both, strict=True):
        assert fp32.label == int8.label
        assert fp32.confidence == pytest.approx(int8.confidence, abs=0.05)
    card = (made / "README.md").read_text()
    assert card.index("computes in int8") < card.index("## How good it is")
    assert "1.0000 in int8" in capsys.readouterr().out
    assert json.loads((made / "bundle.json").read_text())["format_version"] == 2


def spoilt(folder: Path) -> Path:
    """A bundle that multiplies zeros by a million, beside which all its other weights are nothing in eight bits."""
    bundle = make_bundle(folder)
    model = onnx.load(bundle / "model.onnx")
    graph = model.graph
    [weights] = [each for each in graph.initializer if each.name == "weights"]
    wide = np.concatenate([numpy_helper.to_array(weights), np.full((1, 3), 1e6, np.float32)])
    weights.CopyFrom(numpy_helper.from_array(wide, "weights"))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 1], np.int64), "pads"))
    [product] = [node for node in graph.node if node.op_type == "MatMul"]
    product.input[0] = "padded"
    place = list(graph.node).index(product)
    graph.node.insert(place, onnx.helper.make_node("Pad", ["flat", "pads"], ["padded"]))
    onnx.save(model, bundle / "model.onnx")
    return bundle


def test_a_loss_above_the_limit_is_refused_and_nothing_is_written(
    photos: Path, tmp_path: Path
) -> None:
    bundle = spoilt(tmp_path / "spoilt")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        BundleError, match=r"int8 loses 0\.\d+ of accuracy on 6 .* limit=0\.01; nothing"
    ):
        export(bundle, photos)
    assert sorted(tmp_path.iterdir()) == before
    made = export(bundle, photos, limit=1.0)
    found = BundleSpec.read(made).quantization
    assert found is not None
    assert found.loss > 0.3


def test_calibration_spreads_over_the_photos_and_passes_the_unreadable(
    bundle: Path, photos: Path
) -> None:
    predictor = Predictor.load(bundle)
    index = index_for(predictor.spec, DataSettings(root=str(photos)))
    whole = np.concatenate(list(calibration(predictor, index, 1000)))
    assert len(whole) == len(index.splits["train"])
    few = np.concatenate(list(calibration(predictor, index, 3)))
    assert [int(image.mean(axis=(1, 2)).argmax()) for image in few] == [2, 1, 0]
    for sample in index.splits["train"]:
        (photos / sample.path).write_bytes(b"no photo")
    with pytest.raises(DataError, match="no readable training photos"):
        list(calibration(predictor, index, 3))


def test_what_cannot_be_exported_is_refused(bundle: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SagelightError, match="export needs bundle"):
        run_export(ExportSettings())
    with pytest.raises(SagelightError, match="is the bundle itself"):
        export(bundle, photos, output=str(bundle))
    with pytest.raises(SagelightError, match="holds something else"):
        export(bundle, photos, output=str(photos))
    made = export(bundle, photos, output=str(tmp_path / "small"))
    with pytest.raises(BundleError, match="is int8 already"):
        export(made, photos)
