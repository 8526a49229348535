"""Features on disk, computed once. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.parsing import mapped_array
from sagelight.store import Kept, Store, checksum, take_room, unreadable_photos

ARRAY = "features.npy"
FACTS = "features.json"


@dataclass(frozen=True)
class FeatureStore(Store):
    """A folder of arrays, each below the digest of what it was computed from."""

    facts = FACTS
    what = "features"
    remedy = "Type features.folder=DIR on another disk, features.dtype=float16 for half the room, or features.cache=off."

    def get(
        self,
        made_from: dict[str, Any],
        shape: tuple[int, ...],
        dtype: str,
        compute: Callable[[NDArray[Any]], dict[str, Any]],
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """The array made from these facts, computed unless it is there; other processes wait meanwhile.

        Args:
            made_from: everything that decides the values, as plain JSON.
            compute: fills the array given, and returns more facts to keep beside it, `unreadable` among them.

        Returns:
            The array, read-only and mapped from disk, and the facts.

        Raises:
            RunError: the folder cannot be written, or the disk is full.
        """

        def make(folder: Path) -> dict[str, Any]:
            self.make_room(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            array = np.lib.format.open_memmap(folder / ARRAY, mode="w+", dtype=dtype, shape=shape)
            with (folder / ARRAY).open("r+b") as file:
                take_room(file, file.seek(0, 2))
            more = compute(array)
            array.flush()
            del array
            return {**more, "sha256": checksum(folder / ARRAY)}

        def is_whole(folder: Path, facts: dict[str, Any]) -> bool:
            unreadable_photos(facts)
            array = mapped_array(folder / ARRAY)
            fits = (array.shape, array.dtype) == (shape, np.dtype(dtype))
            return fits and checksum(folder / ARRAY) == facts["sha256"]

        place, facts = self.entry(made_from, make, is_whole)
        return mapped_array(place / ARRAY), facts


def told(kept: Kept) -> str:
    """What an array holds, in a few words."""
    facts = kept.facts
    views = f", {facts['views']} views" if facts["views"] > 1 else ""
    return (
        f"{facts['backbone']} at {facts['image_size']}, {facts['split']}{views}, {facts['dtype']}"
    )
