"""A process of its own that wants resized photos; found by its module's name."""

from __future__ import annotations

import contextlib
import io
import re
import time
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from PIL import Image

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.index import index_images
from sagelight.data.resized_store import ResizedStore
from sagelight.data.resizing import resize_photos


@dataclass(frozen=True)
class Slow(Preprocessing):
    seconds: float = 0

    def resize(self, image: Image.Image) -> Image.Image:
        time.sleep(self.seconds)
        return super().resize(image)


def resize(root: str, folder: str, seconds: float = 0) -> int:
    """Want the resized photos of a folder; gives how many were resized for that."""
    said = io.StringIO()
    spec = Slow(24, 20, (0.5,) * 3, (0.25,) * 3, seconds)
    with contextlib.redirect_stderr(said):
        resize_photos(index_images(root), spec, ResizedStore(Path(folder), 10**9))
    counted = re.search(r"^(\d+) photos are resized once", said.getvalue())
    return int(counted[1]) if counted else 0


def wanted(root: str, folder: str, start: Barrier, told: SimpleQueue[tuple[int]]) -> None:
    """As `resize`, at the same time as others."""
    start.wait(60)
    told.put((resize(root, folder),))
