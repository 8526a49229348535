"""Reads a trial in smdebug's layout: one of ours, or of smdebug's own hook, finished or still growing.

Source: smdebug 1.0.34 (core/index_reader, core/reductions, trials).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.debugging.records import decode, written_at
from sagelight.debugging.writer import COLLECTIONS, END, INDEX, STARTS
from sagelight.errors import DataError
from sagelight.parsing import DAMAGE, read_json

# Where a run keeps what its debugger leaves, and its trial therein.
FOLDER, TRIAL = "debugger", "trial"
REDUCED = "smdebug/reductions/"
# Rules ask for one reduction after the other of the same step; whole tensors are read one by one.
_KEPT_BYTES = 2**20
_INDEX_NAME = re.compile(r"(\d+)_(.+)\.json")


@dataclass(frozen=True)
class Spot:
    """Where one tensor of one step lies, and when it was written; `step` counts within its mode."""

    path: Path
    start: int
    length: int
    mode: str
    step: int
    global_step: int
    worker: str


@dataclass(frozen=True, order=True)
class Moment:
    """One step: over the whole run, and within its mode."""

    global_step: int
    mode: str
    step: int


@dataclass
class Trial:
    """The tensors of a training, by name, mode and step.

    Attributes:
        folder: of the trial.
        collections: names of tensors by collection, as the writer said.
        damaged: what could not be read, one sentence each; `refresh` adds to it, and so does `value`.
    """

    folder: Path
    collections: dict[str, set[str]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    _spots: dict[str, dict[str, dict[int, list[Spot]]]] = field(default_factory=dict)
    _stored: dict[str, set[str]] = field(default_factory=dict)
    _written: dict[Moment, dict[str, None]] = field(default_factory=dict)
    _known: set[Path] = field(default_factory=set)
    _stamps: dict[Path, int] = field(default_factory=dict)
    _settled: int = 0
    _whole_file: tuple[Path, bytes] = (Path(), b"")

    @classmethod
    def open(cls, folder: Path) -> Trial:
        """Read what is there.

        Raises:
            DataError: there is no trial.
        """
        if not (folder / INDEX).is_dir() and not (folder / COLLECTIONS).is_dir():
            raise DataError(
                f"trial={folder} is no trial: it has neither {INDEX}/ nor {COLLECTIONS}/. "
                "Type the folder that a run's debugger left, or the tensors of a SageMaker job."
            )
        trial = cls(folder)
        trial.refresh()
        return trial

    def refresh(self) -> int:
        """Read what has come since; gives how many steps, over all workers, are new."""
        new = 0
        for path in sorted((self.folder / COLLECTIONS).glob("*/*.json")):
            stamp = path.stat().st_mtime_ns
            if self._stamps.get(path) != stamp:
                self._stamps[path] = stamp
                self._read_collections(path)
        folders = sorted((self.folder / INDEX).glob("*"))
        for folder in folders[self._settled :]:
            for path in sorted(folder.glob("*.json")):
                if path not in self._known:
                    self._known.add(path)
                    new += self._read_index(path)
        # Of a trial that grows, only the last folders do.
        self._settled = max(0, len(folders) - 2)
        return new

    @property
    def ended(self) -> bool:
        """Whether the writer has said that nothing more comes."""
        return (self.folder / END).exists()

    def names(
        self,
        collection: str | None = None,
        regex: str | None = None,
        moment: Moment | None = None,
    ) -> list[str]:
        """Tensors that were written, whole or reduced: of a collection, matching a regular expression, in a step."""
        found = set(self._stored) if moment is None else set(self._written.get(moment, ()))
        if collection is not None:
            found = found & self.collections.get(collection, set())
        if regex is not None:
            pattern = re.compile(regex)
            found = {name for name in found if pattern.search(name)}
        return sorted(found)

    def steps(self, name: str, mode: str) -> list[int]:
        """In which steps of a mode a tensor was written, whole or in any reduction, in order."""
        found: set[int] = set()
        for stored in self._stored.get(name, ()):
            found |= self._spots[stored].get(mode, {}).keys()
        return sorted(found)

    def moments(self) -> list[Moment]:
        """Every step in which anything was written, in order."""
        return sorted(self._written)

    def written(self, moment: Moment) -> list[str]:
        """Tensors of a step in the order in which they were written; of weights, that is the network's."""
        return list(self._written.get(moment, ()))

    def seconds(self, moment: Moment) -> float | None:
        """When the first tensor of a step was written, in seconds since 1970; None where it cannot be read."""
        for name in self.names(moment=moment):
            for stored in self._stored[name]:
                for spot in self._spots[stored].get(moment.mode, {}).get(moment.step, ()):
                    try:
                        return written_at(self._record(spot))
                    except (OSError, DataError):
                        continue
        return None

    def continued(self, before: float, after: float) -> bool:
        """Whether the run was continued between two times, in seconds since 1970."""
        try:
            lines = (self.folder / STARTS).read_text(encoding="utf-8").split()
            return any(before < float(line) <= after for line in lines)
        except (OSError, ValueError):
            return False

    def kept(self, name: str, moment: Moment) -> NDArray[Any] | None:
        """What a step has of a tensor: the whole, or else every reduction of it that was written, as a vector."""
        whole = self._load(name, moment.mode, moment.step)
        if whole is not None:
            return whole
        reduced = [
            self._load(stored, moment.mode, moment.step)
            for stored in sorted(self._stored.get(name, set()) - {name})
        ]
        known = [float(value) for value in reduced if value is not None]
        return np.array(known) if known else None

    def value(self, name: str, mode: str, step: int, reduction: str = "") -> NDArray[Any] | None:
        """A tensor, or a reduction of it such as `mean` or `abs_mean`, from the first worker that has it.

        A reduction is what was written as such, or else computed from the whole tensor.

        Returns:
            None where it was not written, or cannot be read, which `damaged` then tells.
        """
        if reduction:
            stored = self._load(f"{REDUCED}{reduction}/{name}", mode, step)
            if stored is not None:
                return stored
        whole = self._load(name, mode, step)
        return reduce(whole, reduction) if reduction and whole is not None else whole

    def series(
        self, name: str, mode: str, reduction: str = ""
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Steps and values of a tensor, in order; what cannot be read is left out."""
        for step in self.steps(name, mode):
            value = self.value(name, mode, step, reduction)
            if value is not None:
                yield step, value

    def _load(self, name: str, mode: str, step: int) -> NDArray[Any] | None:
        for spot in self._spots.get(name, {}).get(mode, {}).get(step, ()):
            try:
                _, values = decode(self._record(spot))
            except (OSError, DataError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                self._tell(f"{name} in step {step} of {mode} cannot be read: {why}")
                continue
            return values
        return None

    def _record(self, spot: Spot) -> bytes:
        path, content = self._whole_file
        if path != spot.path:
            if spot.path.stat().st_size > _KEPT_BYTES:
                with spot.path.open("rb") as file:
                    file.seek(spot.start)
                    return file.read(spot.length)
            content = spot.path.read_bytes()
            self._whole_file = spot.path, content
        return content[spot.start : spot.start + spot.length]

    def _tell(self, sentence: str) -> None:
        if sentence not in self.damaged:
            self.damaged.append(sentence)

    def _read_collections(self, path: Path) -> None:
        try:
            read = read_json(path)["collections"]
            found = {name: set(each["tensor_names"]) for name, each in read.items()}
        except DAMAGE as error:
            self._tell(f"{path.name} cannot be read: {error}")
            return
        for name, tensors in found.items():
            self.collections.setdefault(name, set()).update(tensors)

    def _read_index(self, path: Path) -> int:
        named = _INDEX_NAME.fullmatch(path.name)
        if named is None:
            return 0
        global_step, worker = int(named[1]), named[2]
        try:
            read = read_json(path)
            meta = read["meta"]
            events = self._inside(str(meta["event_file_name"]))
            for entry in read.get("tensor_payload", ()):
                spot = Spot(
                    events,
                    int(entry["start_idx"]),
                    int(entry["length"]),
                    str(meta["mode"]).strip(),
                    int(meta["mode_step"]),
                    global_step,
                    worker,
                )
                self._add(entry["tensorname"], spot)
        except DAMAGE as error:
            self._tell(f"step {global_step} of {worker} cannot be read: {path.name}: {error}")
            return 0
        return 1

    def _inside(self, name: str) -> Path:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{name} leads out of the trial")
        return path

    def _add(self, name: str, spot: Spot) -> None:
        by_step = self._spots.setdefault(name, {}).setdefault(spot.mode, {})
        by_step.setdefault(spot.step, []).append(spot)
        self._stored.setdefault(_whole(name), set()).add(name)
        moment = Moment(spot.global_step, spot.mode, spot.step)
        self._written.setdefault(moment, {})[_whole(name)] = None


def reduce(values: NDArray[Any], reduction: str) -> NDArray[Any]:
    """A reduction by smdebug's name: min, max, mean, std, variance, sum, prod, l1, l2, each also as abs_...

    Of no values it is not a number.

    Raises:
        KeyError: there is no such reduction.
    """
    compute = _REDUCTIONS[reduction.removeprefix("abs_")]
    if not values.size:
        return np.asarray(np.nan)
    # Of numbers that are not finite nothing else is expected.
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64) if values.dtype.kind in "fiub" else values
        return np.asarray(compute(np.abs(wide) if reduction.startswith("abs_") else wide))


def reduced_name(name: str, reduction: str) -> str:
    """The name under which a reduction of a tensor is kept."""
    return f"{REDUCED}{reduction}/{name}"


def _whole(stored: str) -> str:
    if not stored.startswith(REDUCED):
        return stored
    return stored.removeprefix(REDUCED).partition("/")[2]


_REDUCTIONS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "min": np.min,
    "max": np.max,
    "mean": np.mean,
    "std": np.std,
    "variance": np.var,
    "sum": np.sum,
    "prod": np.prod,
    "l1": lambda values: np.linalg.norm(values.ravel(), 1),
    "l2": lambda values: np.linalg.norm(values.ravel(), 2),
}
REDUCTIONS = (*_REDUCTIONS, *(f"abs_{name}" for name in _REDUCTIONS))
