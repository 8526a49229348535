"""What a fuzz target is: one way in from outside, and what it may answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from sagelight.errors import SagelightError

Change = Callable[[Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """A function of bytes.

    Attributes:
        run: one execution. It returns, or raises one of `refusals`; anything else is a crash.
        seeds: valid inputs, made by our own writers.
        change: changes that keep an input's structure, beside those of single bytes.
        most_bytes: of an input.
        seconds: of the processor that an execution may take; more is a crash.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...] = (SagelightError,)
    change: Change | None = None
    most_bytes: int = 4096
    seconds: float = 1.0

    def execute(self, data: bytes) -> None:
        """Run once; what leaves this function is a crash."""
        try:
            self.run(data)
        except self.refusals as refusal:
            said = str(refusal)
        else:
            return
        assert said.strip(), "a refusal says nothing"


@cache
def scratch() -> Path:
    """A folder of this process."""
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def written(name: str, content: bytes) -> Path:
    """A file of the scratch folder with this content."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
