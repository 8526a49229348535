"""The evaluate verb: the run's own test photos again, and figures that can be checked by hand."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundles import LABELS, expected_probabilities, make_bundle, make_photos, make_spec, photo
from sagelight.bundle.spec import Splits
from sagelight.data.index import index_images
from sagelight.data.settings import DataSettings
from sagelight.errors import DataError, SagelightError
from sagelight.metrics.evaluation import Evaluation, evaluate
from sagelight.serving.evaluate import EvaluateSettings, index_for, run_evaluate
from sagelight.serving.measure import evaluate_split
from sagelight.serving.predictor import Predictor


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight photos a colour; one blue photo of the test cut is called red."""
    root = make_photos(tmp_path / "photos")
    test = index_images(root, validation_fraction=0.25, test_fraction=0.25).splits["test"]
    wrong = next(sample.path for sample in test if sample.path.startswith("red/"))
    photo("blue", seed=99).save(root / wrong)
    return root


def run(bundle: Path, root: Path, output: Path | None = None, split: str = "test") -> None:
    data = DataSettings(root=str(root))
    text = None if output is None else str(output)
    run_evaluate(EvaluateSettings(bundle=str(bundle), data=data, split=split, output=text))


def test_the_split_is_cut_as_the_bundle_recorded(tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos")
    for seed in (0, 3):
        spec = make_spec(splits=Splits(0.1, 0.4, seed, ["test", "validation"]))
        found = index_for(spec, DataSettings(root=str(root), test_fraction=0.2, split_seed=9))
        expected = index_images(root, validation_fraction=0.1, test_fraction=0.4, split_seed=seed)
        assert found == expected


def test_rows_and_figures_are_those_of_the_graph(bundle: Path, photos: Path) -> None:
    predictor = Predictor.load(bundle)
    index = index_images(photos, validation_fraction=0.25, test_fraction=0.25)
    evaluation, rows = evaluate_split(predictor, index, "test", 4)
    samples = index.splits["test"]
    assert [(row.path, row.target) for row in rows] == [(s.path, s.target) for s in samples]
    pixels = np.stack([predictor.spec.preprocessing(photos / row.path) for row in rows])
    expected = expected_probabilities(pixels, LABELS)
    assert np.stack([row.probabilities for row in rows]) == pytest.approx(expected, abs=1e-5)
    again = evaluate(expected, np.array([row.target for row in rows]), LABELS)
    assert evaluation.confusion == again.confusion == [[2, 0, 0], [0, 2, 0], [1, 0, 1]]
    assert evaluation.loss == pytest.approx(again.loss, abs=1e-5)


def test_classes_are_matched_by_name(tmp_path: Path, photos: Path) -> None:
    labels = ["amber", "red", "green", "blue"]
    predictor = Predictor.load(make_bundle(tmp_path / "bundle", labels))
    shutil.rmtree(photos / "green")
    index = index_images(photos, validation_fraction=0.25, test_fraction=0.25)
    evaluation, rows = evaluate_split(predictor, index, "train", 32)
    assert {labels[row.target] for row in rows} == {"red", "blue"}
    assert all(labels[row.target] == row.path.split("/")[0] for row in rows)
    assert evaluation.labels == labels
    assert evaluation.accuracy == 1


def test_classes_that_the_bundle_does_not_know_are_refused(bundle: Path, tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos", each=2)
    (root / "red").rename(root / "rouge")
    with pytest.raises(DataError, match=r"does not know: rouge\. It knows blue, green, red\."):
        run(bundle, root)


def test_the_table_names_figures_and_worst_classes(
    bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(bundle, photos)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"bundle          {bundle}"
    assert lines[1] == f"photos          {photos}, test: 6"
    assert lines[3].startswith("accuracy        0.8333  (95 % interval 0.43")
    assert not any(line.startswith("top-5") for line in lines)
    assert lines[-4].split() == ["class", "F1", "recall", "precision", "photos"]
    assert lines[-3].split() == ["red", "0.667", "0.500", "1.000", "2"]


def test_the_worst_five_of_many_classes_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_photos(tmp_path / "photos", each=4)
    noise = [f"noise {index}" for index in range(4)]
    for label in noise:
        shutil.copytree(root / "red", root / label)
    bundle = make_bundle(tmp_path / "bundle", [*LABELS, *noise])
    run(bundle, root)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("top-5 accuracy  ") for line in lines)
    start = next(n for n, line in enumerate(lines) if line.startswith("worst of 7"))
    assert len(lines[start + 1 :]) == 5
    f1 = [float(line.split()[-4]) for line in lines[start + 1 :]]
    assert f1 == sorted(f1)


def test_json_and_rows_are_written(bundle: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "figures.json"
    run(bundle, photos, output)
    content = json.loads(output.read_text())
    evaluation = Evaluation.from_dict(content["evaluation"])
    assert content["test/accuracy"] == evaluation.accuracy == pytest.approx(5 / 6)
    assert (content["split"], content["unreadable"]) == ("test", [])
    with (output.parent / "figures.predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    [wrong] = [row for row in rows if row["correct"] == "false"]
    assert (wrong["label"], wrong["predicted"]) == ("red", "blue")
    assert float(wrong["label_probability"]) < float(wrong["confidence"])


def test_unreadable_photos_are_named_and_left_out(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = index_images(photos, validation_fraction=0.25, test_fraction=0.25)
    bad = index.splits["test"][0].path
    (photos / bad).write_bytes(b"no photo")
    run(bundle, photos, tmp_path / "figures.json")
    captured = capsys.readouterr()
    assert f"left out: {bad}: not an image" in captured.err
    assert "test: 5 (1 unreadable, left out)" in captured.out
    content = json.loads((tmp_path / "figures.json").read_text())
    assert [entry["path"] for entry in content["unreadable"]] == [bad]
    assert content["evaluation"]["count"] == 5


def test_other_photos_than_the_runs_are_pointed_out_where_a_cut_may_mix_them(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = index_images(photos).fingerprint
    same = make_bundle(tmp_path / "same", fingerprint=fingerprint)
    run(same, photos)
    assert capsys.readouterr().err == ""
    photo("red", seed=5).save(photos / "red" / "new.png")
    run(same, photos)
    assert "not exactly the photos of the bundle's run" in capsys.readouterr().err
    make_photos(photos / "train", each=2)
    make_photos(photos / "test", each=2)
    run(same, photos)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EvaluateSettings(), "evaluate needs bundle. Type evaluate bundle=DIR data.root=DIR"),
        (EvaluateSettings(bundle="x"), "evaluate needs data.root. Type evaluate bundle=DIR"),
        (
            EvaluateSettings(bundle="x", data=DataSettings(root="x"), output="a.csv"),
            "output=a.csv: the figures are written as JSON. Type output=a.json",
        ),
    ],
)
def test_settings_are_refused_before_anything_is_read(
    settings: EvaluateSettings, message: str
) -> None:
    with pytest.raises(SagelightError, match=message):
        run_evaluate(settings)


def test_an_empty_split_is_refused(bundle: Path, photos: Path) -> None:
    make_photos(photos / "train", each=1)
    with pytest.raises(DataError, match=r"no readable photos in its test split \(0 files\)"):
        run(bundle, photos)


def test_digits_are_written_on_first_use(tmp_path: Path) -> None:
    root = tmp_path / "digits"
    data = DataSettings(name="digits", root=str(root))
    index = index_for(replace(make_spec(), labels=list("0123456789")), data)
    assert index.size() == 1797
    assert index.labels == list("0123456789")
