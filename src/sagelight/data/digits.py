"""The data that needs no download: scikit-learn's 1,797 scanned digits, as a folder of photos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image

from sagelight.errors import DataError
from sagelight.files import write_json

COUNT = 1797
MARKER = ".digits.json"
CONTENT = {"count": COUNT, "version": 1}


def write_digits(root: Path) -> None:
    """Write `root/CLASS/NNNN.png`, 8 x 8 pixels of 8-bit grey, unless they are there already.

    The folder appears whole or not at all, also when several processes write it at once.

    Raises:
        DataError: `root` is something else, holds only some digits, or cannot be written.
    """
    root = root.expanduser()
    if _complete(root):
        return
    scratch = root.with_name(f".{root.name}.{uuid4().hex}.tmp")
    try:
        _write(scratch)
        scratch.rename(root)
    except OSError as error:
        # The digits are there now when another process was faster.
        if not _complete(root):
            raise DataError(
                f"The digits cannot be written to data.root={root}: {error.strerror}. "
                "Type data.root=DIR with a folder that can be written."
            ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _complete(root: Path) -> bool:
    if not root.exists():
        return False
    if not root.is_dir() or (not (root / MARKER).is_file() and any(root.iterdir())):
        raise DataError(
            f"data.root={root} holds something other than the digits. Type data.root=DIR with a "
            "new folder for them, or data=folder to train on your own photos."
        )
    if not (root / MARKER).is_file():
        return False
    marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
    if marker != CONTENT or sum(1 for _ in root.glob("*/*.png")) != COUNT:
        raise DataError(
            f"data.root={root} holds digits that are not whole. Delete the folder and start again."
        )
    return True


def _write(folder: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for number, (pixels, label) in enumerate(zip(grey, digits.target, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    write_json(folder / MARKER, CONTENT)
