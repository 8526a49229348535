"""bundle.json: read back as written, refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundles import make_bundle, make_spec
from sagelight.bundle.spec import BundleSpec
from sagelight.errors import BundleError


def test_round_trip_through_json() -> None:
    spec = make_spec(["a", "ü"])
    assert BundleSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_folder_without_bundle_json_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: .*type bundle=runs/latest/bundle$"):
        BundleSpec.read(tmp_path)


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", format_version=9)
    with pytest.raises(BundleError, match="has format version 9; this sagelight reads 1 and 2"):
        BundleSpec.read(bundle)


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
    with pytest.raises(BundleError, match=r"is damaged .*Copy the bundle again, or train again\.$"):
        BundleSpec.read(bundle)


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
