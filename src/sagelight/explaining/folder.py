"""A folder of results that appears whole under its name, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sagelight.errors import SagelightError
from sagelight.files import replace_folder, scratch_folder

INDEX = "explain.json"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder that takes the place of `folder` when the block ends well.

    Raises:
        SagelightError: `folder` holds something that no earlier `explain` has left there, or cannot be written.
    """
    folder = folder.resolve()
    refuse_foreign(folder)
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_folder(folder))
        except OSError as error:
            raise SagelightError(
                f"output={folder} cannot be written: {error.strerror}. Type output=DIR of a folder that can."
            ) from error
        yield scratch
        replace_folder(scratch, folder)


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything but what an earlier `explain` lists in its explain.json.

    Raises:
        SagelightError: see above; nothing of it is overwritten.
    """
    if folder.is_dir() and {*_files(folder)} <= {*_listed(folder)}:
        return
    if folder.exists():
        raise SagelightError(
            f"output={folder} holds other files, and nothing of them is overwritten. "
            "Type output=DIR of a new folder."
        )


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            yield path.relative_to(folder).as_posix()


def _listed(folder: Path) -> list[str]:
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return [str(name) for name in content["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
