"""A run's directory: made, found again, locked while written, finished."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sagelight.config.save import config_digest, saved_digest
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO
from sagelight.errors import RunError
from sagelight.files import sweep, takes_lock
from sagelight.training.resuming import BEST, newest_whole

FINISHED = "metrics.json"
CHECKPOINTS = "checkpoints"
_HELD: set[IO[str]] = set()


@dataclass(frozen=True)
class Run:
    """Where a run writes, and the checkpoint that it continues from, if any.

    Attributes:
        why: what is wrong with a newer checkpoint, in words; empty where there is none.
    """

    folder: Path
    checkpoint: Path | None = None
    why: str = ""

    @property
    def metrics(self) -> dict[str, float] | None:
        """The final figures; None as long as they are not there as a whole."""
        try:
            found: dict[str, float] = json.loads(
                (self.folder / FINISHED).read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            return None
        return found

    @property
    def finished(self) -> bool:
        return self.metrics is not None

    @property
    def best(self) -> Path:
        return self.folder / CHECKPOINTS / BEST


def choose_run(
    config: Config, folder_was_auto: bool, fingerprint: str, decided: Collection[str] = ()
) -> Run:
    """Decide where to write and what to continue, without writing anything.

    With `resume=auto` a run without a directory of its own continues the newest unfinished run of the same
    configuration and data; one with a directory continues what lies there.

    Args:
        decided: dotted names of settings that this machine has decided, in which the run to continue may differ.

    Raises:
        RunError: a directory that belongs to something else, or a checkpoint that does not exist.
    """
    folder = Path(config.run_dir)
    if config.resume not in (AUTO, "off"):
        checkpoint = Path(config.resume)
        if not checkpoint.is_file():
            raise RunError(
                f"resume={checkpoint}: no such checkpoint. Type resume=auto or resume=off."
            )
        _refuse_used(folder)
        return Run(folder, checkpoint)
    if config.resume == "off" or (folder_was_auto and not folder.parent.is_dir()):
        _refuse_used(folder)
        return Run(folder)
    if folder_was_auto:
        digest = config_digest(config, decided)
        for candidate in sorted(folder.parent.iterdir(), reverse=True):
            if _continues(candidate, digest, fingerprint, decided):
                return _found(candidate)
        return Run(folder)
    return _existing(config, folder, fingerprint, decided)


def _existing(config: Config, folder: Path, fingerprint: str, decided: Collection[str]) -> Run:
    if not (folder / "config.yaml").is_file():
        _refuse_used(folder)
        return Run(folder)
    if saved_digest(folder, decided) != config_digest(config, decided):
        raise RunError(
            f"run_dir={folder} holds a run of another configuration. Type another run_dir, or repeat that "
            f"run with --config-from {folder}/config.yaml."
        )
    if _fingerprint(folder) not in (None, fingerprint):
        raise RunError(
            f"run_dir={folder} was trained on other photos: data.root has changed since. "
            "Type another run_dir to train on what is there now."
        )
    return _found(folder)


def _continues(folder: Path, digest: str, fingerprint: str, decided: Collection[str]) -> bool:
    return (
        # What is soonest known first: there may be thousands of runs.
        not Run(folder).finished
        and _fingerprint(folder) == fingerprint
        and saved_digest(folder, decided) == digest
        and not _is_locked(folder)
    )


def _found(folder: Path) -> Run:
    if Run(folder).finished:
        return Run(folder)
    found = newest_whole(folder / CHECKPOINTS)
    return Run(folder, found.checkpoint, found.why)


def _fingerprint(folder: Path) -> str | None:
    try:
        content = json.loads((folder / "check.json").read_text(encoding="utf-8"))
        return str(content["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_used(folder: Path) -> None:
    # Hidden are the lock, and what a kill left of a file that was being written.
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise RunError(
            f"run_dir={folder} is not empty, and nothing in it is overwritten. Type another run_dir"
            + (", or resume=auto to continue it." if (folder / "config.yaml").is_file() else ".")
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create a run's directory and hold its lock.

    Raises:
        RunError: the directory cannot be written, or another process is writing it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(
            f"run_dir={folder} cannot be written: {error.strerror}. Type run_dir=DIR of a folder that can."
        ) from error
    with file:
        if not takes_lock(file):
            raise RunError(
                f"run_dir={folder}: another process is training there. Type another run_dir."
            )
        _HELD.add(file)
        _sweep(folder)
        try:
            yield
        finally:
            _HELD.discard(file)


def _sweep(folder: Path) -> None:
    """Remove what a killed process had half written."""
    for place in (folder, folder / CHECKPOINTS, folder / "evaluation", folder / "profiler"):
        sweep(place)
    # smdebug's layout has folders of its own, and names without a dot before them.
    for left in (folder / "debugger").rglob("*.tmp"):
        left.unlink()


def _let_go() -> None:
    """In a forked process: a loader process outlives a killed training for seconds, and must not hold its folder."""
    for file in _HELD:
        file.close()
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def _is_locked(folder: Path) -> bool:
    try:
        with (folder / ".lock").open("r") as file:
            return not takes_lock(file)
    except OSError:
        return False


def point_latest(folder: Path) -> None:
    """Make `runs/latest` lead to a run that lies below `runs/`."""
    runs = next((parent for parent in folder.parents if parent.name == "runs"), None)
    if runs is None:
        return
    scratch = runs / f".latest.{os.getpid()}"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(folder.resolve().relative_to(runs.resolve()), target_is_directory=True)
    scratch.replace(runs / "latest")
