"""Writes a trial in smdebug's layout, which smdebug's own readers and rules open.

Source: smdebug 1.0.34 (core/writer, core/locations, core/collection_manager). Every file appears whole: tensors of a
step first, then the index that names them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.debugging.records import MODES, Place, encode
from sagelight.errors import RunError
from sagelight.files import write_json, write_text

EVENTS, INDEX, COLLECTIONS, END = "events", "index", "collections", "training_job_end.ts"
# Ours: when a run was continued, in seconds since 1970, a line each. smdebug does not look at it.
STARTS = "starts.txt"
# smdebug puts the indices of so many steps into one folder.
STEPS_A_FOLDER = 1000
NORMS = ("l1", "l2")


def event_file(step: int, worker: str) -> str:
    """Path below the trial of what a worker wrote in a step."""
    return f"{EVENTS}/{step:012d}/{step:012d}_{worker}.tfevents"


def index_file(step: int, worker: str) -> str:
    """Path below the trial of the index to `event_file`."""
    return f"{INDEX}/{step // STEPS_A_FOLDER:09d}/{step:012d}_{worker}.json"


class TrialWriter:
    """One worker's part of a trial.

    Attributes:
        folder: of the trial; new, or one that this run goes on with.
    """

    def __init__(
        self, folder: Path, worker: str = "worker_0", workers: int = 1, goes_on: bool = False
    ) -> None:
        """Begin a trial, or go on with one.

        Raises:
            RunError: there is a trial already, and it is not to be gone on with.
        """
        if not goes_on and folder.is_dir() and any(folder.iterdir()):
            raise RunError(
                f"{folder} holds a trial already, and nothing in it is overwritten. Type another run_dir."
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._worker, self._workers = worker, workers
        (folder / END).unlink(missing_ok=True)
        if goes_on:
            with (folder / STARTS).open("a", encoding="utf-8") as file:
                file.write(f"{time.time()}\n")

    def collections(
        self,
        tensors: Mapping[str, Iterable[str]],
        reductions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Say which tensors belong together.

        Args:
            tensors: their names, by collection.
            reductions: by collection, those that are kept instead of whole tensors; a collection without keeps whole
                ones.
        """
        path = self.folder / COLLECTIONS / "000000000" / f"{self._worker}_collections.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            name: {
                "name": name,
                "include_regex": [],
                "tensor_names": sorted(set(names)),
                "reduction_config": _reduction_config((reductions or {}).get(name, ())),
                "save_config": dict.fromkeys(MODES),
                "save_histogram": False,
            }
            for name, names in tensors.items()
        }
        write_json(path, {"collections": kept, "_meta": {"num_workers": self._workers}})

    def write(self, place: Place, tensors: Mapping[str, NDArray[Any]]) -> int:
        """Keep the tensors of one step; gives the bytes written.

        Raises:
            OSError: the disk is full or cannot be written; nothing of the step stays.
        """
        records = {name: encode(name, np.asarray(v), place) for name, v in tensors.items()}
        relative = event_file(place.step, self._worker)
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b"".join(records.values())
        _write(path, content)
        try:
            return len(content) + self._write_index(place, relative, records)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Say that nothing more will come."""
        write_text(self.folder / END, "end of training job")

    def _write_index(self, place: Place, relative: str, records: Mapping[str, bytes]) -> int:
        entries, at = [], 0
        for name, record in records.items():
            entries.append({"tensorname": name, "start_idx": at, "length": len(record)})
            at += len(record)
        path = self.folder / index_file(place.step, self._worker)
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = {"mode": place.mode, "mode_step": place.mode_step, "event_file_name": relative}
        index = {"meta": meta, "tensor_payload": entries, "shape_payload": []}
        content = json.dumps(index, separators=(",", ":")).encode()
        _write(path, content)
        return len(content)


def _write(path: Path, content: bytes) -> None:
    """A file that appears whole; it does not wait for the disk, as every step would."""
    scratch = path.with_suffix(f"{path.suffix}.tmp")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _reduction_config(reductions: Sequence[str]) -> dict[str, Any]:
    named = [f"{name}_norm" if name.endswith(NORMS) else name for name in reductions]
    return {
        "reductions": ",".join(named),
        "save_raw_tensor": not reductions,
        "save_shape": False,
    }
