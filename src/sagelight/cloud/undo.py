"""Taking back what has been made, when what should follow fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sagelight.cloud.client import explained
from sagelight.cloud.models import unless_gone
from sagelight.errors import CloudError, Interrupted

DOOR = "python launch/sagemaker.py"


@dataclass
class Undo:
    """What takes back what has been made, latest first.

    Attributes:
        costly: the endpoint that has been asked for, from when it may be paid.
    """

    steps: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    costly: str = ""

    def add(self, what: str, step: Callable[[], object]) -> None:
        self.steps.append((what, step))

    @contextmanager
    def on_error(self) -> Iterator[None]:
        """Take everything back when the block raises; on Ctrl-C in the one call that costs, nobody knows."""
        try:
            yield
        except BaseException as error:
            if self.costly and isinstance(error, KeyboardInterrupt):
                raise Interrupted(
                    f"{self.costly} may have been asked for. Type {DOOR} cleanup endpoint={self.costly} to be sure."
                ) from error
            self.run()
            raise

    def run(self) -> None:
        """Take everything back; what stays is named, with what removes it."""
        while self.steps:
            what, step = self.steps.pop()
            try:
                with explained(f"removing {what}"), unless_gone():
                    step()
            except CloudError as error:
                print(f"{what} stays: {error} Type {DOOR} cleanup all=true.", file=sys.stderr)
