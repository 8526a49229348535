"""What a training says of a failing disk, and what Lightning is not to say."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sagelight.errors import DISK_ERRORS, RunError
from sagelight.training.run import Run


@contextmanager
def explained(run: Run) -> Iterator[None]:
    """Turn a failing disk into an error that says what is safe."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        safe = run.folder / "checkpoints" / "last.ckpt"
        kept = f"{safe} is whole" if safe.is_file() else "no epoch was finished yet"
        raise RunError(
            f"{error.filename or run.folder} could not be written: {error.strerror}; {kept}. "
            "Make room, then repeat the same command to continue."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning from saying what the run has said already, or what it decided on purpose."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)


_EXPECTED_WARNINGS = (
    # data.num_workers was chosen, by the person or by `auto`.
    r".*does not have many workers.*",
    # Small data sets have few batches.
    r".*The number of training batches .* is smaller than the logging interval.*",
    # The folder holds last.ckpt, because the run is continued.
    r".*Checkpoint directory .* exists and is not empty.*",
    # A batch in which no photo could be read; UnreadablePhotos has named them.
    r".*`training_step` returned `None`.*",
    # resume=PATH goes on in a folder of its own.
    r".*The dirpath has changed from.*",
    # The validation figures are computed from all processes' photos before they are logged.
    r".*sync_dist=True.*",
    # Of a few validation photos, one of several processes may have none.
    r".*was called before the ``update`` method.*",
    # finetune=head keeps the backbone in eval mode.
    r".*module\(s\) in eval mode at the start of training.*",
    # Lightning 2.6 uses what torch 2.14 has deprecated.
    r".*isinstance\(treespec, LeafSpec\).*",
)
