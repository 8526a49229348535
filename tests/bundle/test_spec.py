"""bundle.json: read back as written, refused with what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bundles import make_bundle, make_spec
from sagelight.bundle.spec import BundleSpec, Quantization, Splits
from sagelight.errors import BundleError


def test_round_trip_through_json() -> None:
    spec = make_spec(["a", "ü"])
    assert BundleSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_folder_without_bundle_json_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as refusal:
        BundleSpec.read(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path} is no bundle: it has no bundle.json. "
        "A finished run leaves one: type bundle=runs/latest/bundle"
    )


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", format_version=9)
    with pytest.raises(BundleError) as refusal:
        BundleSpec.read(bundle)
    assert str(refusal.value) == (
        f"{bundle / 'bundle.json'} has format version 9; this sagelight reads 1 and 2. "
        "Use the sagelight that wrote it, or train again."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": {}},
        {"preprocessing": None},
        {"labels_": []},
        {"splits": {"seed": 1}},
    ],
    ids=["no sizes", "null", "unknown key", "wrong splits"],
)
def test_damage_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    content = {**json.loads((bundle / "bundle.json").read_text()), **changes}
    (bundle / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError) as refusal:
        BundleSpec.read(bundle)
    path = re.escape(str(bundle / "bundle.json"))
    sentence = rf"{path} is damaged \(.+\)\. Copy the bundle again, or train again\."
    assert re.fullmatch(sentence, str(refusal.value))


SIZES = {"image_size": 16, "mean": [0, 0, 0], "std": [1, 1, 1]}
SPLITS = {"validation_fraction": 0.5, "test_fraction": 0.25, "split_seed": 3}
INT8 = {"fp32_accuracy": 0.9, "int8_accuracy": 0.8, "photos": 2, "calibration_photos": 1}
LARGEST = 10_954


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"labels": []}, "it has no labels"),
        ({"labels": "ab"}, "it has no labels"),
        ({"labels": ["a", 1]}, "a name in it is no text"),
        ({"backbone": None}, "a name in it is no text"),
        ({"fingerprint": 5}, "a name in it is no text"),
        ({"splits": {**SPLITS, "cut": ["train", 1]}}, "a name in it is no text"),
        ({"provenance": []}, "its provenance is no mapping"),
        ({"preprocessing": {**SIZES, "resize_size": LARGEST + 1}}, "its resize_size makes larger pictures than any photo that is read"),
        ({"preprocessing": {**SIZES, "resize_size": 16, "mean": [0, "nan", 0]}}, "a number in it is not finite"),
        ({"preprocessing": {**SIZES, "resize_size": 16, "std": [1, 1, "inf"]}}, "a number in it is not finite"),
        ({"splits": {**SPLITS, "test_fraction": float("inf")}}, "a number in it is not finite"),
        ({"quantization": {**INT8, "photos": float("nan")}}, "a number in it is not finite"),
    ],
)  # fmt: skip
def test_what_no_bundle_of_ours_says_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    content = {**make_spec().to_dict(), **changes}
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError) as refusal:
        BundleSpec.read(tmp_path)
    said = f"{tmp_path / 'bundle.json'} is damaged ({why}). Copy the bundle again, or train again."
    assert str(refusal.value) == said


def test_the_largest_pictures_are_those_of_the_largest_photo() -> None:
    sizes = {**SIZES, "resize_size": LARGEST, "image_size": LARGEST}
    spec = BundleSpec.from_dict({**make_spec().to_dict(), "preprocessing": sizes})
    assert spec.preprocessing.resize_size == LARGEST


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_what_is_not_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match="is damaged"):
        BundleSpec.read(tmp_path)


def test_a_bundle_of_the_first_format_is_fp32(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    entries = json.loads((bundle / "bundle.json").read_text())
    del entries["quantization"]
    (bundle / "bundle.json").write_text(json.dumps({**entries, "format_version": 1}))
    assert BundleSpec.read(bundle).precision == "fp32"


def test_a_bundle_in_int8_says_what_it_cost(tmp_path: Path) -> None:
    measured = Quantization(0.9, 0.875, 40, 100)
    bundle = make_bundle(tmp_path / "bundle", quantization=measured)
    spec = BundleSpec.read(bundle)
    assert (spec.precision, spec.quantization) == ("int8", measured)
    assert measured.loss == pytest.approx(0.025)


def test_what_was_read_is_of_todays_format(tmp_path: Path) -> None:
    entries = {**make_spec().to_dict(), "format_version": 1, "splits": {
        "validation_fraction": 0.5, "test_fraction": 0.25, "split_seed": 3,
    }}  # fmt: skip
    (tmp_path / "bundle.json").write_text(json.dumps(entries))
    spec = BundleSpec.read(tmp_path)
    assert spec.format_version == 2
    assert spec.splits == Splits(0.5, 0.25, 3, [])
