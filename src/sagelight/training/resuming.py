"""Which checkpoint a run goes on from: the newest that is whole, and beside which the best one is there."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

LAST, BEST = "last.ckpt", "best.ckpt"


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from, if any, and why it is not the newest one."""

    checkpoint: Path | None
    why: str = ""


def newest_whole(folder: Path) -> Found:
    """Look for a checkpoint that leads to the end that nobody's kill would have changed.

    A folder that was copied while a training wrote it may hold half of a file, or a best.ckpt that is older than the
    one that last.ckpt knows of; a power cut may leave files without their content.

    Args:
        folder: of last.ckpt and best.ckpt.
    """
    last, best = folder / LAST, folder / BEST
    if not last.is_file() and not best.is_file():
        return Found(None)
    if is_whole(last):
        if not _is_behind(best, last):
            return Found(last)
        why = f"{BEST} is not the one that {LAST} was written with"
    else:
        why = f"{LAST} is {'cut off or damaged' if last.is_file() else 'missing'}"
    if is_whole(best):
        return Found(best, f"{why}, so training goes on from the best epoch")
    return Found(None, f"{why}, and no other checkpoint is whole, so training starts anew")


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is there to its last byte: a zip archive has its table at the end, and sums of its content.

    torch itself reads zeros that a power cut has left in the middle as if they were weights.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # A damaged archive can raise anything.
        return False


def belongs_to(best: Path, checkpoint: Path) -> bool:
    """Whether a best checkpoint is the one that another checkpoint knows of."""
    known = _of_best(checkpoint)
    return known.score is not None and is_whole(best) and _of_best(best).score == known.score


def _is_behind(best: Path, last: Path) -> bool:
    """Whether the best checkpoint is missing, damaged or older than the best that the last one knows of."""
    known = _of_best(last)
    if known.score is None:
        return False
    if not is_whole(best):
        return True
    found = _of_best(best)
    return found.score != known.score and found.step <= known.step


@dataclass(frozen=True)
class _Best:
    score: float | None
    step: int


def _of_best(path: Path) -> _Best:
    # With torch, which a study's own process never loads.
    from sagelight.training.checkpoints import read_checkpoint

    content = read_checkpoint(path, mapped=True)
    states = content.get("callbacks", {}).values()
    [score] = [
        s["best_model_score"] for s in states if "best_model_score" in s and s["monitor"]
    ] or [None]
    return _Best(None if score is None else float(score), int(content["global_step"]))
