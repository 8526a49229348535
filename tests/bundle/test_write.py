"""A bundle on disk: complete, or not there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from bundles import LABELS, make_bundle, make_spec
from sagelight.bundle import write
from sagelight.bundle.card import CardFacts
from sagelight.bundle.spec import BundleSpec
from sagelight.bundle.write import write_bundle
from sagelight.serving import inference

FACTS = CardFacts("tiny", {"train": [1, 1, 1]})
SOURCES = Path(inference.__file__).parents[1]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_bundle_holds_what_serving_needs_and_nothing_else(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "run" / "bundle")
    assert names(bundle) == [
        "README.md",
        "bundle.json",
        "code",
        "code/inference.py",
        "code/preprocessing.py",
        "code/requirements.txt",
        "deployment.py",
        "metrics.json",
        "model.onnx",
        "model.safetensors",
    ]
    assert names(tmp_path / "run") == ["bundle", *(f"bundle/{name}" for name in names(bundle))]
    assert BundleSpec.read(bundle) == make_spec(LABELS)
    assert json.loads((bundle / "metrics.json").read_text()) == {"test/accuracy": 0.5}


def test_the_code_of_a_bundle_is_this_code_with_these_versions(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    for path, source in (
        ("code/inference.py", "serving/inference.py"),
        ("code/preprocessing.py", "bundle/preprocessing.py"),
        ("deployment.py", "serving/deployment.py"),
    ):
        assert (bundle / path).read_bytes() == (SOURCES / source).read_bytes()
    assert (bundle / "code" / "requirements.txt").read_text().splitlines() == [
        f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "pillow")
    ]


def test_a_failure_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bundle(tmp_path / "bundle", make_spec(), {}, fail, FACTS)
    assert names(tmp_path) == []


def test_a_failure_leaves_the_bundle_that_was_there(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    before = {name: (bundle / name).stat().st_mtime_ns for name in names(bundle)}

    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle, make_spec(), {}, interrupted, FACTS)
    assert {name: (bundle / name).stat().st_mtime_ns for name in names(bundle)} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_model_that_was_not_written_is_noticed(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"")

    with pytest.raises(RuntimeError, match=r"^write_model left no model.safetensors$"):
        write_bundle(tmp_path / "bundle", make_spec(), {}, half, FACTS)
    assert names(tmp_path) == []


def test_another_bundle_is_replaced_whole(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "stale.txt").write_text("from before")
    make_bundle(bundle, labels=["blue", "red"])
    assert BundleSpec.read(bundle).labels == ["blue", "red"]
    assert not (bundle / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_old_bundle_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    rename = Path.rename

    def refuse_new(path: Path, target: Path) -> Path:
        if path.suffix == ".tmp":
            raise OSError("no permission")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(OSError, match="no permission"):
        make_bundle(bundle, labels=["blue", "red"])
    assert BundleSpec.read(bundle).labels == LABELS
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_a_killed_process_left_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write.os, "getpid", lambda: 7)
    (tmp_path / ".bundle.7.tmp" / "code").mkdir(parents=True)
    (tmp_path / ".bundle.7.old").mkdir()
    make_bundle(tmp_path / "bundle")
    make_bundle(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_writing_imports_neither_torch_nor_onnxruntime() -> None:
    program = (
        "import sys, sagelight.bundle.write\n"
        "print([n for n in ('torch', 'onnxruntime', 'hydra', 'pytorch_lightning') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"
