"""Writing a bundle: whole under its final name, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from sagelight.bundle.card import CardFacts, render_card
from sagelight.bundle.spec import BundleSpec
from sagelight.files import replace_folder, scratch_folder, write_json, write_text

MODEL_FILES = ("model.onnx", "model.safetensors")
# The last is for AWS's Ray images, which look for it beside the model.
CODE = {
    "code/inference.py": "sagelight.serving",
    "code/preprocessing.py": "sagelight.bundle",
    "deployment.py": "sagelight.serving",
}
REQUIREMENTS = ("numpy", "onnxruntime", "pillow")


def write_bundle(
    folder: Path,
    spec: BundleSpec,
    metrics: Mapping[str, float],
    write_model: Callable[[Path], None],
    facts: CardFacts,
) -> None:
    """Write a bundle to `folder`, replacing the one that is there.

    Args:
        metrics: the content of metrics.json.
        write_model: puts model.onnx and model.safetensors into the folder that it is given.
        facts: what the model card says beyond `spec`.

    Raises:
        RuntimeError: `write_model` left one of its files out.
    """
    with _replacing(folder) as scratch:
        write_model(scratch)
        missing = [name for name in MODEL_FILES if not (scratch / name).is_file()]
        if missing:
            raise RuntimeError(f"write_model left no {' and no '.join(missing)}")
        _write_code(scratch)
        write_json(scratch / "bundle.json", spec.to_dict())
        write_json(scratch / "metrics.json", dict(metrics))
        write_text(scratch / "README.md", render_card(spec, metrics, facts))


def derive_bundle(source: Path, folder: Path, spec: BundleSpec, model: Path, section: str) -> None:
    """Write a bundle to `folder` that is `source` with another model.onnx.

    Args:
        spec: its bundle.json.
        model: the file that becomes its model.onnx.
        section: markdown that its model card says before all others.
    """
    with _replacing(folder) as scratch:
        for name in ("metrics.json", "model.safetensors"):
            shutil.copyfile(source / name, scratch / name)
        shutil.copyfile(model, scratch / "model.onnx")
        _write_code(scratch)
        write_json(scratch / "bundle.json", spec.to_dict())
        card = (source / "README.md").read_text(encoding="utf-8")
        before, mark, after = card.partition("\n## ")
        write_text(scratch / "README.md", f"{before}\n{section}\n{mark}{after}")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A scratch folder that takes the place of `folder` when the block is through, and is gone otherwise."""
    with scratch_folder(folder) as scratch:
        yield scratch
        _sync(scratch)
        replace_folder(scratch, folder)


def _write_code(folder: Path) -> None:
    (folder / "code").mkdir()
    for path, package in CODE.items():
        source = files(package) / Path(path).name
        write_text(folder / path, source.read_text(encoding="utf-8"))
    pins = [f"{name}=={version(name)}" for name in REQUIREMENTS]
    write_text(folder / "code" / "requirements.txt", "\n".join(pins) + "\n")


def _sync(folder: Path) -> None:
    for name in MODEL_FILES:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
