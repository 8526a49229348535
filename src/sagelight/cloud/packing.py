"""A bundle as the archive that SageMaker unpacks into /opt/ml/model; equal bundles give equal names."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sagelight.bundle.spec import BundleSpec
from sagelight.errors import BundleError

# Serving reads the graph; the weights beside it are for training on, and would double what travels.
LEFT_OUT = ("model.safetensors",)
NEEDED = ("model.onnx", "code/inference.py", "code/requirements.txt")
# Weights do not compress; the level is for speed.
_LEVEL = 1


@dataclass(frozen=True)
class PackedBundle:
    """The files of a bundle that serving needs.

    Attributes:
        digest: hex SHA-256 of their names and contents.
        size: their bytes, before they are packed.
    """

    folder: Path
    files: tuple[str, ...]
    digest: str
    size: int
    backbone: str

    @contextmanager
    def archive(self) -> Iterator[Path]:
        """model.tar.gz, for as long as the block lasts."""
        with tempfile.TemporaryDirectory(prefix="sagelight-bundle-") as scratch:
            path = Path(scratch) / "model.tar.gz"
            self._write(path)
            yield path

    def _write(self, path: Path) -> None:
        # Without a time and a name inside, equal files give equal bytes.
        with (
            path.open("wb") as raw,
            gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name in self.files:
                source = self.folder / name
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = source.stat().st_size, 0o644
                with source.open("rb") as content:
                    tar.addfile(entry, content)


def pack_bundle(folder: Path) -> PackedBundle:
    """Check a bundle, and name its contents; nothing is packed yet.

    Raises:
        BundleError: no bundle, a damaged one, or one without what an endpoint runs.
    """
    from sagelight.serving.predictor import Predictor

    missing = [name for name in NEEDED if not (folder / name).is_file()]
    spec = BundleSpec.read(folder)
    if missing:
        raise BundleError(
            f"{folder} has no {' and no '.join(missing)}. Copy the whole bundle again, or train again."
        )
    # A network that does not load would cost the ten minutes until an endpoint gives up.
    Predictor.load(folder, threads=1)
    files = tuple(_files(folder))
    size = sum((folder / name).stat().st_size for name in files)
    return PackedBundle(folder, files, _digest(folder, files), size, spec.backbone)


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        name = inner.as_posix()
        # What file managers and interpreters leave is no part of a bundle.
        theirs = any(part.startswith(".") or part == "__pycache__" for part in inner.parts)
        if path.is_file() and name not in LEFT_OUT and not theirs:
            yield name


def _digest(folder: Path, files: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as content:
            inner = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{inner} {name}\n".encode())
    return total.hexdigest()
