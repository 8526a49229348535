"""Files that may be damaged, or somebody else's: whatever is wrong with one is a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What taking something apart can raise that has another shape than it should: zips that are encrypted or packed in a
# way of their own (RuntimeError), arrays whose headers are no Python (TokenError) or ask for terabytes (MemoryError).
DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(RuntimeError, MemoryError, TokenError),
)


def parse_json(text: str | bytes) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: it is none, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_json`, or no UTF-8.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def mapped_array(path: Path) -> NDArray[Any]:
    """The array of an .npy file, read-only and mapped from disk.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no array, or holds Python objects.
    """
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except OSError:
        raise
    except (
        Exception
    ) as error:  # numpy reads the header as Python's source, and that can raise much.
        raise ValueError(f"{path.name} is no array ({error})") from error
