"""The errors that a person can mend. The command line prints each as one message and exits with 2."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

# What a full disk says, one that may not be written, or one that is failing.
DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SagelightError(Exception):
    """Something in the person's hands is wrong: what happened, why, and what to type next."""

    def __init__(self, message: str = "") -> None:
        if message.startswith(f"Caught {type(self).__name__} in DataLoader worker process"):
            # PyTorch makes a loader process's error anew, with its traceback for a message; what it said comes last.
            message = message.rpartition(f"{type(self).__qualname__}: ")[2].rstrip()
        super().__init__(message)


class ConfigError(SagelightError):
    """An unknown key, a wrong type, or settings that exclude each other."""


class DataError(SagelightError):
    """Photos that cannot be trained on, or that would spoil the result."""


class WeightsError(SagelightError):
    """Pretrained weights that are missing or belong to another network."""


class RunError(SagelightError):
    """A run directory, checkpoint or machine that cannot be used."""


class BundleError(SagelightError):
    """A bundle that is missing, damaged, or of another format version."""


class ArchiveError(SagelightError):
    """An archive that is damaged, or that would do more than fill its folder."""


class CloudError(SagelightError):
    """Something that AWS, or the rehearsal of it, refuses or cannot do."""


class Interrupted(Exception):
    """Ctrl-C where the work goes on elsewhere: what goes on, and how to come back to it."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words most like `word`, best first, at most `count`."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.5)


def suggestion(word: str, known: Iterable[str]) -> str:
    """A sentence to append: ` Did you mean a, b or c?`, or nothing when no known word is near."""
    near = nearest(word, known)
    if not near:
        return ""
    listed = near[0] if len(near) == 1 else ", ".join(near[:-1]) + " or " + near[-1]
    return f" Did you mean {listed}?"


def disk_message(error: OSError) -> str:
    """What a disk has refused, and what to do about it."""
    where = error.filename2 or error.filename or "a file"
    way_on = "Make room there" if error.errno in _FULL else "Let it be written"
    return (
        f"{where} could not be read or written: {error.strerror}. "
        f"{way_on}, or type another folder, and repeat the same command."
    )


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its name when it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
