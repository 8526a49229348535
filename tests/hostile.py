"""Files that run code in whoever unpickles them, in every form that PyTorch or numpy may meet."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Evil:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _saved(content: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def _script(evil: Evil) -> bytes:
    """What looks like a TorchScript archive, which PyTorch would hand to another reader."""
    buffer = io.BytesIO(_saved({"state_dict": evil}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(evil))
    return buffer.getvalue()


def _array(evil: Evil) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([evil], dtype=object))
    return buffer.getvalue()


FORMS: dict[str, Callable[[Evil], bytes]] = {
    "zip": lambda evil: _saved({"state_dict": evil}),
    "zip, the whole file": _saved,
    "zip, deep inside": lambda evil: _saved({"state_dict": {"a": [({"b": evil},)]}, "loops": {}}),
    "legacy": lambda evil: _saved({"state_dict": evil}, _use_new_zipfile_serialization=False),
    "script": _script,
    "pickle": pickle.dumps,
    "old pickle": lambda evil: pickle.dumps(evil, 0),
    "numpy": _array,
}
